// Answers of an app kept by the edge: a real app of Node behind it, asked by curl's kind of client, what the app saw counted.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { createServer, request as ask } from 'node:http';
import { connect } from 'node:http2';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { chromium } from 'playwright-core';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'the edge is Mainstay only';

/**
 * An edge that keeps the answers of `app`, a handler that is told the number of each request for its path. `edge` and `site`
 * are more settings; `again(how)` ends the server in that way (`stop` or `kill`) and starts it again.
 */
async function kept(t, app, extra = {}, { edge = '', site = '' } = {}) {
  const seen = new Map();
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://app');
    const number = (seen.get(pathname) ?? 0) + 1;
    seen.set(pathname, number);
    app(request, response, number);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo(t, () => {
    server.close();
    server.closeAllConnections();
  });
  const [data, here] = [folder(t), folder(t)];
  const file = join(here, 'mainstay.toml');
  writeFileSync(
    file,
    `[edge]\nredirect_https = false\n${edge}
[[edge.sites]]\nhosts = ["a.example", "b.example"]\nupstream = "127.0.0.1:${server.address().port}"\ncache_answers = true\n${site}`,
  );
  const begin = () => startMainstay({ data, extra, flags: ['--config', file] });
  let mainstay = await begin();
  const again = async (how, between = () => {}) => {
    await mainstay[how]();
    between();
    mainstay = await begin();
  };
  undo(t, () => mainstay.stop());
  const get = (path, { host = 'a.example', method = 'GET', headers = {} } = {}) =>
    new Promise((resolve, reject) => {
      const options = { port: mainstay.ports.http, host: '127.0.0.1', path, method, headers: { host, ...headers } };
      const asked = ask({ ...options, agent: false }, async (response) => {
        let body = '';
        let whole = true;
        try {
          for await (const part of response.setEncoding('utf8')) body += part;
        } catch {
          whole = false;
        }
        const cache = response.headers['cache-status']?.replace('mainstay; ', '');
        resolve({ status: response.statusCode, headers: response.headers, body, whole, cache });
      });
      asked.on('error', reject);
      asked.end();
    });
  return { mainstay, get, again, count: (path) => seen.get(path) ?? 0 };
}

test('an answer is asked for once, ages, and differs by Vary and host', { skip }, async (t) => {
  const { get, count } = await kept(t, (request, response, number) => {
    response.setHeader('cache-control', 'max-age=60');
    response.setHeader('vary', 'accept-language');
    response.end(`${request.headers.host} ${request.headers['accept-language']} ${number}`);
  });
  const first = await get('/x');
  assert.equal(first.cache, 'fwd=miss; stored');
  await pause(1_100);
  const second = await get('/x');
  assert.equal(second.cache, 'hit');
  assert.equal(second.body, first.body);
  assert.ok(Number(second.headers.age) >= 1, second.headers.age);
  assert.equal((await get('/x', { headers: { 'accept-language': 'de' } })).cache, 'fwd=vary-miss; stored');
  assert.equal((await get('/x', { headers: { 'accept-language': 'de' } })).body, 'a.example de 2');
  const other = await get('/x', { host: 'b.example' });
  assert.match(other.body, /^b\.example/);
  assert.equal(count('/x'), 3);
  const head = await get('/x', { method: 'HEAD' });
  assert.equal(head.headers['content-length'], String(first.body.length));
  const part = await get('/x', { headers: { range: 'bytes=0-8' } });
  assert.deepEqual([part.status, part.body], [206, 'a.example']);
});

test('what is stale is validated by its ETag, and a client that has it gets 304', { skip }, async (t) => {
  const { get, count } = await kept(t, (request, response, number) => {
    response.setHeader('cache-control', 'max-age=1');
    response.setHeader('etag', '"v1"');
    if (request.headers['if-none-match'] === '"v1"') response.writeHead(304).end();
    else response.end(`body ${number}`);
  });
  await get('/x');
  await pause(2_100);
  const validated = await get('/x');
  assert.deepEqual([validated.cache, validated.body], ['fwd=stale; fwd-status=304', 'body 1']);
  const known = await get('/x', { headers: { 'if-none-match': '"v1"' } });
  assert.deepEqual([known.status, known.body], [304, '']);
  assert.equal(count('/x'), 2);
});

