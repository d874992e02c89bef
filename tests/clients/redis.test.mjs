// The Redis clients applications have, with their stock handshakes and nothing switched off.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { Redis as Redis6 } from 'ioredis';
import { Redis as Redis5 } from 'ioredis5';
import { createClient } from 'redis';

import { startBackend } from './support/backend.mjs';
import { inbox } from './support/browse.mjs';
import { folder } from './support/folder.mjs';
import { clients, python } from './support/paths.mjs';
import { output } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';

let backend;
const file = wholeFile();

before(async () => {
  backend = await startBackend({ data: folder(file) });
  undo(file, () => backend.stop());
});

for (const [name, Redis] of Object.entries({ 'ioredis 5': Redis5, 'ioredis 6': Redis6 })) {
  test(`${name} connects, is ready, and does what applications do`, async (t) => {
    const redis = new Redis(backend.env.REDIS_URL, { connectionName: 'app', db: 3, retryStrategy: null });
    undo(t, () => redis.disconnect());
    await once(redis, 'ready');
    assert.equal(await redis.client('GETNAME'), 'app');
    await redis.flushdb();

    assert.equal(await redis.set('k', 'v', 'PX', 60_000), 'OK');
    assert.equal((await redis.getBuffer('k')).toString(), 'v');
    assert.deepEqual(await redis.mget('k', 'missing'), ['v', null]);
    await redis.hset('h', { a: 1, b: '2' });
    assert.deepEqual(await redis.hgetall('h'), { a: '1', b: '2' });

    const replies = await Promise.all(Array.from({ length: 1000 }, () => redis.incr('n')));
    assert.deepEqual(replies, Array.from({ length: 1000 }, (_, at) => at + 1));
    const [first, second] = await redis.multi().incr('n').lpush('k', 'x').exec();
    assert.deepEqual(first, [null, 1001]);
    assert.match(second[0].message, /^WRONGTYPE/);

    const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    await redis.set(bytes, bytes);
    assert.deepEqual(await redis.getBuffer(bytes), bytes);
    await assert.rejects(redis.call('NOSUCHCOMMAND'), /unknown command/);

    const found = [];
    for await (const keys of redis.scanStream({ match: '?', count: 2 })) found.push(...keys);
    assert.deepEqual([...new Set(found)].sort(), ['h', 'k', 'n']);
  });

  test(`${name} hears what is published and pops what is pushed`, async (t) => {
    const redis = new Redis(backend.env.REDIS_URL, { retryStrategy: null });
    const listener = redis.duplicate();
    undo(t, () => [redis, listener].forEach((client) => client.disconnect()));
    await listener.subscribe('news');
    await listener.psubscribe('new*');
    const messages = Promise.all([once(listener, 'message'), once(listener, 'pmessage')]);
    assert.equal(await redis.publish('news', 'hello'), 2);
    assert.deepEqual(await messages, [['news', 'hello'], ['new*', 'news', 'hello']]);

    await listener.unsubscribe('news');
    await listener.punsubscribe('new*');
    const popped = listener.blpop('queue', 10);
    await redis.rpush('queue', 'job');
    assert.deepEqual(await popped, ['queue', 'job']);
  });

  test(`${name} is told when its password is wrong`, async (t) => {
    const url = new URL(backend.env.REDIS_URL);
    url.password = 'wrong';
    const redis = new Redis(url.href, { retryStrategy: null, lazyConnect: true });
    undo(t, () => redis.disconnect());
    redis.on('error', () => {});
    await assert.rejects(async () => {
      await redis.connect();
      await redis.ping();
    }, /WRONGPASS|NOAUTH|Connection is closed/);
  });
}

for (const RESP of [2, 3]) {
  test(`node-redis connects and does what applications do over RESP${RESP}`, async (t) => {
    const redis = createClient({ url: backend.env.REDIS_URL, RESP, name: 'app', socket: { reconnectStrategy: false } });
    redis.on('error', () => {});
    await redis.connect();
    undo(t, () => redis.destroy());
    await redis.flushDb();
    await redis.set('k', 'v', { EX: 60 });
    assert.equal(await redis.get('k'), 'v');
    await redis.hSet('h', { a: '1' });
    assert.deepEqual({ ...(await redis.hGetAll('h')) }, { a: '1' });
    await redis.zAdd('z', [{ score: 1.5, value: 'one' }]);
    assert.deepEqual(await redis.zRangeWithScores('z', 0, -1), [{ score: 1.5, value: 'one' }]);
    assert.deepEqual(await redis.multi().set('n', '1').incr('n').exec(), ['OK', 2]);

    const listener = redis.duplicate();
    listener.on('error', () => {});
    await listener.connect();
    undo(t, () => listener.destroy());
    const heard = inbox();
    await listener.subscribe('news', heard.put);
    await redis.publish('news', 'x');
    assert.equal(await heard.take(), 'x');
  });
}

test('redis-py connects and does what applications do', async () => {
  const env = { ...process.env, ...backend.env };
  assert.match(await output(python, [join(clients, 'python/redis_roundtrip.py')], { env }), /ok/);
});

test('redis-cli asks and is answered', async () => {
  const { hostname, port, password } = new URL(backend.env.REDIS_URL);
  const env = { ...process.env, REDISCLI_AUTH: password };
  const cli = (...words) => output('redis-cli', ['-h', hostname, '-p', port, ...words], { env });
  assert.equal(await cli('-3', 'SET', 'cli', 'value'), 'OK\n');
  assert.equal(await cli('GET', 'cli'), 'value\n');
  assert.match(await cli('INFO'), /redis_version:\d/);
});
