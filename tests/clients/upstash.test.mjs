// The Redis client for places without sockets, with only its address and token changed.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { Redis } from '@upstash/redis';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo, wholeFile } from './support/scope.mjs';

let server;
let redis;
const file = wholeFile();
const data = folder(file);
const options = { skip: onPile && 'proves Mainstay, not the pile' };

async function begin() {
  server = await startMainstay({ data });
  const { UPSTASH_REDIS_REST_URL: url, UPSTASH_REDIS_REST_TOKEN: token } = server.env;
  redis = new Redis({ url, token, retry: false, enableTelemetry: false });
}

before(async () => {
  if (onPile) return;
  await begin();
  undo(file, () => server.stop());
});

test('values of every kind come back as they went', options, async () => {
  assert.equal(await redis.ping(), 'PONG');
  const session = { user: 7, name: 'Zoë \u{1f600}', tags: ['a', 'b'], ok: true, nothing: null };
  assert.equal(await redis.set('session', session, { ex: 60 }), 'OK');
  assert.deepEqual(await redis.get('session'), session);
  assert.equal(await redis.get('missing'), null);
  assert.equal(await redis.set('ok', 'OK'), 'OK');
  assert.deepEqual([await redis.get('ok'), await redis.mget('ok', 'missing')], ['OK', ['OK', null]]);
  assert.equal(await redis.incrby('n', 41), 41);
  assert.equal(await redis.hset('h', { a: 1, b: { c: 2 } }), 2);
  assert.deepEqual(await redis.hgetall('h'), { a: 1, b: { c: 2 } });
  await redis.zadd('z', { score: 1, member: 'one' }, { score: 2.5, member: 'two' });
  assert.deepEqual(await redis.zrange('z', 0, -1, { withScores: true }), ['one', 1, 'two', 2.5]);
  const [cursor, keys] = await redis.scan(0, { match: 'se*', count: 1000 });
  assert.deepEqual([cursor, keys], ['0', ['session']]);
  const ttl = await redis.ttl('session');
  assert.ok(ttl > 0 && ttl <= 60);
});

test('pipelines answer one by one, transactions as a whole', options, async () => {
  const pipeline = redis.pipeline();
  for (let at = 0; at < 500; at += 1) pipeline.incr('count');
  assert.deepEqual(await pipeline.exec(), Array.from({ length: 500 }, (_, at) => at + 1));
  const many = await Promise.all(Array.from({ length: 50 }, () => redis.incr('count')));
  assert.equal(new Set(many).size, 50);
  const [, wrong] = await redis.pipeline().set('s', 'x').lpush('s', 'y').exec({ keepErrors: true });
  assert.match(wrong.error, /^WRONGTYPE/);
  assert.deepEqual(await redis.multi().set('a', 1).incr('a').get('a').exec(), ['OK', 2, 2]);
});

test('errors are told, and a wrong token opens nothing', options, async () => {
  await assert.rejects(redis.incr('session'), /ERR value is not an integer or out of range/);
  await assert.rejects(redis.exec(['SUBSCRIBE', 'x']), /ERR Command is not available/);
  const stranger = new Redis({ url: server.env.UPSTASH_REDIS_REST_URL, token: 'wrong', retry: false });
  await assert.rejects(stranger.get('session'), /WRONGPASS/);
});

test('what was answered is there after a kill', options, async () => {
  await redis.set('kept', 'yes');
  await server.kill();
  await begin();
  assert.equal(await redis.get('kept'), 'yes');
});