test('twenty at once are one for the app, also when the first one leaves', { skip }, async (t) => {
  let let_on;
  const open = new Promise((resolve) => {
    let_on = resolve;
  });
  const { mainstay, get, count } = await kept(t, async (_request, response, number) => {
    await open;
    response.setHeader('cache-control', 'max-age=60');
    response.end(`body ${number}`);
  });
  const leaves = ask({ port: mainstay.ports.http, host: '127.0.0.1', path: '/x', headers: { host: 'a.example' } });
  leaves.on('error', () => {});
  leaves.end();
  while (count('/x') === 0) await pause(5);
  leaves.destroy();
  const all = Array.from({ length: 20 }, () => get('/x'));
  await pause(300);
  let_on();
  for (const answer of await Promise.all(all)) assert.equal(answer.body, 'body 1');
  assert.equal(count('/x'), 1);
});

test('cookies, private answers and broken ones are never kept', { skip }, async (t) => {
  const { get, count } = await kept(t, (request, response, number) => {
    const path = request.url.slice(1);
    const control = path === 'private' ? 'private, max-age=60' : 'public, max-age=60';
    const headers = { 'cache-control': control };
    if (path === 'cookie') headers['set-cookie'] = `session=${number}`;
    if (path === 'length') headers['content-length'] = '100';
    response.writeHead(200, headers);
    if (path === 'length' || path === 'chunks') {
      response.write(`broken ${number}`);
      setTimeout(() => response.destroy(), 50);
    } else response.end(`body ${number}`);
  });
  for (const path of ['/cookie', '/private', '/length', '/chunks']) {
    for (const number of [1, 2]) {
      const answer = await get(path);
      assert.notEqual(answer.cache, 'hit', path);
      assert.match(answer.body, new RegExp(` ${number}$`), path);
      assert.equal(answer.whole, !['/length', '/chunks'].includes(path), path);
    }
    assert.equal(count(path), 2, path);
  }
});

test('an old answer serves while the app is asked, and in place of its errors', { skip }, async (t) => {
  const { get, count } = await kept(t, (request, response, number) => {
    if (request.url === '/error' && number > 1) return response.writeHead(500).end();
    response.setHeader('cache-control', 'max-age=1, stale-while-revalidate=60, stale-if-error=60');
    if (request.url === '/error') response.setHeader('cache-control', 'max-age=1, stale-if-error=60');
    setTimeout(() => response.end(`body ${number}`), number > 1 ? 500 : 0);
  });
  await get('/x');
  await get('/error');
  await pause(2_100);
  const began = Date.now();
  assert.equal((await get('/x')).body, 'body 1');
  assert.ok(Date.now() - began < 400, 'it did not wait for the app');
  while ((await get('/x')).body === 'body 1') await pause(20);
  assert.equal(count('/x'), 2);
  assert.equal((await get('/error')).body, 'body 1');
  assert.equal(count('/error'), 2);
});

