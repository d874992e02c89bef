// `mainstay objects check` on a running server: what is whole, and what somebody has taken a hand to.

import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';

/** Every blob file of a data folder. */
function blobs(data) {
  const root = join(data, 'objects/blobs');
  return readdirSync(root, { recursive: true }).map((name) => join(root, name)).filter((path) => statSync(path).isFile());
}

/** Turns one bit over in the middle of a file. */
function flip(path) {
  const [file, at, byte] = [openSync(path, 'r+'), statSync(path).size >> 1, Buffer.alloc(1)];
  readSync(file, byte, 0, 1, at);
  byte[0] ^= 8;
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
}

test('a check names what is damaged, and nothing else', { skip }, async (t) => {
  const data = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  const { env } = server;
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  const client = new s3.S3Client({ region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true });
  await client.send(new s3.CreateBucketCommand({ Bucket: 'photos' }));
  const put = (key, bytes) => client.send(new s3.PutObjectCommand({ Bucket: 'photos', Key: key, Body: content(key, bytes) }));
  const fileOf = async (key, bytes) => {
    const before = blobs(data);
    await put(key, bytes);
    return blobs(data).find((path) => !before.includes(path));
  };
  const check = (...words) => command(data, ['objects', 'check', ...words]);
  const files = { a: await fileOf('a', 3_000_000), b: await fileOf('b/ü "1".jpg', 70_000), c: await fileOf('c', 1_000_000) };
  // More than one piece, of what the index itself holds.
  for (let at = 0; at < 3; at += 1) await Promise.all(Array.from({ length: 400 }, (_, nth) => put(`small/${at}-${nth}`, 100)));

  for (const words of [[], ['--read-data']]) {
    const { code, stdout, stderr } = await check(...words);
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /^buckets: 1, objects: 1203, uploads in progress: 0, 4\.0 MiB: .*, damaged: 0\n$/);
  }
  flip(files.a);
  unlinkSync(files.b);
  const ends = await check();
  assert.equal(ends.code, 1);
  assert.equal(ends.stdout.split('\n')[0], 'photos/b/ü \\"1\\".jpg: its file is missing');
  assert.match(ends.stdout, /damaged: 1\n$/);
  assert.match(ends.stderr, /damaged: 1; a backup may still have them/);

  const whole = await check('--read-data', '--json');
  assert.equal(whole.code, 1);
  const report = JSON.parse(whole.stdout);
  assert.deepEqual([report.buckets, report.objects, report.damaged_more], [1, 1203, 0]);
  assert.deepEqual(report.damaged, [
    { bucket: 'photos', key: 'a', what: 'a segment does not verify' },
    { bucket: 'photos', key: 'b/ü "1".jpg', what: 'its file is missing' },
  ]);

  // What is stored anew is whole.
  await put('a', 3_000_000);
  await client.send(new s3.DeleteObjectCommand({ Bucket: 'photos', Key: 'b/ü "1".jpg' }));
  assert.equal((await check('--read-data')).code, 0);
});
