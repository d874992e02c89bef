// Memory goes back to the system: after a start with many keys, and after they are deleted.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

import { Redis } from 'ioredis';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const KEYS = 100_000;
const BATCH = 10_000;
const extra = { MAINSTAY_KV__MAX_MEMORY: '1GiB', MAINSTAY_EDGE__HTTP: '', MAINSTAY_EDGE__HTTPS: '' };

/** Memory of a process that no file backs, in MiB. */
function anonymous({ pid }) {
  const [, kib] = /^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(kib) / 1024;
}

/** Returns once the process has no more than `most` MiB. */
async function shrunk(server, most) {
  while (anonymous(server) > most) await delay(100);
}

function open(t, server) {
  const redis = new Redis(server.env.REDIS_URL);
  undo(t, () => redis.disconnect());
  return redis;
}

test('memory goes back after a start and after a deletion', { skip: onPile && 'proves Mainstay, not the pile' }, async (t) => {
  const data = folder(t);
  const first = await startMainstay({ data, extra });
  undo(t, () => first.stop());
  const empty = anonymous(first);
  const redis = open(t, first);
  for (let at = 0; at < KEYS; at += BATCH) {
    const pipeline = redis.pipeline();
    for (let key = at; key < at + BATCH; key += 1) pipeline.set(`key:${key}`, 'x'.repeat(400));
    await pipeline.exec();
  }
  const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))[1]) / 2 ** 20;
  assert.ok(used > 40, `${used} MiB of keys`);
  await first.kill();
  redis.disconnect();

  const again = await startMainstay({ data, extra });
  undo(t, () => again.stop());
  const reader = open(t, again);
  assert.equal(await reader.dbsize(), KEYS);
  await shrunk(again, empty + used * 1.2);
  await reader.flushall();
  await shrunk(again, empty + used / 4);
});
