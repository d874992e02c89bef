// `mainstay import redis` from a redis-server: every type, lifetimes, databases, while it is written to, interrupted.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { Redis } from 'ioredis';

import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { mainstay } from './support/paths.mjs';
import { freePort, run, start } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const PASSWORD = 'the-source-s-password';

/** A redis-server and a Mainstay, a client of each, and `imported(...flags)`, which runs the command. */
async function both(t, extra) {
  const [port, data, dir] = [await freePort(), folder(t), folder(t)];
  const options = ['--port', port, '--bind', '127.0.0.1', '--requirepass', PASSWORD, '--save', '', '--dir', dir].map(String);
  const redis = await start('redis-server', options, { ready: (line) => line.includes('Ready to accept connections') });
  undo(t, () => redis.stop());
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const [from, to] = [
    new Redis({ port, password: PASSWORD, retryStrategy: null }),
    new Redis(server.env.REDIS_URL, { retryStrategy: null }),
  ];
  undo(t, () => [from, to].forEach((client) => client.disconnect()));
  const env = { ...process.env, REDISCLI_AUTH: PASSWORD };
  const args = (flags) => ['--data', data, 'import', 'redis', ...flags];
  const imported = async (...flags) => {
    const done = await run(mainstay, args(flags), { env });
    assert.ok(!`${done.stdout}${done.stderr}`.includes(PASSWORD), 'the password is not shown');
    return { ...done, ...(done.stdout.startsWith('{') ? JSON.parse(done.stdout) : {}) };
  };
  return { port, data, dir, from, to, env, args, imported, url: `redis://127.0.0.1:${port}` };
}

/** A value of each type and each form Redis packs it in, with and without lifetimes, in three databases. */
async function fill(redis) {
  const many = Array.from({ length: 700 }, (_, at) => `element-${at}`);
  const far = Date.now() + 86_400_000;
  for (const db of [0, 3, 15]) {
    await redis.select(db);
    await redis.set('text', `in ${db}`);
    await redis.set('number', 12345);
    await redis.set(Buffer.from([0, 255, 13, 10]), Buffer.from([0, 255, 13, 10]));
    await redis.set('long', 'abc'.repeat(5000));
    await redis.set('ends', 'v', 'PXAT', far + db);
    await redis.rpush('list', 'a', 'b', '3', 'x'.repeat(9000));
    await redis.rpush('long list', ...many);
    await redis.sadd('integers', 1, 70_000, -5);
    await redis.sadd('set', 'a', 'b');
    await redis.sadd('big set', ...many);
    await redis.hset('hash', { a: 1, b: 'two' });
    await redis.hset('big hash', Object.fromEntries(many.map((name) => [name, name])));
    await redis.zadd('zset', 1.5, 'a', '-inf', 'b', 3, 'c');
    await redis.zadd('big zset', ...many.flatMap((name, at) => [at / 3, name]));
    for (let at = 1; at < 300; at += 1) await redis.xadd('stream', `${at}-0`, 'field', at, 'other', 'x');
    await redis.xgroup('CREATE', 'stream', 'group', '0');
    await redis.xreadgroup('GROUP', 'group', 'me', 'COUNT', 5, 'STREAMS', 'stream', '>');
    await redis.xdel('stream', '7-0');
    await redis.expireat('hash', Math.floor(far / 1000));
  }
  await redis.select(0);
}

/** What is in a database, in a form that is the same on both sides. */
async function contents(redis, db) {
  await redis.select(db);
  const found = {};
  const names = await redis.keysBuffer('*');
  for (const name of names) {
    const type = await redis.type(name);
    const read = {
      string: () => redis.getBuffer(name).then((bytes) => bytes.toString('base64')),
      list: () => redis.lrange(name, 0, -1),
      set: () => redis.smembers(name).then((all) => all.sort()),
      hash: () => redis.hgetall(name).then((all) => Object.entries(all).sort()),
      zset: () => redis.zrange(name, 0, -1, 'WITHSCORES').then((all) => all.map((part, at) => (at % 2 && /\d/.test(part) ? Number(part) : part))),
      stream: async () => [
        await redis.xrange(name, '-', '+'),
        await redis.xpending(name, 'group', '-', '+', 100).then((all) => all.map(([id, who, , count]) => [id, who, count])),
      ],
    };
    found[name.toString('base64')] = [type, await redis.pexpiretime(name), await read[type]()];
  }
  await redis.select(0);
  return found;
}

