// A keyspace larger than its memory: kill -9 under load, and clients that ask for what is on disk.

import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { Redis } from 'ioredis';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { Ledger, content, work } from './support/ledger.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';
import { redisWorker } from './support/workers.mjs';

const options = { skip: onPile && 'proves Mainstay, not the pile' };
const extra = { MAINSTAY_KV__MAX_MEMORY: '1MiB', MAINSTAY_EDGE__HTTP: '', MAINSTAY_EDGE__HTTPS: '' };
const ROUNDS = 2;
const KEYS = 300;
const SIZE = 8 << 10;

function open(t, server) {
  const redis = new Redis(server.env.REDIS_URL, { retryStrategy: null });
  redis.on('error', () => {});
  undo(t, () => redis.disconnect());
  return redis;
}

const figure = async (redis, name) => Number((await redis.info('memory')).match(new RegExp(`${name}:(\\d+)`))[1]);
const value = (key) => content(`cold:${key}`, SIZE).toString('base64');

/** Far more than fits into memory. */
async function fill(redis) {
  for (let key = 0; key < KEYS; key += 1) await redis.set(`cold:${key}`, value(key));
  assert.ok((await figure(redis, 'cold_keys')) > KEYS / 2);
}

test('a killed server whose values are mostly on disk has everything it acknowledged', options, async (t) => {
  const data = folder(t);
  let server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  await fill(open(t, server));
  const ledger = new Ledger(join(folder(t), 'ledger'));
  undo(t, () => ledger.close());
  const everybody = new Map();
  for (let round = 0; round < ROUNDS; round += 1) {
    const current = () => server;
    const workers = new Map();
    for (let at = 0; at < 3; at += 1) workers.set(`r${round}w${at}`, redisWorker(`r${round}w${at}`, current));
    const running = [...workers].map(async ([name, worker]) => {
      const tried = await work(ledger, name, (number) => worker.step(number));
      everybody.set(name, { worker, tried });
    });
    // Somebody reads cold values all the while, so that values leave memory and come back under the writers.
    const reader = open(t, server);
    let reading = true;
    const read = (async () => {
      for (let key = 0; reading; key = (key + 7) % KEYS) {
        const found = await reader.get(`cold:${key}`).catch(() => undefined);
        if (found === undefined) return;
        assert.equal(found, value(key));
      }
    })();
    await ledger.after(150, 'r');
    await server.kill();
    reading = false;
    await Promise.all([...running, read]);
    for (const { worker } of everybody.values()) worker.close();
    server = await startMainstay({ data, extra });
    const acknowledged = ledger.read();
    for (const [name, { worker, tried }] of everybody) await worker.check(acknowledged.get(name) ?? 0, tried);
    const redis = open(t, server);
    for (let key = 0; key < KEYS; key += 1) assert.equal(await redis.get(`cold:${key}`), value(key), `cold:${key}`);
  }
});

test('who waits for values on disk holds nobody up, is refused what is not theirs, and may leave', options, async (t) => {
  const server = await startMainstay({ data: folder(t), extra });
  undo(t, () => server.stop());
  const redis = open(t, server);
  await fill(redis);
  const url = new URL(server.env.REDIS_URL);
  await redis.acl('SETUSER', 'guest', 'on', '>secret', '~own:*', '+@all');
  const guest = new Redis({ host: url.hostname, port: url.port, username: 'guest', password: 'secret', retryStrategy: null });
  undo(t, () => guest.disconnect());
  await assert.rejects(guest.get('cold:0'), /NOPERM/);

  // Everything on disk is asked for at once; another client is served in between, and in its own order.
  const all = Array.from({ length: KEYS }, (_, key) => `cold:${key}`);
  const asking = open(t, server);
  const waiting = Promise.all([asking.mget(...all), asking.set('behind', '1'), asking.get('behind')]);
  const answers = await Promise.all(Array.from({ length: 100 }, () => redis.incr('meanwhile')));
  assert.deepEqual(answers.at(-1), 100);
  const [values, set, behind] = await waiting;
  assert.deepEqual([set, behind], ['OK', '1']);
  assert.ok(values.every((found, key) => found === value(key)));

  // Clients that ask and go: what was read for them is dropped, and the server serves on.
  for (let round = 0; round < 8; round += 1) {
    const socket = createConnection(Number(url.port), url.hostname);
    const password = decodeURIComponent(url.password);
    socket.write(`AUTH ${password}\r\nMGET ${all.join(' ')}\r\n`);
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
  }
  assert.equal(await redis.get('cold:1'), value(1));
  assert.equal(await figure(redis, 'cold_failed_reads'), 0);
});
