// Backups into the S3 door of another Mainstay: made, looked through, restored, pruned, and the target killed in the middle.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const TARGET = 's3://backups/one';
const OBJECT_BYTES = 2_000_000;

const ok = ({ code, stdout, stderr }) => {
  assert.equal(code, 0, stdout + stderr);
  return stdout;
};

function client({ env }) {
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  return new s3.S3Client({ region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true });
}

async function putObjects(server, from, to) {
  const objects = client(server);
  for (let at = from; at < to; at += 1) {
    await objects.send(new s3.PutObjectCommand({ Bucket: 'mine', Key: `o/${at}`, Body: content(`o${at}`, OBJECT_BYTES) }));
  }
  objects.destroy();
}

/** A server with a bucket for backups, and one whose backups go there. */
async function pair(t) {
  const places = { target: join(folder(t), 'data'), data: join(folder(t), 'data') };
  let target = await startMainstay({ data: places.target });
  undo(t, () => target.stop());
  const bucket = client(target);
  undo(t, () => bucket.destroy());
  await bucket.send(new s3.CreateBucketCommand({ Bucket: 'backups' }));
  const secret = join(folder(t), 'secret');
  writeFileSync(secret, `${target.env.AWS_SECRET_ACCESS_KEY}\n`);
  const extra = {
    MAINSTAY_BACKUP__S3_ENDPOINT: target.env.AWS_ENDPOINT_URL_S3,
    MAINSTAY_BACKUP__S3_ACCESS_KEY_ID: target.env.AWS_ACCESS_KEY_ID,
    MAINSTAY_BACKUP__S3_SECRET_ACCESS_KEY_FILE: secret,
  };
  const server = await startMainstay({ data: places.data, extra });
  undo(t, () => server.stop());
  const objects = client(server);
  await objects.send(new s3.CreateBucketCommand({ Bucket: 'mine' }));
  objects.destroy();
  const key = join(folder(t), 'key');
  writeFileSync(key, readFileSync(join(places.data, 'keys/master.key')));
  return {
    server,
    bucket,
    backup: (...words) => command(places.data, ['backup', ...words], extra),
    /** Restores into a new folder and gives the server on it. */
    async restored() {
      const copy = join(folder(t), 'copy');
      ok(await command(copy, ['backup', 'restore', '--from', TARGET, '--data', copy, '--key-file', key], extra));
      const server = await startMainstay({ data: copy });
      undo(t, () => server.stop());
      return server;
    },
    /** Kills the target as a power cut would and starts it again where it was. */
    async killTarget() {
      await target.kill();
      target = await startMainstay({ data: places.target, extra: { MAINSTAY_S3__LISTEN: `127.0.0.1:${target.ports.s3}` } });
    },
  };
}

async function assertObjects(server, count) {
  const objects = client(server);
  for (let at = 0; at < count; at += 1) {
    const { Body } = await objects.send(new s3.GetObjectCommand({ Bucket: 'mine', Key: `o/${at}` }));
    assert.ok(Buffer.from(await Body.transformToByteArray()).equals(content(`o${at}`, OBJECT_BYTES)), `o/${at}`);
  }
  objects.destroy();
}

const keysOf = async (bucket, prefix) =>
  ((await bucket.send(new s3.ListObjectsV2Command({ Bucket: 'backups', Prefix: prefix }))).Contents ?? []).map(({ Key }) => Key);

test('a bucket holds backups as a folder does', { skip }, async (t) => {
  const { server, bucket, backup, restored } = await pair(t);
  await putObjects(server, 0, 2);
  const began = Date.now();
  const first = JSON.parse(ok(await backup('now', '--target', TARGET, '--json')));
  t.diagnostic(`the first took ${Date.now() - began} ms`);
  assert.deepEqual(first.drill.failures, []);
  await putObjects(server, 2, 3);
  const second = JSON.parse(ok(await backup('now', '--target', TARGET, '--json')));
  assert.ok(second.snapshots[0].counts.bytes_new < 2 * OBJECT_BYTES, 'what is there is not stored again');
  assert.equal(JSON.parse(ok(await backup('list', '--target', TARGET, '--json'))).length, 2);
  assert.equal(JSON.parse(ok(await backup('verify', '--target', TARGET, '--read-data', '--json'))).well, true);
  ok(await backup('prune', '--target', TARGET));
  ok(await backup('verify', '--target', TARGET));
  await assertObjects(await restored(), 3);

  // A pack that is lost is noticed and named.
  const packs = await keysOf(bucket, 'one/packs/');
  await bucket.send(new s3.DeleteObjectCommand({ Bucket: 'backups', Key: packs[0] }));
  const verified = await backup('verify', '--target', TARGET, '--json');
  assert.notEqual(verified.code, 0);
  assert.ok(verified.stdout.includes(packs[0].replace('one/', '')), verified.stdout);
});

test('a target killed in the middle has whole backups or none, and the next run goes on', { skip }, async (t) => {
  const { server, bucket, backup, restored, killTarget } = await pair(t);
  await putObjects(server, 0, 1);
  ok(await backup('now', '--target', TARGET));
  await putObjects(server, 1, 12);
  const former = new Set(await keysOf(bucket, 'one/packs/'));
  const cut = backup('now', '--target', TARGET);
  for (;;) {
    const packs = await keysOf(bucket, 'one/packs/');
    if (packs.some((key) => !former.has(key))) break;
  }
  await killTarget();
  const { code, stderr } = await cut;
  t.diagnostic(code === 0 ? 'the run went on by itself' : `the run ended: ${stderr.trim()}`);
  if (code !== 0) assert.match(stderr, /s3:\/\/backups\/one/);
  ok(await backup('verify', '--target', TARGET, '--read-data'));
  ok(await backup('now', '--target', TARGET));
  ok(await backup('verify', '--target', TARGET, '--read-data'));
  await assertObjects(await restored(), 12);
});