async function same({ from, to }, ...databases) {
  for (const db of databases) assert.deepEqual(await contents(to, db), await contents(from, db), `database ${db}`);
}

test('everything comes over as it was, and the notes go', async (t) => {
  const it = await both(t);
  await fill(it.from);
  await it.from.call('FUNCTION', 'LOAD', "#!lua name=lib\nredis.register_function('f', function() return 7 end)");
  const done = await it.imported(it.url, '--json');
  assert.equal(done.code, 0, done.stderr);
  assert.deepEqual([done.left_out, done.skipped, done.settled], [0, 0, true]);
  assert.equal(done.passes[0].new, 45);
  await same(it, 0, 3, 15);
  assert.equal(await it.to.call('FCALL', 'f', 0), 7);
  assert.deepEqual(readdirSync(join(it.data, 'import')), []);
});

test('what is there already is not touched unless that is asked for', async (t) => {
  const it = await both(t);
  await it.from.mset({ ours: 'theirs', new: '1' });
  await it.to.mset({ ours: 'mine', other: '2' });
  const refused = await it.imported(it.url);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /database 0 holds 2 keys already: --replace .* --skip/);
  const skipped = await it.imported(it.url, '--skip', '--json');
  assert.deepEqual([skipped.code, skipped.skipped, skipped.copied], [0, 1, 1], skipped.stderr);
  assert.deepEqual(await it.to.mget('ours', 'new', 'other'), ['mine', '1', '2']);
  assert.equal((await it.imported(it.url, '--replace')).code, 0);
  assert.deepEqual(await it.to.mget('ours', 'new', 'other'), ['theirs', '1', '2']);

  await it.from.select(5);
  await it.from.set('five', '5');
  assert.equal((await it.imported(`${it.url}/5`, '--to', '9')).code, 0);
  await it.to.select(9);
  assert.equal(await it.to.get('five'), '5');
});

test('it goes on where it was killed, and comes to the same', async (t) => {
  const it = await both(t);
  for (let at = 0; at < 60; at += 1) {
    await it.from.mset(Object.fromEntries(Array.from({ length: 500 }, (_, nth) => [`key-${at}-${nth}`, `value ${nth}`])));
  }
  const child = spawn(mainstay, it.args([it.url]), { env: it.env, stdio: 'ignore' });
  while ((await it.to.dbsize()) < 2000 && child.exitCode === null) await new Promise(setImmediate);
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
  assert.equal(child.signalCode, 'SIGKILL', 'it was killed under way');
  // What was copied changes and goes before it is gone on with.
  await it.from.set('key-0-0', 'changed');
  await it.from.del('key-1-1', 'key-2-2', 'key-59-499');
  await it.from.set('added', 'x', 'EX', 9999);
  const done = await it.imported(it.url, '--json');
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stderr, /going on with the import of/);
  await same(it, 0);
});

test('what is written meanwhile is caught up, and a source that never rests is said to be one', async (t) => {
  const it = await both(t);
  await fill(it.from);
  let writing = true;
  const writer = (async () => {
    for (let at = 0; writing; at += 1) {
      await it.from.pipeline().incr('counter').set(`w-${at}`, at).del(`w-${at - 50}`).rpush('list', at).expire('set', 5000 + at).exec();
    }
  })();
  const busy = await it.imported(it.url, '--json');
  writing = false;
  await writer;
  assert.equal(busy.code, 1);
  assert.equal(busy.settled, false);
  assert.match(busy.stderr, /stop what writes there and run the same command again/);
  await it.from.del('text');
  const done = await it.imported(it.url, '--json');
  assert.deepEqual([done.code, done.settled, done.left_out], [0, true, 0], done.stderr);
  await same(it, 0, 3, 15);
});

test('what cannot be had is named, and the rest comes', async (t) => {
  const it = await both(t, { MAINSTAY_REDIS__MAX_BULK: '1MiB', MAINSTAY_KV__MAX_VALUE: '1MiB' });
  await it.from.set('good', '1');
  await it.from.set('huge', randomBytes(3 << 20));
  // Packed by the source, it arrives, and is too long only then.
  await it.from.rpush('packed', ...Array.from({ length: 300 }, () => 'x'.repeat(8000)));
  const wrong = await run(mainstay, it.args([it.url]), { env: { ...it.env, REDISCLI_AUTH: 'wrong' } });
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /lets nobody in with this password/);
  const file = join(it.dir, 'password');
  writeFileSync(file, `${PASSWORD}\n`);
  const done = await it.imported(it.url, '--password-file', file, '--json');
  assert.equal(done.code, 1);
  assert.match(done.stderr, /left out: 2$/m);
  assert.match(done.left_out_named.join('\n'), /key "huge": .* are allowed \(redis.max_bulk\)\n.*key "packed": .*longer than allowed/);
  assert.deepEqual([done.copied, await it.to.get('good')], [1, '1']);
});

