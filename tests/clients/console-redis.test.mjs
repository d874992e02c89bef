// The Redis door in the console: keys by prefix, a key of each type looked at, changed and deleted, clients, slow commands
// and rate limits. Whatever keys and values hold, it is text.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Redis } from 'ioredis';

import { startChromium } from './support/chromium.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const EVIL = `"><script>document.title='owned'</script><img src=x onerror="document.title='owned'">`;
const ACCOUNT = { email: 'ada@example.com', password: 'correct horse battery staple' };

async function start(t, options = { javaScriptEnabled: false }) {
  const extra = { MAINSTAY_ADMIN_EMAIL: ACCOUNT.email, MAINSTAY_ADMIN_PASSWORD: ACCOUNT.password };
  const server = await startMainstay({ data: folder(t), extra });
  undo(t, () => server.stop());
  const redis = new Redis(server.env.REDIS_URL);
  undo(t, () => redis.quit());
  const page = await (await startChromium(t, server, options)).newPage();
  const trouble = [];
  page.on('console', (message) => message.type() === 'error' && trouble.push(message.text()));
  page.on('pageerror', (error) => trouble.push(String(error)));
  const origin = `http://127.0.0.1:${server.ports.console}`;
  await page.goto(`${origin}/login`);
  await page.getByLabel('E-mail address').fill(ACCOUNT.email);
  await page.getByLabel('Password').fill(ACCOUNT.password);
  await page.getByRole('button', { name: 'Log in' }).click();
  return { server, redis, page, origin, trouble };
}

/** The page of a key. */
function address(origin, key, db = 0) {
  return `${origin}/kv/key?db=${db}&key=${Buffer.from(key).toString('base64url')}`;
}

/** The table whose first column is headed so: its rows as texts. */
async function rows(page, heading) {
  const table = page.locator('table', { has: page.getByRole('columnheader', { name: heading, exact: true }) });
  return (await table.locator('tbody tr').all()).length ? table.locator('tbody tr').allInnerTexts() : [];
}

test('keys are found by the parts of their names, the largest first', async (t) => {
  const { redis, page, origin } = await start(t);
  const many = redis.pipeline();
  for (let number = 0; number < 3000; number += 1) many.set(`session:${number}`, 'x'.repeat(100));
  for (let number = 0; number < 10; number += 1) many.hset(`shop:cart:${number}`, 'item', number);
  many.set('plain', '1', 'EX', 3600);
  await many.exec();
  await page.goto(`${origin}/dashboard`);
  await page.getByRole('link', { name: 'Redis', exact: true }).first().click();
  const groups = await rows(page, 'Begins with');
  assert.match(groups[0], /session:[^]*3,000/);
  assert.match(groups[1], /shop:[^]*10/);
  const [plain] = await rows(page, 'Key');
  assert.match(plain, /plain[^]*string[^]*in 59 min/);
  await page.getByRole('link', { name: 'shop:' }).click();
  await page.getByRole('link', { name: 'cart:' }).click();
  assert.equal((await rows(page, 'Key')).length, 10);
  await page.getByLabel('Begins with').fill('session:299');
  await page.getByRole('button', { name: 'Look' }).click();
  assert.equal((await rows(page, 'Key')).length, 11);
  await page.goto(`${origin}/kv?db=16`);
  assert.equal(await page.innerText('h1'), 'Not found');
});

test('a page looks at a part of many keys, and the next one goes on', async (t) => {
  const { redis, page, origin } = await start(t);
  const all = 130_000;
  await redis.eval("for n = 1, ARGV[1] do redis.call('SET', 'number:' .. n, '') end", 0, all);
  await page.goto(`${origin}/kv`);
  assert.match(await page.innerText('.note.warn'), /These figures are of 100,\d{3}\./);
  const here = async () => Number((await rows(page, 'Begins with'))[0].match(/number:\s+([\d,]+)/)[1].replaceAll(',', ''));
  const first = await here();
  await page.getByRole('link', { name: 'Go on' }).click();
  const rest = await here();
  assert.ok(first >= 100_000 && first < 105_000 && first + rest === all, `${first} and ${rest}`);
  assert.equal(await page.getByRole('link', { name: 'Go on' }).count(), 0);
  await page.getByRole('link', { name: 'From the beginning' }).click();
  assert.equal(await here(), first);
  await page.goto(`${origin}/kv?prefix=number%3A12345`);
  assert.ok((await rows(page, 'Key')).length <= 11);
});

