// `mainstay buckets` and quotas, held against the stock SDK: many writers at once, overwriting, copies, uploads in parts.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const MIB = 1024 * 1024;

test('a bucket holds no more than its quota, whoever writes how', { skip }, async (t) => {
  const data = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  const { env } = server;
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  const client = new s3.S3Client({ region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true });
  const send = (Command, input) => client.send(new Command({ Bucket: 'held', ...input }));
  const put = (Key, bytes) => send(s3.PutObjectCommand, { Key, Body: content(Key, bytes) });
  const full = 'XMinioAdminBucketQuotaExceeded';
  const refused = (promise) => assert.rejects(promise, (error) => {
    assert.deepEqual([error.name, error.$metadata.httpStatusCode], [full, 400]);
    return true;
  });
  const buckets = async (...words) => {
    const { code, stdout, stderr } = await command(data, ['buckets', ...words]);
    assert.equal(code, 0, stdout + stderr);
    return stdout;
  };
  const held = async () => JSON.parse(await buckets('--json')).find(({ name }) => name === 'held');
  await send(s3.CreateBucketCommand, {});
  assert.equal(await buckets('set', 'held', '--quota-bytes', '1MiB', '--quota-objects', '8'),
    `${'held'.padEnd(32)} 0 objects, 0 bytes, quota 1.0 MiB and 8 objects\n`);

  const done = await Promise.allSettled(Array.from({ length: 20 }, (_, nth) => put(`k${nth}`, 200_000)));
  const stored = done.flatMap(({ status }, nth) => (status === 'fulfilled' ? [`k${nth}`] : []));
  assert.equal(stored.length, 5);
  assert.ok(done.every(({ reason }) => !reason || reason.name === full));
  let { objects, bytes } = await held();
  assert.deepEqual([objects, bytes], [5, 1_000_000]);

  await put(stored[0], 240_000);
  await refused(put(stored[0], 260_000));
  await refused(send(s3.CopyObjectCommand, { Key: 'copy', CopySource: `held/${stored[1]}` }));
  const { UploadId } = await send(s3.CreateMultipartUploadCommand, { Key: 'parts' });
  const { ETag } = await send(s3.UploadPartCommand, { Key: 'parts', UploadId, PartNumber: 1, Body: content('p', 50_000) });
  const complete = () => send(s3.CompleteMultipartUploadCommand, {
    Key: 'parts', UploadId, MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] },
  });
  await refused(complete());
  await refused(put('huge', 2 * MIB));
  await send(s3.DeleteObjectCommand, { Key: stored[2] });
  await complete();
  ({ objects, bytes } = await held());
  assert.deepEqual([objects, bytes], [5, 890_000]);

  // Older versions count, until they are gone.
  await send(s3.PutBucketVersioningCommand, { VersioningConfiguration: { Status: 'Enabled' } });
  await put('v', 100_000);
  await refused(put('v', 100_000));
  await send(s3.DeleteObjectCommand, { Key: 'v' });
  await refused(put('v', 100_000));
  assert.match(await buckets(), /^held +6 objects, 966\.8 KiB, quota 1\.0 MiB and 8 objects, keeps versions\n$/);
  await buckets('set', 'held', '--quota-bytes', 'none');
  await put('v', 100_000);
  await put('w', 10);
  await refused(put('x', 10));
  const wrong = await command(data, ['buckets', 'set', 'nobodys', '--quota-objects', '1']);
  assert.notEqual(wrong.code, 0);
  assert.match(wrong.stderr, /bucket/);
});
