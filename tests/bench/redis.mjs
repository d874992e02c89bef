// The Redis door beside redis-server: commands by redis-benchmark in interleaved rounds, memory of job hashes, bytes written to
// disk, the start after a kill, and values four times as large as the memory they may take.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { folder } from '../clients/support/folder.mjs';
import { startMainstay } from '../clients/support/mainstay.mjs';
import { freePort, output, start } from '../clients/support/process.mjs';
import { undo } from '../clients/support/scope.mjs';
import { measure, median, number, residentMib, table } from './measure.mjs';

const { Redis } = createRequire(new URL('../clients/package.json', import.meta.url))('ioredis');

const rounds = Number(process.argv[2] ?? 3);
/** Part of a row's name: only such commands are measured then, and nothing else. */
const only = process.argv[3];
const steps = [];
const scope = { after: (step) => steps.push(step) };

const LIMITER = `local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end return n`;
const COMMANDS = {
  SET: ['SET', 'key:__rand_int__', 'x'.repeat(100)],
  GET: ['GET', 'key:__rand_int__'],
  INCR: ['INCR', 'counter:__rand_int__'],
  LPUSH: ['LPUSH', 'list:__rand_int__', 'x'.repeat(20)],
  HSET: ['HSET', 'hash:__rand_int__', 'field:__rand_int__', 'x'.repeat(20)],
  ZADD: ['ZADD', 'zset', '__rand_int__', 'member:__rand_int__'],
};

try {
  const [ours, theirs] = [await startOurs(), await startTheirs()];
  await commands(ours, theirs);
  if (!only) {
    await hashes(ours, theirs);
    await written(ours, theirs);
    await restarted();
    await spilled();
  }
} finally {
  for (const step of steps.reverse()) await step();
}

/** Mainstay with the Redis door alone: `{ pid, url, socket, password }`. */
async function startOurs(extra = {}, data = folder(scope)) {
  const off = Object.fromEntries(['EDGE__HTTP', 'EDGE__HTTPS', 'S3__LISTEN', 'SMTP__LISTEN'].map((door) => [`MAINSTAY_${door}`, '']));
  const server = await startMainstay({ data, extra: { ...off, ...extra } });
  undo(scope, () => server.stop());
  const url = new URL(server.env.REDIS_URL);
  return { ...server, url, socket: join(data, 'redis.sock'), password: url.password };
}

/** redis-server with the durability that Mainstay has by default. */
async function startTheirs() {
  const [data, port] = [folder(scope), await freePort()];
  const socket = join(data, 'redis.sock');
  const durable = ['--appendonly', 'yes', '--appendfsync', 'everysec', '--save', '', '--dir', data];
  const words = ['--port', String(port), '--bind', '127.0.0.1', '--unixsocket', socket, ...durable];
  const server = await start('redis-server', words, { ready: (line) => line.includes('eady to accept connections') });
  undo(scope, () => server.stop());
  return { ...server, url: new URL(`redis://127.0.0.1:${port}`), socket, password: '' };
}

function client({ url }) {
  return new Redis(url.href);
}

/** redis-benchmark with `words`, `count` times. */
async function load(server, { words, count, pipeline, unix }) {
  const where = unix ? ['-s', server.socket] : ['-h', server.url.hostname, '-p', server.url.port];
  const password = server.password ? ['-a', server.password] : [];
  const how = ['-c', 50, '-P', pipeline, '-n', count, '-r', 100_000, '-q'].map(String);
  await output('redis-benchmark', [...where, ...password, ...how, ...words]);
  return count;
}

async function commands(ours, theirs) {
  for (const server of [ours, theirs]) {
    const redis = client(server);
    server.sha = await redis.script('LOAD', LIMITER);
    await redis.quit();
  }
  const rows = [];
  for (const unix of [false, true]) {
    for (const pipeline of [1, 16]) {
      for (const name of [...Object.keys(COMMANDS), 'EVALSHA']) {
        const count = (pipeline === 1 ? 100_000 : 600_000) / (name === 'EVALSHA' ? 4 : 1);
        const row = `${name} -P ${pipeline} ${unix ? 'Unix' : 'TCP'}`;
        if (row.includes(only ?? '')) rows.push({ name: row, command: name, count, pipeline, unix });
      }
    }
  }
  const lines = [['', 'a second', 'Redis', 'ratio', 'CPU µs each', 'Redis', 'ratio', 'MiB', 'Redis']];
  for (const row of rows) {
    const found = new Map([[ours, []], [theirs, []]]);
    for (let round = 0; round < rounds; round += 1) {
      for (const server of round % 2 === 0 ? [ours, theirs] : [theirs, ours]) {
        const words = COMMANDS[row.command] ?? ['EVALSHA', server.sha, '1', 'limit:__rand_int__', '60000'];
        found.get(server).push(await measure(server.pid, () => load(server, { ...row, words })));
      }
    }
    const middle = (server, what) => median(found.get(server).map((one) => one[what]));
    const pair = (what) => [middle(ours, what), middle(theirs, what)];
    const [rate, cost, memory] = [pair('rate'), pair('cost'), pair('memory')];
    const ratio = ([a, b]) => (a / b).toFixed(2);
    lines.push([row.name, ...rate.map(number), ratio(rate), ...cost.map((us) => us.toFixed(2)), ratio(cost), ...memory.map(number)]);
    console.error(lines.at(-1).join('  '));
  }
  table(lines);
}

