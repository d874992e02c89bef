// What web servers keep on the Redis door: sessions, rate limits, and rooms across processes. Stock packages, unpatched.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { before, test } from 'node:test';

import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter';
import { Ratelimit } from '@upstash/ratelimit';
import { Redis as Upstash } from '@upstash/redis';
import { RedisStore as Sessions } from 'connect-redis';
import express from 'express';
import { rateLimit } from 'express-rate-limit';
import session from 'express-session';
import { Redis } from 'ioredis';
import { RedisStore as Limits } from 'rate-limit-redis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { createClient } from 'redis';
import { Server } from 'socket.io';
import { io } from 'socket.io-client';

import { onPile, startBackend } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { undo, wholeFile } from './support/scope.mjs';

let backend;
const file = wholeFile();
const options = { skip: onPile && 'proves Mainstay, not the pile' };

before(async () => {
  if (onPile) return;
  backend = await startBackend({ data: folder(file) });
  undo(file, () => backend.stop());
});

async function nodeRedis(t) {
  const client = createClient({ url: backend.env.REDIS_URL });
  client.on('error', () => {});
  await client.connect();
  undo(t, () => client.close());
  return client;
}

function ioredis(t) {
  const client = new Redis(backend.env.REDIS_URL, { retryStrategy: null });
  undo(t, () => client.disconnect());
  return client;
}

/** Serves `app`; the address. */
async function serve(t, app) {
  const server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo(t, () => new Promise((resolve) => server.close(resolve)));
  undo(t, () => server.closeAllConnections());
  return { server, url: `http://127.0.0.1:${server.address().port}` };
}

test('connect-redis keeps sessions, and finds, touches and destroys them', options, async (t) => {
  const client = await nodeRedis(t);
  const store = new Sessions({ client, prefix: 'session:', ttl: 100 });
  const app = express();
  app.use(session({ store, secret: 'a secret', resave: false, saveUninitialized: false }));
  app.get('/count', (request, response) => {
    request.session.views = (request.session.views ?? 0) + 1;
    response.send(String(request.session.views));
  });
  app.get('/out', (request, response) => request.session.destroy(() => response.send('out')));
  const { url } = await serve(t, app);

  const first = await fetch(`${url}/count`);
  const cookie = first.headers.get('set-cookie').split(';')[0];
  assert.equal(await first.text(), '1');
  const again = async (path) => (await fetch(url + path, { headers: { cookie } })).text();
  assert.equal(await again('/count'), '2');
  const [key] = await client.keys('session:*');
  assert.ok((await client.ttl(key)) > 90);
  const ask = (name, ...given) => store[name](...given);
  assert.equal(await ask('length'), 1);
  assert.equal((await ask('all'))[0].views, 2);
  assert.deepEqual(await ask('ids'), [key.slice('session:'.length)]);
  assert.equal(await again('/out'), 'out');
  assert.equal(await client.exists(key), 0);
  assert.equal(await again('/count'), '1');
  await ask('clear');
  assert.equal(await ask('length'), 0);
});

test('rate-limit-redis counts for express-rate-limit', options, async (t) => {
  const client = await nodeRedis(t);
  const store = new Limits({ sendCommand: (...command) => client.sendCommand(command), prefix: 'rl:' });
  const app = express();
  app.use(rateLimit({ windowMs: 1_000_000, limit: 2, standardHeaders: true, store, keyGenerator: () => 'one' }));
  app.get('/', (_request, response) => response.send('in'));
  const { url } = await serve(t, app);
  const answers = [];
  for (let n = 0; n < 3; n++) answers.push(await fetch(url));
  assert.deepEqual(answers.map((answer) => answer.status), [200, 200, 429]);
  assert.equal(answers[1].headers.get('ratelimit-remaining'), '0');
  await store.resetKey('one');
  assert.equal((await fetch(url)).status, 200);
});

