// Backups into `rclone serve s3`, a stand-in for whatever rclone reaches: made, checked, pruned, restored, damaged.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';
import { Redis } from 'ioredis5';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { python } from './support/paths.mjs';
import { freePort, start } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const TARGET = 's3://backups/one';
const OBJECTS = 6;
const OBJECT_BYTES = 1_500_000;
const KEY = { id: 'rclone-key', secret: 'rclone-secret-of-a-test' };

const ok = ({ code, stdout, stderr }) => {
  assert.equal(code, 0, stdout + stderr);
  return stdout;
};

/** rclone's S3 server over a folder, with the settings that make it a target. */
async function rclone(t) {
  const place = folder(t);
  mkdirSync(join(place, 'backups'));
  const port = await freePort();
  const server = await start(join(python, '..', 'rclone'), ['serve', 's3', '--addr', `127.0.0.1:${port}`, '--auth-key', `${KEY.id},${KEY.secret}`, '-v', place], {
    env: { ...process.env, RCLONE_CONFIG: join(folder(t), 'rclone.conf') },
    ready: (line) => line.includes('Starting s3 server') || line.includes('Serving'),
    name: 'rclone',
  });
  undo(t, () => server.stop());
  const secret = join(folder(t), 'secret');
  writeFileSync(secret, `${KEY.secret}\n`);
  const extra = {
    MAINSTAY_BACKUP__S3_ENDPOINT: `http://127.0.0.1:${port}`,
    MAINSTAY_BACKUP__S3_ACCESS_KEY_ID: KEY.id,
    MAINSTAY_BACKUP__S3_SECRET_ACCESS_KEY_FILE: secret,
  };
  return { endpoint: extra.MAINSTAY_BACKUP__S3_ENDPOINT, extra };
}

function objectsOf({ env }) {
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  return new s3.S3Client({ region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true });
}

async function put(server, from, to) {
  const objects = objectsOf(server);
  for (let at = from; at < to; at += 1) {
    await objects.send(new s3.PutObjectCommand({ Bucket: 'mine', Key: `o/${at}`, Body: content(`o${at}`, OBJECT_BYTES) }));
  }
  objects.destroy();
}

test('a place that rclone serves holds backups as a folder does', { skip }, async (t) => {
  const { endpoint, extra } = await rclone(t);
  const data = join(folder(t), 'data');
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const objects = objectsOf(server);
  await objects.send(new s3.CreateBucketCommand({ Bucket: 'mine' }));
  objects.destroy();
  const redis = new Redis(server.env.REDIS_URL);
  await redis.set('kept', 'yes');
  redis.disconnect();
  const key = join(folder(t), 'key');
  writeFileSync(key, readFileSync(join(data, 'keys/master.key')));
  const backup = (...words) => command(data, ['backup', ...words], extra);
  const restore = async (copy, ...words) => command(copy, ['backup', 'restore', '--from', TARGET, '--key-file', key, ...words], extra);

  await put(server, 0, OBJECTS - 1);
  const first = JSON.parse(ok(await backup('now', '--target', TARGET, '--json')));
  assert.deepEqual(first.drill.failures, []);
  await put(server, OBJECTS - 1, OBJECTS);
  const second = JSON.parse(ok(await backup('now', '--target', TARGET, '--json')));
  assert.ok(second.snapshots[0].counts.bytes_new < 2 * OBJECT_BYTES, 'what is there is not stored again');
  assert.equal(JSON.parse(ok(await backup('list', '--target', TARGET, '--json'))).length, 2);
  assert.equal(JSON.parse(ok(await backup('verify', '--target', TARGET, '--read-data', '--json'))).well, true);
  ok(await backup('prune', '--target', TARGET));
  assert.equal(JSON.parse(ok(await backup('verify', '--target', TARGET, '--read-data', '--json'))).well, true);

  const copy = join(folder(t), 'copy');
  ok(await restore(copy));
  const again = await startMainstay({ data: copy });
  undo(t, () => again.stop());
  const restored = objectsOf(again);
  for (let at = 0; at < OBJECTS; at += 1) {
    const { Body } = await restored.send(new s3.GetObjectCommand({ Bucket: 'mine', Key: `o/${at}` }));
    assert.ok(Buffer.from(await Body.transformToByteArray()).equals(content(`o${at}`, OBJECT_BYTES)), `o/${at}`);
  }
  restored.destroy();
  const back = new Redis(again.env.REDIS_URL);
  assert.equal(await back.get('kept'), 'yes');
  back.disconnect();

  // Where a pack is lost, the restore names what that costs and keeps the rest when told to.
  // It goes through rclone, which remembers what is in its folders.
  const repository = new s3.S3Client({ region: 'us-east-1', credentials: { accessKeyId: KEY.id, secretAccessKey: KEY.secret }, endpoint, forcePathStyle: true });
  undo(t, () => repository.destroy());
  const { Contents: packs } = await repository.send(new s3.ListObjectsV2Command({ Bucket: 'backups', Prefix: 'one/packs/' }));
  const [largest] = packs.sort((one, two) => two.Size - one.Size);
  await repository.send(new s3.DeleteObjectCommand({ Bucket: 'backups', Key: largest.Key }));
  assert.notEqual((await backup('verify', '--target', TARGET)).code, 0);
  const hurt = join(folder(t), 'hurt');
  const refused = await restore(hurt);
  assert.equal(refused.code, 1, refused.stdout + refused.stderr);
  const kept = await restore(join(folder(t), 'kept'), '--partial');
  assert.equal(kept.code, 1, kept.stdout + kept.stderr);
  assert.match(kept.stdout + kept.stderr, /lost|damaged/);
});