/** 100,000 hashes of six fields, as job queues keep them: how much memory they take. */
async function hashes(ours, theirs) {
  const lines = [['', 'Mainstay', 'Redis']];
  const taken = [];
  for (const server of [ours, theirs]) {
    const redis = client(server);
    await redis.flushall();
    const before = residentMib(server.pid);
    for (let at = 0; at < 100_000; at += 1000) {
      const pipeline = redis.pipeline();
      for (let job = at; job < at + 1000; job += 1) {
        const fields = { name: 'send', data: `{"to":"user-${job}@example.com"}`, opts: '{"attempts":3}', timestamp: 1_790_000_000_000 + job, delay: 0, priority: 0 };
        pipeline.hset(`bull:mail:${job}`, fields);
      }
      await pipeline.exec();
    }
    const used = /used_memory:(\d+)/.exec(await redis.info('memory'))[1] / 2 ** 20;
    taken.push([`${number(used)} MiB, resident +${number(Math.max(0, residentMib(server.pid) - before))}`]);
    await redis.quit();
  }
  table([...lines, ['100,000 job hashes', ...taken.flat()]]);
}

/** Bytes the process has had written to disk. */
function diskBytes(pid) {
  return Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))[1]);
}

async function written(ours, theirs) {
  const line = ['disk written a byte of SET'];
  for (const server of [ours, theirs]) {
    const before = diskBytes(server.pid);
    const count = 200_000;
    await load(server, { words: ['SET', 'key:__rand_int__', 'x'.repeat(1024)], count, pipeline: 16, unix: false });
    const redis = client(server);
    await redis.bgsave().catch(() => {});
    await redis.quit();
    line.push(((diskBytes(server.pid) - before) / (count * 1024)).toFixed(2));
  }
  table([['', 'Mainstay', 'Redis'], line]);
}

/** A million keys, a kill, and the time to the first answer. */
async function restarted() {
  const data = folder(scope);
  const first = await startOurs({}, data);
  const redis = client(first);
  for (let at = 0; at < 1_000_000; at += 5000) {
    const pipeline = redis.pipeline();
    for (let key = at; key < at + 5000; key += 1) pipeline.set(`key:${key}`, 'x'.repeat(50));
    await pipeline.exec();
  }
  redis.disconnect();
  await first.kill();
  const began = process.hrtime.bigint();
  const again = await startMainstay({ data, quick: true });
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  await again.stop('SIGKILL');
  table([['a million keys, kill -9, start to ready', `${seconds.toFixed(2)} s`]]);
}

/** Values four times as large as their memory: nothing lost, and what it costs the keys that are used. */
async function spilled() {
  const cap = 64;
  const count = 4 * cap * 1024;
  const lines = [['', 'GET a second', 'p99 ms', 'resident MiB']];
  for (const [name, most] of [['all in memory', '1GiB'], ['four times the cap', `${cap}MiB`]]) {
    const server = await startOurs({ MAINSTAY_KV__MAX_MEMORY: most });
    const redis = client(server);
    for (let at = 0; at < count; at += 1024) {
      const pipeline = redis.pipeline();
      for (let key = at; key < at + 1024; key += 1) pipeline.set(`cold:${key}`, `${key}:`.padEnd(1024, 'x'));
      await pipeline.exec();
    }
    const hot = Array.from({ length: 1000 }, (_, key) => `hot:${key}`);
    for (const key of hot) await redis.set(key, 'x'.repeat(1024));
    // Cold keys are read all the while.
    let [reading, lost, cold] = [true, 0, 0];
    const others = client(server);
    const reader = (async () => {
      for (let key = 0; reading; key = (key + 7919) % count) {
        if (!(await others.get(`cold:${key}`))?.startsWith(`${key}:`)) lost += 1;
        cold += 1;
      }
    })();
    const times = [];
    const [hotClients, began] = [Array.from({ length: 20 }, () => client(server)), process.hrtime.bigint()];
    await Promise.all(
      hotClients.map(async (one, at) => {
        for (let turn = 0; turn < 5000; turn += 1) {
          const start = process.hrtime.bigint();
          await one.get(hot[(at * 53 + turn) % hot.length]);
          times.push(Number(process.hrtime.bigint() - start) / 1e6);
        }
      }),
    );
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    reading = false;
    await reader;
    for (let key = 0; key < count; key += 997) {
      if (!(await others.get(`cold:${key}`))?.startsWith(`${key}:`)) lost += 1;
    }
    times.sort((a, b) => a - b);
    const p99 = times[Math.floor(times.length * 0.99)];
    lines.push([`${name} (${cold} cold reads, ${lost} lost)`, number(times.length / seconds), p99.toFixed(2), number(residentMib(server.pid))]);
    for (const one of [redis, others, ...hotClients]) one.disconnect();
    await server.stop();
  }
  table(lines);
}