for (const [name, connect] of [['ioredis', ioredis], ['node-redis', nodeRedis]]) {
  test(`rate-limiter-flexible limits, blocks, penalises and rewards on ${name}`, options, async (t) => {
    const storeClient = await connect(t);
    const limiter = new RateLimiterRedis({
      storeClient,
      useRedisPackage: name === 'node-redis',
      keyPrefix: `flexible:${name}`,
      points: 5,
      duration: 1000,
      blockDuration: 2000,
    });
    const first = await limiter.consume('ada');
    assert.deepEqual([first.consumedPoints, first.remainingPoints, first.isFirstInDuration], [1, 4, true]);
    assert.equal((await limiter.consume('ada', 2)).remainingPoints, 2);
    assert.equal((await limiter.penalty('ada', 1)).consumedPoints, 4);
    assert.equal((await limiter.reward('ada', 1)).consumedPoints, 3);
    const refused = await limiter.consume('ada', 3).then(assert.fail, (refused) => refused);
    assert.ok(refused.msBeforeNext > 1_000_000, `${refused}`);
    assert.equal((await limiter.get('ada')).remainingPoints, 0);
    assert.equal(await limiter.delete('ada'), true);
    assert.equal(await limiter.get('ada'), null);
    const many = await Promise.allSettled(Array.from({ length: 20 }, () => limiter.consume('bob')));
    assert.equal(many.filter((one) => one.status === 'fulfilled').length, 5);
  });
}

test('@upstash/ratelimit limits over HTTP with each of its algorithms', options, async () => {
  const redis = new Upstash({
    url: backend.env.UPSTASH_REDIS_REST_URL,
    token: backend.env.UPSTASH_REDIS_REST_TOKEN,
    retry: false,
    enableTelemetry: false,
  });
  const algorithms = {
    fixed: Ratelimit.fixedWindow(3, '1000 s'),
    sliding: Ratelimit.slidingWindow(3, '1000 s'),
    bucket: Ratelimit.tokenBucket(1, '1000 s', 3),
  };
  for (const [name, limiter] of Object.entries(algorithms)) {
    const limit = new Ratelimit({ redis, limiter, prefix: `upstash:${name}`, ephemeralCache: false });
    const answers = [];
    for (let n = 0; n < 4; n++) answers.push((await limit.limit('ada')).success);
    assert.deepEqual(answers, [true, true, true, false], name);
    assert.equal((await limit.getRemaining('ada')).remaining, 0, name);
    await limit.resetUsedTokens('ada');
    assert.equal((await limit.limit('ada')).success, true, name);
  }
});

for (const [name, adapter] of [['PUBLISH', createAdapter], ['SPUBLISH', createShardedAdapter]]) {
  test(`socket.io reaches rooms of another process through ${name}`, options, async (t) => {
    const start = async () => {
      const [publisher, subscriber] = [await nodeRedis(t), await nodeRedis(t)];
      const server = new Server({ adapter: adapter(publisher, subscriber) });
      const { server: http, url } = await serve(t, undefined);
      server.attach(http);
      undo(t, () => server.close());
      return { server, url };
    };
    const [one, other] = [await start(), await start()];
    const joined = new Promise((resolve) => {
      other.server.on('connection', async (socket) => {
        await socket.join('room');
        resolve();
      });
    });
    const client = io(other.url, { transports: ['websocket'], reconnection: false });
    undo(t, () => client.disconnect());
    await joined;
    const heard = once(client, 'news');
    // Processes find each other by asking, so the room is there once the other one has told of it.
    while ((await one.server.in('room').fetchSockets()).length === 0);
    one.server.to('room').emit('news', { text: 'hello' }, Buffer.from('bytes'));
    const [news, bytes] = await heard;
    assert.deepEqual([news, Buffer.from(bytes).toString()], [{ text: 'hello' }, 'bytes']);
    one.server.in('room').disconnectSockets();
    await once(client, 'disconnect');
  });
}
