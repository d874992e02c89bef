// The whole server replaced while it serves: `mainstay upgrade` under load, with WebSockets open, and what becomes of
// programs that cannot take over.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request as begin } from 'node:http';
import https from 'node:https';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';

import { Client as Minio } from 'minio';
import Redis from 'ioredis';
import { WebSocketServer } from 'ws';

import { onPile } from './support/backend.mjs';
import { Http1, Http2 } from './support/browse.mjs';
import { folder } from './support/folder.mjs';
import { command, settings, startMainstay } from './support/mainstay.mjs';
import { mainstay } from './support/paths.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'an upgrade is Mainstay only';
const pause = () => new Promise((next) => setTimeout(next, 20));

/** An app that answers after a moment, and echoes over WebSockets. */
async function app(t) {
  const server = createServer((request, response) => setTimeout(() => response.end(`app ${request.url}`), 5));
  server.keepAliveTimeout = 60_000;
  new WebSocketServer({ server }).on('connection', (socket) => socket.on('message', (data) => socket.send(`echo ${data}`)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo(t, () => (server.close(), server.closeAllConnections()));
  return `127.0.0.1:${server.address().port}`;
}

/** Whether `pid` runs; one that has ended counts as gone even while nobody has taken note of its end. */
const isAlive = (pid) => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

/** A server with an app behind it, or with `settings` of the edge; whoever serves at the end is stopped with it. */
async function served(t, settings = '') {
  const [data, here] = [folder(t), folder(t)];
  const file = join(here, 'mainstay.toml');
  writeFileSync(file, `[edge]\nredirect_https = false\n${settings}`);
  const server = await startMainstay({ data, app: settings ? undefined : await app(t), flags: ['--config', file] });
  const ask = (words) => command(data, words);
  const status = async () => JSON.parse((await ask(['status', '--json'])).stdout);
  undo(t, async () => {
    const { pid } = await status();
    process.kill(pid, 'SIGTERM');
    while (isAlive(pid)) await pause();
    if (process.env.UPGRADE_LOG) console.log(server.lines.join('\n'));
    await server.stop();
  });
  return { data, here, file, server, ask, status };
}

/** Does `step` again and again until it is stopped or `t` ends; `stop()` gives how often it was done, and what failed. */
function again(t, step) {
  let going = true;
  undo(t, () => (going = false));
  let done = 0;
  let longest = 0;
  const failures = [];
  const ended = (async () => {
    while (going) {
      try {
        const began = performance.now();
        await step(done);
        longest = Math.max(longest, Math.round(performance.now() - began));
        done += 1;
      } catch (error) {
        failures.push(error.stack ?? String(error));
      }
    }
  })();
  return {
    count: () => done,
    stop: async () => {
      going = false;
      await ended;
      return { done, failures, longest };
    },
  };
}

/** Loads on every door, all at once. */
function load(t, server) {
  const good = (answer, text) => {
    assert.equal(answer.status, 200, `${answer.status} ${answer.text()}`);
    if (text) assert.equal(answer.text(), text);
  };
  const kept = new Http1(server);
  const fresh = new Http1(server);
  fresh.agent = new https.Agent({ keepAlive: false, ca: server.certificate, lookup: kept.agent.options.lookup });
  const storage = new Http1(server, 's3.localhost');
  let streams;
  const session = async () => {
    // After GOAWAY a client goes elsewhere with what it asks next.
    if (!streams || streams.session.closed || streams.session.destroyed) {
      streams = await new Http2(server).connect();
      streams.session.on('error', () => {});
    }
    return streams;
  };
  undo(t, () => [kept, fresh, storage, streams].forEach((client) => client?.close()));
  const loads = {
    kept: again(t, async (at) => good(await kept.request('GET', `/kept/${at}`), `app /kept/${at}`)),
    fresh: again(t, async (at) => good(await fresh.request('GET', `/fresh/${at}`), `app /fresh/${at}`)),
    streams: again(t, async (at) => good(await (await session()).request('GET', `/h2/${at}`), `app /h2/${at}`)),
    door: again(t, async () => good(await storage.request('GET', '/minio/health/live'))),
  };
  return async () => {
    const outcome = {};
    for (const [name, load] of Object.entries(loads)) outcome[name] = await load.stop();
    for (const [name, { done, failures }] of Object.entries(outcome)) {
      assert.deepEqual(failures.slice(0, 3), [], `${name}: ${failures.length} of ${done} failed`);
      assert.ok(done > 5, `${name} was asked ${done} times only`);
    }
    return Object.fromEntries(Object.entries(outcome).map(([name, { done, longest }]) => [name, `${done}, longest ${longest} ms`]));
  };
}

/** Writes to Redis and S3 as programs do that try again, and tells at last whether all that was acknowledged is there. */
async function writers(t, { env, ports }) {
  const redis = new Redis(env.REDIS_URL, { maxRetriesPerRequest: null, retryStrategy: () => 50 });
  redis.on('error', () => {});
  undo(t, () => redis.disconnect());
  const { MINIO_ACCESS_KEY: accessKey, MINIO_SECRET_KEY: secretKey } = env;
  const minio = new Minio({ endPoint: '127.0.0.1', port: ports.s3, useSSL: false, accessKey, secretKey });
  await minio.makeBucket('upgrade');
  const [sets, puts] = [again(t, (at) => redis.set(`key:${at}`, `value ${at}`)), again(t, (at) => minio.putObject('upgrade', `object-${at}`, `bytes ${at}`))];
  return async () => {
    const [{ done: set }, { done: put }] = [await sets.stop(), await puts.stop()];
    assert.ok(set > 5 && put > 5, `${set} values and ${put} objects`);
    for (let at = 0; at < set; at += 1) assert.equal(await redis.get(`key:${at}`), `value ${at}`);
    for (let at = 0; at < put; at += 1) {
      const chunks = [];
      for await (const chunk of await minio.getObject('upgrade', `object-${at}`)) chunks.push(chunk);
      assert.equal(Buffer.concat(chunks).toString(), `bytes ${at}`);
    }
    return { set, put };
  };
}

test('two upgrades under load: no request fails, WebSockets stay open, what was acknowledged is there', { skip }, async (t) => {
  const { data, here, server, ask, status } = await served(t);
  const client = new Http1(server);
  const socket = await client.webSocket('/socket');
  let closed = false;
  socket.on('close', () => (closed = true));
  undo(t, () => socket.terminate());
  const echoes = async (text) => {
    socket.send(text);
    assert.equal(await socket.inbox.take(), `echo ${text}`);
  };
  await echoes('before');
  const copy = join(here, 'mainstay-next');
  copyFileSync(mainstay, copy);
  const whole = await writers(t, server);
  const stop = load(t, server);
  let before = await status();
  for (const words of [['upgrade', '--program', copy, '--json'], ['upgrade', '--json']]) {
    const upgraded = await ask(words);
    assert.equal(upgraded.code, 0, upgraded.stderr + server.lines.slice(-20).join('\n'));
    const now = await status();
    assert.equal(now.pid, JSON.parse(upgraded.stdout).pid);
    assert.notEqual(now.pid, before.pid);
    assert.ok(now.ready);
    assert.deepEqual(now.doors, before.doors, 'doors listen where they did');
    await echoes(`after ${words[1]}`);
    before = now;
  }
  const asked = await stop();
  const written = await whole();
  await echoes('at last');
  assert.ok(!closed && isAlive(server.pid), 'the first process carries the WebSocket');
  const metrics = await (await fetch(`http://127.0.0.1:${server.ports.console}/metrics`)).text();
  assert.match(metrics, /mainstay_server_upgrades_total\{outcome="done"\} 2/);
  t.diagnostic(JSON.stringify({ ...asked, ...written }));
  socket.close();
  await once(socket, 'close');
  while (isAlive(server.pid)) await pause();
  assert.ok(existsSync(join(data, 'redis.sock')), 'its sockets are the last one\u2019s');
});

test('downloads go on that began before, however long they take', { skip }, async (t) => {
  const { server, ask } = await served(t, '[server]\ndrain = "1s"\n');
  const { MINIO_ACCESS_KEY: accessKey, MINIO_SECRET_KEY: secretKey, AWS_REGION: region } = server.env;
  const client = (endPoint, port) => new Minio({ endPoint, port, useSSL: false, accessKey, secretKey, region });
  const direct = client('127.0.0.1', server.ports.s3);
  await direct.makeBucket('long');
  // More than all that lies between the two when nobody reads.
  const bytes = randomBytes(8 << 20);
  await direct.putObject('long', 'object', bytes);
  const begun = async (named, port) => {
    const { pathname, search, host } = new URL(await named.presignedGetObject('long', 'object', 3_600));
    const options = { host: '127.0.0.1', port, path: pathname + search, headers: { host }, agent: false };
    const answer = await new Promise((resolve, reject) => begin(options, resolve).on('error', reject).end());
    assert.equal(answer.statusCode, 200);
    return answer;
  };
  const first = await begun(direct, server.ports.s3);
  // The same door, on the edge.
  const second = await begun(client('s3.localhost', server.ports.http), server.ports.http);
  const upgraded = await ask(['upgrade']);
  assert.equal(upgraded.code, 0, upgraded.stderr);
  const read = async (answer) => {
    const chunks = [];
    for await (const chunk of answer) chunks.push(chunk);
    assert.ok(Buffer.concat(chunks).equals(bytes), 'not one byte is missing');
  };
  await Promise.all([first, second].map(read));
  const again = await direct.getObject('long', 'object');
  again.destroy();
});

test('programs and settings that cannot take over change nothing', { skip }, async (t) => {
  const { here, file, server, ask, status } = await served(t);
  const { pid } = await status();
  const stop = load(t, server);
  const script = (name, body) => {
    const path = join(here, name);
    writeFileSync(path, `#!/bin/sh\n${body}\n`);
    chmodSync(path, 0o755);
    return path;
  };
  const refused = async (program, why) => {
    const { code, stderr } = await ask(['upgrade', '--program', program]);
    assert.equal(code, 1);
    assert.match(stderr, why);
    assert.equal((await status()).pid, pid);
  };
  await refused(script('broken', 'echo it is broken; exit 1'), /it is broken/);
  await refused(script('other', 'echo nginx 1.0'), /is no Mainstay/);
  await refused(script('late', 'case $1 in version) echo mainstay 9.9.9;; config) exit 0;; *) exit 3;; esac'), /does not start/);
  await refused(script('mute', 'case $1 in version) echo mainstay 9.9.9;; *) exit 0;; esac'), /without a word|cannot be handed over/);
  await refused(join(here, 'gone'), /gone/);
  writeFileSync(file, '[edge\n');
  await refused(mainstay, /cannot use the settings/);
  writeFileSync(file, '[edge]\nredirect_https = false\n');
  await stop();
  const metrics = await (await fetch(`http://127.0.0.1:${server.ports.console}/metrics`)).text();
  assert.match(metrics, /mainstay_server_upgrades_total\{outcome="failed"\} 6/);
});

test('a new process that is killed while it starts: the program before goes on, and can be upgraded', { skip }, async (t) => {
  const { data, server, ask, status } = await served(t);
  const whole = await writers(t, server);
  const stop = load(t, server);
  const { pid } = await status();
  const upgrade = spawn(mainstay, ['upgrade'], { env: settings(data), stdio: ['ignore', 'ignore', 'pipe'] });
  const told = [];
  createInterface({ input: upgrade.stderr }).on('line', (line) => {
    told.push(line);
    const found = /^process (\d+) waits to take over/.exec(line);
    if (found) process.kill(Number(found[1]), 'SIGKILL');
  });
  const [code] = await once(upgrade, 'close');
  assert.equal(code, 1, told.join('\n'));
  assert.match(told.join('\n'), /did not take over.*goes on as process/);
  const back = await status();
  assert.ok(back.ready && back.pid !== pid);
  assert.equal((await ask(['upgrade'])).code, 0);
  const asked = await stop();
  t.diagnostic(JSON.stringify({ ...asked, ...(await whole()) }));
});

/** Asks an edge by HTTP, over one connection that is kept as long as it goes; `request()` tells whether it was there before. */
function connection(t, port) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  undo(t, () => agent.destroy());
  const request = (path, { method = 'GET', client = '203.0.113.1', headers = {} } = {}) =>
    new Promise((resolve, reject) => {
      const named = { host: 'site.example', 'x-forwarded-for': client, ...headers };
      const asked = begin({ port, host: '127.0.0.1', path, method, agent, headers: named }, async (response) => {
        try {
          let body = '';
          for await (const part of response.setEncoding('utf8')) body += part;
          const { statusCode: status, headers } = response;
          resolve({ status, body, cache: headers['cache-status'] ?? '', reused: asked.reusedSocket });
        } catch (error) {
          reject(error);
        }
      });
      asked.on('error', reject).end();
    });
  return request;
}

test('what the process before learns on connections it still has, the new one knows', { skip }, async (t) => {
  let number = 0;
  const site = createServer((request, response) => {
    number += 1;
    response.writeHead(request.url === '/gone' ? 404 : 200, { 'content-type': 'text/html', 'cache-control': 'max-age=3600' });
    response.end(`<!doctype html><title>${number}</title>`);
  });
  site.listen(0, '127.0.0.1');
  await once(site, 'listening');
  undo(t, () => (site.close(), site.closeAllConnections()));
  const { server, ask } = await served(
    t,
    `trusted_proxies = ["127.0.0.1"]
cache_disk = "64 MiB"
[[edge.bans.jails]]\nname = "once"\nstatus = ["404"]\nmax_retry = 1
[[edge.sites]]\nhosts = ["site.example"]\nupstream = "127.0.0.1:${site.address().port}"\ncache_answers = true\nanalytics = true\n`,
  );
  const [banned, changes, looks] = [0, 1, 2].map(() => connection(t, server.ports.http));
  for (const request of [banned, changes, looks]) assert.equal((await request('/')).status, 200);
  assert.equal((await ask(['upgrade'])).code, 0);
  /** The answer of the new process, once it is as `wanted`. */
  const until = async (wanted, ...words) => {
    for (;;) {
      const answer = await connection(t, server.ports.http)(...words);
      if (wanted(answer)) return answer;
      await pause();
    }
  };
  const before = async (request, ...words) => {
    const answer = await request(...words);
    assert.ok(answer.reused, 'it is the connection from before');
    return answer;
  };
  assert.equal((await before(banned, '/gone', { client: '203.0.113.7' })).status, 404);
  await until(({ status }) => status === 403, '/', { client: '203.0.113.7' });
  assert.match((await ask(['bans'])).stdout, /^203\.0\.113\.7 +once /m);

  const kept = await until(({ cache }) => cache.includes('hit'), '/');
  assert.equal((await before(changes, '/', { method: 'POST' })).status, 200);
  await until(({ body }) => body !== kept.body, '/');

  const person = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0', 'sec-fetch-dest': 'document' };
  assert.equal((await before(looks, '/seen-there', { headers: person })).status, 200);
  for (;;) {
    const { code, stdout, stderr } = await ask(['analytics', 'site.example', '--json']);
    assert.equal(code, 0, stderr);
    if (stdout.includes('/seen-there')) break;
    await pause();
  }
});