test('what a dump holds comes over, and of a damaged one nothing but what is asked for', async (t) => {
  const { dir, from, to, imported } = await both(t);
  await fill(from);
  await from.geoadd('places', 13.361389, 38.115556, 'Palermo', 15.087269, 37.502669, 'Catania');
  await from.pfadd('visitors', 'a', 'b', 'c');
  await from.setbit('bits', 70, 1);
  await from.set('short', 'v', 'PX', 400);
  await from.call('FUNCTION', 'LOAD', "#!lua name=lib\nredis.register_function('seven', function() return 7 end)");
  await from.save();
  while (await from.exists('short')) await new Promise(setImmediate);
  const dump = join(dir, 'dump.rdb');
  const bytes = readFileSync(dump);
  const nothing = async () => assert.deepEqual([await to.dbsize(), await to.call('FUNCTION', 'LIST')], [0, []]);

  for (const [name, damaged] of [
    ['cut.rdb', bytes.subarray(0, bytes.length - 20)],
    ['garbled.rdb', Buffer.from(bytes).fill(0x7f, bytes.length >> 1, (bytes.length >> 1) + 3)],
    ['other.rdb', Buffer.from('PK not a dump at all')],
    ['empty.rdb', Buffer.alloc(0)],
    ['newer.rdb', Buffer.concat([Buffer.from('REDIS0099'), bytes.subarray(9)])],
  ]) {
    writeFileSync(join(dir, name), damaged);
    const refused = await imported('--rdb', join(dir, name));
    assert.deepEqual([refused.code, refused.stdout], [1, ''], name);
    assert.match(refused.stderr, /is damaged, and nothing was imported; --damaged|is no RDB file|has version 99|ends early/, name);
    await nothing();
  }
  const several = await imported('--rdb', dump, '--to', '4');
  assert.match(several.stderr, /--to is for one database, and the file holds more; nothing was imported/);
  await nothing();

  const part = await imported('--rdb', join(dir, 'cut.rdb'), '--damaged', '--json');
  assert.deepEqual([part.code, part.complete], [1, false]);
  assert.match(part.stderr, /was not imported to its end; what was copied stays/);
  let there = 0;
  for (const db of [0, 3, 15]) there += await to.select(db).then(() => to.dbsize());
  assert.equal(there, part.copied);
  assert.ok(there > 0);

  await to.select(0);
  const full = await imported('--rdb', dump);
  assert.match(full.stderr, /database 0 holds \d+ keys already: --replace .* nothing was imported/);
  const done = await imported('--rdb', dump, '--replace', '--json');
  assert.equal(done.code, 0, done.stderr);
  assert.deepEqual([done.left_out, done.complete, done.expired], [0, true, 1]);
  for (const db of [0, 3, 15]) assert.deepEqual(await contents(to, db), await contents(from, db), `database ${db}`);
  assert.equal(await to.fcall('seven', 0), 7);
  assert.equal((await imported('--rdb', dump, '--skip', '--json')).copied, 0);
});

test('a dump that is packed in older ways, or not at all, brings the same', async (t) => {
  const { dir, from, to, imported } = await both(t);
  await from.call('CONFIG', 'SET', 'rdbcompression', 'no');
  await from.call('CONFIG', 'SET', 'list-max-listpack-size', '3');
  await from.call('CONFIG', 'SET', 'stream-node-max-entries', '7');
  await fill(from);
  await from.save();
  const done = await imported('--rdb', join(dir, 'dump.rdb'), '--json');
  assert.deepEqual([done.code, done.left_out], [0, 0], done.stderr);
  for (const db of [0, 3, 15]) assert.deepEqual(await contents(to, db), await contents(from, db), `database ${db}`);
});

test('a file of one database goes where it is told', async (t) => {
  const { dir, from, to, imported } = await both(t);
  await from.set('key', 'value');
  await from.save();
  const done = await imported('--rdb', join(dir, 'dump.rdb'), '--to', '7', '--json');
  assert.deepEqual([done.code, done.copied, await to.exists('key')], [0, 1, 0], done.stderr);
  await to.select(7);
  assert.equal(await to.get('key'), 'value');
});
