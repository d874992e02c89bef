// A full disk: writes are refused in each protocol's own words, reading and deleting go on, and when there is room again
// so do the writes, without a restart. Nothing acknowledged is lost on the way.

import assert from 'node:assert/strict';
import { closeSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { Redis } from 'ioredis5';

import { onPile } from './support/backend.mjs';
import { content } from './support/ledger.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';
import { send } from './support/sigv4.mjs';
import { mountTmpfs } from './support/tmpfs.mjs';

/** Takes what is left on the file system of `path`, but for `leave` bytes; gives the function that returns it. */
function fillUp(path, leave = 0) {
  const ballast = join(path, 'ballast');
  const file = openSync(ballast, 'a');
  try {
    for (let left = room(path) - leave; left > 0; left = room(path) - leave) {
      writeSync(file, Buffer.alloc(Math.min(left, 1 << 20)));
    }
  } finally {
    closeSync(file);
  }
  return () => rmSync(ballast);
}

/** Bytes left on the file system of `path`. */
function room(path) {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

/** Calls `attempt` until it does not throw. The server looks at the disk again in its own time, which nothing announces. */
async function eventually(attempt) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (tries === 300) throw error;
      await pause(100);
    }
  }
}

test('a full disk refuses writes only, and only as long as it is full', { skip: onPile && 'about Mainstay itself' }, async (t) => {
  const mount = await mountTmpfs(t, { size: '256m' });
  if (!mount) return;
  const data = join(mount, 'data');
  const extra = { MAINSTAY_OBJECTS__RESERVE: '8MiB', MAINSTAY_OBJECTS__RESERVE_PERCENT: '0' };
  let server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const connect = () => {
    const client = new Redis(server.env.REDIS_URL, { retryStrategy: null });
    client.on('error', () => {});
    undo(t, () => client.disconnect());
    return client;
  };
  let redis = connect();
  const s3 = (method, path, body) => send(server.env, { method, path, body });

  assert.equal((await s3('PUT', '/full')).status, 200);
  const kept = content('kept', 1 << 20).toString('base64');
  for (const name of ['one', 'two', 'three']) {
    assert.equal((await s3('PUT', `/full/${name}`, kept)).status, 200);
    assert.equal(await redis.set(name, name), 'OK');
  }

  // Almost full: below the reserve no upload is let in, and there is room to delete.
  fillUp(mount, 4 << 20);
  // Free space is looked at once in a while, so the first of these may still be let in.
  await eventually(async () => assert.equal((await s3('PUT', '/full/almost', kept)).status, 507));
  const put = await s3('PUT', '/full/refused', kept);
  assert.match(put.text, /<Code>(XMinioStorageFull|StorageFull|InsufficientStorage)<\/Code>/);
  assert.equal((await s3('DELETE', '/full/two')).status, 204);
  assert.equal((await s3('GET', '/full/two')).status, 404);
  assert.equal(await redis.set('four', 'four'), 'OK');

  // Full to the last byte.
  const empty = fillUp(mount);
  let refused;
  for (let at = 0; !refused && at < 2000; at += 1) {
    await redis.set(`filler:${at}`, kept.slice(0, 100_000)).catch((error) => (refused = error));
  }
  assert.match(refused.message, /^(MISCONF|OOM|ERR) .*(disk|space|write)/i);
  assert.equal(await redis.get('one'), 'one');
  const got = await s3('GET', '/full/one');
  assert.deepEqual([got.status, got.text], [200, kept]);
  // What was deleted before gives its room back in its own time: then the disk is filled up once more.
  for (const [path, body] of [['/full/refused', 'x'], ['/another-bucket']]) {
    for (;;) {
      fillUp(mount);
      const { status } = await s3('PUT', path, body);
      if (status === 507) break;
      assert.ok(room(mount) > 0, `${path}: ${status} on a full disk`);
      assert.equal((await s3('DELETE', path)).status, 204);
    }
  }
  const deleted = await s3('DELETE', '/full/three');
  assert.ok([204, 507].includes(deleted.status), `${deleted.status} ${deleted.text}`);

  empty();
  await eventually(async () => assert.equal((await s3('PUT', '/full/after', kept)).status, 200));
  await eventually(async () => assert.equal(await redis.set('after', 'after'), 'OK'));
  assert.equal(await redis.del('three'), 1);

  await server.kill();
  server = await startMainstay({ data, extra });
  redis = connect();
  assert.deepEqual(await redis.mget('one', 'two', 'three', 'after'), ['one', 'two', null, 'after']);
  for (const [name, status] of [['one', 200], ['two', 404], ['three', deleted.status === 204 ? 404 : 200], ['after', 200], ['refused', 404]]) {
    assert.equal((await s3('GET', `/full/${name}`)).status, status, name);
  }
});