test('a change, a command and the API take kept answers away', { skip }, async (t) => {
  const { mainstay, get } = await kept(t, (_request, response, number) => {
    response.setHeader('cache-control', 'max-age=60');
    response.end(`body ${number}`);
  });
  const data = mainstay.data;
  const fill = async () => {
    for (const path of ['/a/1', '/b']) await get(path);
    assert.equal((await get('/b')).cache, 'hit');
  };
  await fill();
  assert.equal((await get('/b', { method: 'POST' })).cache, 'fwd=method');
  assert.equal((await get('/b')).cache, 'fwd=miss; stored');
  const purged = await command(data, ['cache', 'purge', '--host', 'a.example', '--prefix', '/a/']);
  assert.deepEqual([purged.code, purged.stdout], [0, '1 kept answer is gone\n']);
  assert.equal((await get('/a/1')).cache, 'fwd=miss; stored');
  assert.notEqual((await command(data, ['cache', 'purge'])).code, 0);
  await fill();
  const answer = await fetch(`http://127.0.0.1:${mainstay.ports.console}/v1/cache/purge`, {
    method: 'POST',
    headers: { authorization: `Bearer ${mainstay.env.MAINSTAY_API_TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify({ all: true }),
  });
  assert.deepEqual(await answer.json(), { purged: 2 });
  assert.equal((await get('/b')).cache, 'fwd=miss; stored');
});

test('the console shows what is kept, and takes it away', { skip }, async (t) => {
  const account = { MAINSTAY_ADMIN_EMAIL: 'ada@example.com', MAINSTAY_ADMIN_PASSWORD: 'correct horse battery staple' };
  const { mainstay, get } = await kept(
    t,
    (_request, response) => {
      response.setHeader('cache-control', 'max-age=60');
      response.end('body');
    },
    account,
  );
  for (const path of ['/a', '/a', '/b', '/a']) await get(path);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
  undo(t, () => browser.close());
  const page = await browser.newPage();
  const base = mainstay.env.MAINSTAY_URL;
  await page.goto(`${base}/login`);
  await page.fill('input[name="email"]', account.MAINSTAY_ADMIN_EMAIL);
  await page.fill('input[name="password"]', account.MAINSTAY_ADMIN_PASSWORD);
  await page.click('main form button:not([name="theme"])');
  await page.waitForURL((url) => url.pathname !== '/login');
  await page.goto(`${base}/sites/show?name=${encodeURIComponent('a.example/')}`);
  const facts = await page.textContent('section[aria-labelledby="kept"]');
  assert.match(facts, /Answers2Bytes.*Answered from them50.*of 4 requests/);
  await page.click('section[aria-labelledby="kept"] button');
  await page.waitForLoadState();
  assert.match(await page.textContent('main'), /2 answers are gone\./);
  assert.equal((await get('/a')).cache, 'fwd=miss; stored');
});

test('a site with a log-in is not given a cache', { skip }, async (t) => {
  const here = folder(t);
  const file = join(here, 'mainstay.toml');
  writeFileSync(
    file,
    '[[edge.sites]]\nupstream = "127.0.0.1:1"\ncache_answers = true\nauth_url = "http://127.0.0.1:2"\n',
  );
  const checked = await command(folder(t), ['--config', file, 'config', 'check']);
  assert.notEqual(checked.code, 0);
  assert.match(checked.stderr + checked.stdout, /edge\.sites\.cache_answers.*log-in/);
});

const LARGE = 3 << 20;
// Larger than a sixteenth of the memory (32 MiB), smaller than what may wait for the disk.
const onDisk = { edge: 'cache_disk = "64 MiB"', site: 'cache_max_object = "16 MiB"\n' };

/** An app whose answers are large and begin with their number. */
const large = (_request, response, number) => {
  response.setHeader('cache-control', 'max-age=600');
  response.setHeader('etag', `"${number}"`);
  response.end(String(number).padStart(8, '0') + 'x'.repeat(LARGE - 8));
};

/** Asks until the answer comes from disk. */
async function untilOnDisk(get, path) {
  for (;;) {
    const answer = await get(path);
    if (answer.cache === 'hit; detail=disk') return answer;
  }
}

/** Changes one byte of the only file in `folder`. */
function flip(folder, at) {
  const names = readdirSync(folder);
  assert.equal(names.length, 1);
  const file = openSync(join(folder, names[0]), 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  byte[0] ^= 1;
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
}

test('a large answer lies on disk, and is there after a restart', { skip }, async (t) => {
  const { get, again, count } = await kept(t, large, {}, onDisk);
  const first = await get('/x');
  assert.deepEqual([first.cache, first.body.length], ['fwd=miss; stored', LARGE]);
  const hit = await untilOnDisk(get, '/x');
  assert.equal(hit.body, first.body);
  const asked = count('/x');
  await pause(1_100);
  await again('stop');
  const back = await untilOnDisk(get, '/x');
  assert.ok(back.body.endsWith('x') && back.body.length === LARGE);
  const part = await get('/x', { headers: { range: 'bytes=100000-100003' } });
  assert.deepEqual([part.status, part.body], [206, 'xxxx']);
  const known = await get('/x', { headers: { 'if-none-match': back.headers.etag } });
  assert.deepEqual([known.status, known.body, known.cache], [304, '', 'hit; detail=disk']);
  // A start that had not looked through its files yet may have had the app asked once.
  if (count('/x') === asked) assert.ok(Number(back.headers.age) >= 1, back.headers.age);
});

test('after a kill an answer is whole or not there, and a changed byte is never served', { skip }, async (t) => {
  const { mainstay, get, again, count } = await kept(t, large, {}, onDisk);
  const files = join(mainstay.data, 'edge', 'cache');
  const whole = (answer, what) => {
    assert.equal(answer.body.length, LARGE, what);
    assert.match(answer.body, /^\d{8}x+$/, what);
  };
  await get('/x');
  await again('kill');
  whole(await get('/x'), 'killed at once');
  await untilOnDisk(get, '/x');
  await again('kill');
  whole(await get('/x'), 'killed later');
  await untilOnDisk(get, '/x');
  for (const at of [10, 150, 5_000]) {
    await again('kill', () => flip(files, at));
    const before = count('/x');
    const answer = await get('/x');
    whole(answer, `changed at ${at}`);
    assert.deepEqual([answer.cache, count('/x')], ['fwd=miss; stored', before + 1], `changed at ${at}`);
    await untilOnDisk(get, '/x');
  }
  // Far behind the beginning: what is good comes, then it breaks off; nothing wrong is sent, and then it is gone.
  await again('stop', () => flip(files, 2 << 20));
  let broken = await get('/x');
  while (broken.cache !== 'hit; detail=disk' && broken.whole) {
    // Not looked at yet: the app was asked, and the file is another.
    await untilOnDisk(get, '/x');
    await again('stop', () => flip(files, 2 << 20));
    broken = await get('/x');
  }
  assert.ok(!broken.whole && broken.body.length < LARGE && /^\d{8}x*$/.test(broken.body));
  const next = await get('/x');
  whole(next);
  assert.equal(next.cache, 'fwd=miss; stored');
});

test('a purge takes files away, for good', { skip }, async (t) => {
  const { mainstay, get, again } = await kept(t, large, {}, onDisk);
  const files = join(mainstay.data, 'edge', 'cache');
  for (const path of ['/a', '/b']) {
    await get(path);
    await untilOnDisk(get, path);
  }
  assert.equal(readdirSync(files).length, 2);
  const purged = await command(mainstay.data, ['cache', 'purge', '--prefix', '/a']);
  assert.deepEqual([purged.code, purged.stdout], [0, '1 kept answer is gone\n']);
  assert.equal(readdirSync(files).length, 1);
  await again('kill');
  await untilOnDisk(get, '/b');
  assert.equal((await get('/a')).cache, 'fwd=miss; stored');
});

test('nobody waits for a large answer at the pace of another client', { skip }, async (t) => {
  const size = 900_000;
  const seen = [];
  let again;
  const twice = new Promise((resolve) => (again = resolve));
  const app = createServer((request, response) => {
    seen.push(request.headers['x-who']);
    if (seen.length === 2) again();
    response.writeHead(200, { 'cache-control': 'max-age=60', 'content-length': size }).end('x'.repeat(size));
  });
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  undo(t, () => (app.close(), app.closeAllConnections()));
  const [data, here] = [folder(t), folder(t)];
  const file = join(here, 'mainstay.toml');
  writeFileSync(
    file,
    `[edge]\nredirect_https = false\ncache_memory = "8 MiB"\ncache_disk = "64 MiB"\n[[edge.sites]]\nhosts = ["a.example"]\nupstream = "127.0.0.1:${app.address().port}"\ncache_answers = true\ncache_max_object = "4 MiB"\n`,
  );
  const reserve = { MAINSTAY_OBJECTS__RESERVE: '0', MAINSTAY_OBJECTS__RESERVE_PERCENT: '0' };
  const server = await startMainstay({ data, extra: reserve, flags: ['--config', file] });
  undo(t, () => server.stop());
  // By HTTP/2 a client says how much it takes: this one no more than it starts with, until it reads.
  const session = connect(`http://127.0.0.1:${server.ports.http}`);
  undo(t, () => session.destroy());
  const slow = session.request({ ':path': '/x', ':authority': 'a.example', 'x-who': 'slow' });
  await once(slow, 'response');
  const second = ask({ port: server.ports.http, host: '127.0.0.1', path: '/x', headers: { host: 'a.example', 'x-who': 'second' }, agent: false });
  undo(t, () => second.destroy());
  second.on('error', () => {}).end();
  await twice;
  assert.deepEqual(seen, ['slow', 'slow'], 'once more for those who wait, before the second asks itself');
  let left = size;
  for await (const chunk of slow) left -= chunk.length;
  assert.equal(left, 0, 'who is slow gets all of it, too');
});