test('a key of each type is looked at, changed and deleted', async (t) => {
  const { redis, page, origin } = await start(t);
  await redis.set('note', 'first\nsecond', 'EX', 1000);
  await redis.hset('user', { name: 'Ada', [EVIL]: EVIL });
  await redis.rpush('queue', 'a', 'b', 'a');
  await redis.sadd('tags', 'red', 'green');
  await redis.zadd('scores', 1.5, 'ada', 2, 'grace');
  await redis.xadd('log', '1-1', 'event', 'start', 'who', 'ada');
  await redis.set('bytes', Buffer.from([0, 255, 1]));

  await page.goto(address(origin, 'note'));
  assert.equal(await page.getByLabel('Value').inputValue(), 'first\nsecond');
  await page.getByLabel('Value').fill('third\nfourth');
  await page.getByRole('button', { name: 'Save' }).click();
  assert.equal(await redis.get('note'), 'third\nfourth');
  assert.ok((await redis.ttl('note')) > 900, 'the expiry stays');
  await page.getByLabel('Goes after seconds').fill('60');
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  assert.ok((await redis.ttl('note')) <= 60);
  await page.getByLabel('Goes after seconds').fill('');
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  assert.equal(await redis.ttl('note'), -1);
  await page.getByLabel('Goes after seconds').fill('soon');
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  assert.match(await page.getByRole('alert').innerText(), /whole seconds/);

  await page.goto(address(origin, 'user'));
  assert.ok((await page.innerText('main')).includes(EVIL));
  await page.getByLabel('Field').fill('name');
  await page.locator('form', { has: page.getByLabel('Field') }).getByLabel('Value').fill('Grace');
  await page.locator('form', { has: page.getByLabel('Field') }).getByRole('button').click();
  assert.equal(await redis.hget('user', 'name'), 'Grace');
  await page.locator('tr', { hasText: 'onerror' }).getByRole('button').click();
  assert.deepEqual(await redis.hkeys('user'), ['name']);

  await page.goto(address(origin, 'queue'));
  await page.locator('tr', { hasText: 'b' }).getByRole('button').click();
  await page.getByLabel('Element').fill('c');
  await page.getByRole('button', { name: 'Add' }).click();
  assert.deepEqual(await redis.lrange('queue', 0, -1), ['a', 'a', 'c']);

  await page.goto(address(origin, 'tags'));
  await page.locator('tr', { hasText: 'green' }).getByRole('button').click();
  assert.deepEqual(await redis.smembers('tags'), ['red']);

  await page.goto(address(origin, 'scores'));
  assert.match(await page.innerText('tbody'), /1\.5[^]*ada[^]*2[^]*grace/);
  await page.getByLabel('Score').fill('9');
  await page.getByLabel('Element').fill('ada');
  await page.getByRole('button', { name: 'Add' }).click();
  assert.equal(await redis.zscore('scores', 'ada'), '9');
  await page.getByLabel('Score').fill('many');
  await page.getByRole('button', { name: 'Add' }).click();
  assert.match(await page.getByRole('alert').innerText(), /not a valid float/);

  await page.goto(address(origin, 'log'));
  assert.match(await page.innerText('tbody'), /1-1[^]*event: start[^]*who: ada/);
  await page.goto(address(origin, 'bytes'));
  assert.match(await page.innerText('pre'), /\\xff/);

  await page.goto(address(origin, 'tags'));
  await page.getByRole('button', { name: 'Remove' }).click();
  assert.equal(await redis.exists('tags'), 0, 'without its last element it is gone');
  assert.equal(new URL(page.url()).pathname, '/kv');
  await page.goto(address(origin, 'user'));
  await page.getByRole('link', { name: 'Delete…' }).click();
  await page.getByRole('button', { name: 'Delete it' }).click();
  assert.equal(await redis.exists('user'), 0);
  assert.equal((await page.goto(address(origin, 'user'))).status(), 404);
  await page.goto(`${origin}/dashboard`);
  assert.match(await page.innerText('main'), /kv\.deleted[^]*database 0: user/);
});

test('large elements are shown by their beginning and their length, and a page of them stays small', async (t) => {
  const { redis, page, origin } = await start(t);
  const large = 'x'.repeat(3 << 20);
  await redis.rpush('queue', 'small', large, 'last');
  await redis.hset('user', { name: 'Ada', picture: large });
  const many = redis.pipeline();
  for (let number = 0; number < 300; number += 1) many.sadd('tags', `${number}:${'y'.repeat(20_000)}`);
  await many.exec();
  await page.goto(address(origin, 'queue'));
  const [small, big] = await rows(page, 'Place');
  assert.match(small, /small/);
  assert.match(big, /x… \(3 MiB in all\)/);
  assert.equal(await page.getByRole('button', { name: 'Remove' }).count(), 2, 'what does not fit into a form has none');
  await page.goto(address(origin, 'user'));
  assert.match((await rows(page, 'Field')).join(), /picture[^]*x… \(3 MiB in all\)/);
  const answer = await page.goto(address(origin, 'tags'));
  const size = (await answer.body()).length;
  assert.ok(size < 4 << 20, `${size} bytes`);
  assert.match(await page.innerText('main'), /1\d\d of 300 are shown/);
});

test('what keys and values hold does not act', async (t) => {
  const { redis, page, origin, trouble } = await start(t, {});
  await redis.set(`${EVIL}:x`, EVIL);
  await redis.set(EVIL, EVIL);
  await redis.client('SETNAME', 'evil<b>');
  for (const path of ['/kv', `/kv?prefix=${encodeURIComponent(`${EVIL}:`)}`, '/kv/clients', '/limits']) {
    assert.equal((await page.goto(origin + path)).status(), 200);
  }
  await page.goto(address(origin, EVIL));
  assert.equal(await page.getByLabel('Value').inputValue(), EVIL);
  assert.notEqual(await page.title(), 'owned');
  assert.deepEqual(trouble, []);
});

test('clients, slow commands and refused attempts are seen', async (t) => {
  const { server, redis, page, origin } = await start(t);
  await redis.client('SETNAME', 'worker-7');
  await redis.config('SET', 'slowlog-log-slower-than', '0');
  await redis.set('slow:one', 'x');
  await page.goto(`${origin}/kv/clients`);
  assert.match(await page.innerText('main'), /worker-7[^]*ioredis/);
  assert.match(await page.innerText('main'), /set slow:one x/);
  const ask = () =>
    fetch(`${server.env.MAINSTAY_URL}/v1/limits/login/check`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.env.MAINSTAY_API_TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({ ip: '192.0.2.1', email: 'ada@example.com' }),
    });
  for (let attempt = 0; attempt < 6; attempt += 1) await ask();
  await page.goto(`${origin}/limits`);
  assert.match(await page.locator('tr', { hasText: 'login' }).first().innerText(), /5 in 15m[^]*5[^]*1/);
  assert.match(await page.locator('section', { hasText: 'Refused of late' }).innerText(), /login[^]*192\.0\.2\.1/);
});
