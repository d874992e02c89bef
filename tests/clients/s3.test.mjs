// The S3 clients applications have, with their default settings.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { before, test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { Client as Minio } from 'minio';

import { onPile, startBackend } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { clients, python } from './support/paths.mjs';
import { output } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';

let backend;
let aws;
const file = wholeFile();
const BUCKET = 'aws-bucket';
const md5 = (bytes) => createHash('md5').update(bytes).digest('hex');
const beyondRclone = (why) => ({ skip: onPile && `rclone serve s3: ${why}` });

before(async () => {
  backend = await startBackend({ data: folder(file) });
  undo(file, () => backend.stop());
  aws = new s3.S3Client({
    endpoint: backend.env.AWS_ENDPOINT_URL_S3,
    region: backend.env.AWS_REGION,
    credentials: { accessKeyId: backend.env.AWS_ACCESS_KEY_ID, secretAccessKey: backend.env.AWS_SECRET_ACCESS_KEY },
    forcePathStyle: true,
    maxAttempts: 1,
  });
  undo(file, () => aws.destroy());
  await aws.send(new s3.CreateBucketCommand({ Bucket: BUCKET }));
});

async function read(Key, more = {}) {
  const { Body } = await aws.send(new s3.GetObjectCommand({ Bucket: BUCKET, Key, ...more }));
  return Buffer.from(await Body.transformToByteArray());
}

test('the AWS SDK stores a buffer with its metadata', async () => {
  const Body = randomBytes(70_000);
  const put = await aws.send(
    new s3.PutObjectCommand({ Bucket: BUCKET, Key: 'a b/ü+&=?.bin', Body, ContentType: 'image/webp', Metadata: { who: 'ada' } }),
  );
  assert.equal(put.ETag, `"${md5(Body)}"`);
  assert.deepEqual(await read('a b/ü+&=?.bin'), Body);
  const head = await aws.send(new s3.HeadObjectCommand({ Bucket: BUCKET, Key: 'a b/ü+&=?.bin' }));
  assert.equal(head.ContentType, 'image/webp');
  assert.equal(head.ContentLength, Body.length);
  assert.deepEqual(head.Metadata, { who: 'ada' });
});

test('a range reads back without the checksum of the whole', beyondRclone('sends it all the same'), async () => {
  const Body = randomBytes(70_000);
  await aws.send(new s3.PutObjectCommand({ Bucket: BUCKET, Key: 'range', Body }));
  assert.deepEqual(await read('range', { Range: 'bytes=65530-65545' }), Body.subarray(65_530, 65_546));
});

test('the AWS SDK stores a stream in signed-trailer chunks', beyondRclone('wants a Content-Length'), async () => {
  const pieces = Array.from({ length: 50 }, () => randomBytes(10_000));
  await aws.send(
    new s3.PutObjectCommand({ Bucket: BUCKET, Key: 'stream', Body: Readable.from(pieces), ContentLength: 500_000 }),
  );
  assert.deepEqual(await read('stream'), Buffer.concat(pieces));
});

test('the AWS SDK uploads in parts and the whole reads back', async () => {
  const Body = randomBytes(17 << 20);
  const upload = new Upload({ client: aws, params: { Bucket: BUCKET, Key: 'parts', Body: Readable.from([Body]) }, partSize: 5 << 20 });
  await upload.done();
  const back = await read('parts');
  assert.equal(md5(back), md5(Body));
  const head = await aws.send(new s3.HeadObjectCommand({ Bucket: BUCKET, Key: 'parts' }));
  if (!onPile) assert.match(head.ETag, /-4"$/);
});

test('the AWS SDK learns of what parts an object was made', beyondRclone('knows no attributes'), async () => {
  const params = { Bucket: BUCKET, Key: 'told-parts', Body: Readable.from([randomBytes(11 << 20)]), ChecksumAlgorithm: 'SHA256' };
  await new Upload({ client: aws, params, partSize: 5 << 20 }).done();
  const told = async (input) => {
    const Target = { Bucket: BUCKET, Key: 'told-parts', ObjectAttributes: ['ObjectParts', 'ObjectSize'] };
    return (await aws.send(new s3.GetObjectAttributesCommand({ ...Target, ...input }))).ObjectParts;
  };
  const whole = await told({});
  assert.deepEqual([whole.TotalPartsCount, whole.IsTruncated], [3, false]);
  assert.deepEqual(whole.Parts.map(({ PartNumber, Size }) => [PartNumber, Size]), [[1, 5 << 20], [2, 5 << 20], [3, 1 << 20]]);
  assert.ok(whole.Parts.every(({ ChecksumSHA256 }) => Buffer.from(ChecksumSHA256, 'base64').length === 32));
  const second = await told({ MaxParts: 1, PartNumberMarker: '1' });
  assert.deepEqual([second.Parts.map(({ PartNumber }) => PartNumber), second.NextPartNumberMarker, second.IsTruncated], [[2], '2', true]);
});

test('an upload that was given up leaves nothing', async () => {
  const { UploadId } = await aws.send(new s3.CreateMultipartUploadCommand({ Bucket: BUCKET, Key: 'given-up' }));
  await aws.send(new s3.UploadPartCommand({ Bucket: BUCKET, Key: 'given-up', UploadId, PartNumber: 1, Body: randomBytes(1000) }));
  const listed = await aws.send(new s3.ListMultipartUploadsCommand({ Bucket: BUCKET }));
  assert.deepEqual(listed.Uploads.map((upload) => upload.Key), ['given-up']);
  await aws.send(new s3.AbortMultipartUploadCommand({ Bucket: BUCKET, Key: 'given-up', UploadId }));
  await assert.rejects(aws.send(new s3.ListPartsCommand({ Bucket: BUCKET, Key: 'given-up', UploadId })), { name: 'NoSuchUpload' });
  await assert.rejects(read('given-up'), { name: 'NoSuchKey' });
});

test('links signed by the AWS SDK work with plain fetch', async () => {
  const Body = randomBytes(5000);
  const write = await getSignedUrl(aws, new s3.PutObjectCommand({ Bucket: BUCKET, Key: 'signed' }), { expiresIn: 60 });
  assert.equal((await fetch(write, { method: 'PUT', body: Body })).status, 200);
  const link = await getSignedUrl(aws, new s3.GetObjectCommand({ Bucket: BUCKET, Key: 'signed' }), { expiresIn: 60 });
  assert.deepEqual(Buffer.from(await (await fetch(link)).arrayBuffer()), Body);
  assert.equal((await fetch(link.replace('X-Amz-Expires=60', 'X-Amz-Expires=6000'))).status, 403);
});

test('a wrong checksum is refused and stores nothing', beyondRclone('does not verify checksums'), async () => {
  const wrong = { Bucket: BUCKET, Key: 'wrong', Body: 'hello', ChecksumCRC32: 'AAAAAA==' };
  await assert.rejects(aws.send(new s3.PutObjectCommand(wrong)), { name: /BadDigest|InvalidDigest|XAmzContentChecksumMismatch/ });
  await assert.rejects(read('wrong'), { name: 'NoSuchKey' });
});

test('conditional writes keep the first one', beyondRclone('overwrites'), async () => {
  const first = { Bucket: BUCKET, Key: 'lock', IfNoneMatch: '*' };
  const tries = await Promise.allSettled(
    Array.from({ length: 8 }, (_, at) => aws.send(new s3.PutObjectCommand({ ...first, Body: String(at) }))),
  );
  assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1);
});

test('a wrong secret and an unknown key are told apart by their codes', async () => {
  const as = (accessKeyId, secretAccessKey) =>
    new s3.S3Client({
      endpoint: backend.env.AWS_ENDPOINT_URL_S3,
      region: backend.env.AWS_REGION,
      credentials: { accessKeyId, secretAccessKey },
      forcePathStyle: true,
      maxAttempts: 1,
    }).send(new s3.ListBucketsCommand({}));
  await assert.rejects(as(backend.env.AWS_ACCESS_KEY_ID, 'wrong'), { name: 'SignatureDoesNotMatch' });
  await assert.rejects(as('NOSUCHKEY00000000000', 'wrong'), { name: 'InvalidAccessKeyId' });
});

test('the minio client stores, lists, describes and removes', async () => {
  const minio = new Minio({
    endPoint: backend.env.MINIO_ENDPOINT,
    port: Number(backend.env.MINIO_PORT),
    useSSL: backend.env.MINIO_USE_SSL === 'true',
    accessKey: backend.env.MINIO_ACCESS_KEY,
    secretKey: backend.env.MINIO_SECRET_KEY,
  });
  await minio.makeBucket('minio-bucket', backend.env.AWS_REGION);
  for (const name of ['x/1', 'x/2', 'y']) await minio.putObject('minio-bucket', name, name, undefined, { 'X-Amz-Meta-N': name });
  const listed = [];
  for await (const entry of minio.listObjects('minio-bucket', '', false)) listed.push(entry.prefix ?? entry.name);
  assert.deepEqual(listed.sort(), ['x/', 'y']);
  assert.equal((await minio.statObject('minio-bucket', 'y')).metaData.n, 'y');
  if (!onPile) {
    await minio.setBucketTagging('minio-bucket', { team: 'web' });
    assert.deepEqual(await minio.getBucketTagging('minio-bucket'), [{ Key: 'team', Value: 'web' }]);
    await minio.setBucketEncryption('minio-bucket', { Rule: [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'AES256' } }] });
    await minio.removeBucketEncryption('minio-bucket');
    await minio.removeAllBucketNotification('minio-bucket');
  }
  await minio.removeObjects('minio-bucket', ['x/1', 'x/2', 'y']);
  await minio.removeBucket('minio-bucket');
  assert.equal(await minio.bucketExists('minio-bucket'), false);
});

test('the minio client opens a prefix to everybody, and uploads by form', beyondRclone('has no policies'), async () => {
  const minio = new Minio({
    endPoint: backend.env.MINIO_ENDPOINT,
    port: Number(backend.env.MINIO_PORT),
    useSSL: backend.env.MINIO_USE_SSL === 'true',
    accessKey: backend.env.MINIO_ACCESS_KEY,
    secretKey: backend.env.MINIO_SECRET_KEY,
  });
  const [bucket, base] = ['minio-open', backend.env.AWS_ENDPOINT_URL_S3];
  await minio.makeBucket(bucket, backend.env.AWS_REGION);
  await assert.rejects(minio.getBucketPolicy(bucket), { code: 'NoSuchBucketPolicy' });
  // As `mc anonymous set download` and most set-up scripts have it.
  const Principal = { AWS: ['*'] };
  const wanted = JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Principal, Action: ['s3:GetBucketLocation'], Resource: [`arn:aws:s3:::${bucket}`] },
      { Effect: 'Allow', Principal, Action: ['s3:ListBucket'], Resource: [`arn:aws:s3:::${bucket}`], Condition: { StringEquals: { 's3:prefix': ['public/'] } } },
      { Effect: 'Allow', Principal, Action: ['s3:GetObject'], Resource: [`arn:aws:s3:::${bucket}/public/*`] },
    ],
  });
  await minio.setBucketPolicy(bucket, wanted);
  assert.deepEqual(JSON.parse(await minio.getBucketPolicy(bucket)), JSON.parse(wanted));
  for (const name of ['public/a', 'private']) await minio.putObject(bucket, name, name);
  const status = async (path, more) => (await fetch(`${base}/${bucket}${path}`, more)).status;
  assert.equal(await (await fetch(`${base}/${bucket}/public/a`)).text(), 'public/a');
  assert.equal(await status('?list-type=2&prefix=public/'), 200);
  for (const path of ['/private', '?list-type=2', '?policy', '?uploads']) assert.equal(await status(path), 403, path);
  assert.equal(await status('/public/b', { method: 'PUT', body: 'x' }), 403);
  assert.equal(await status('/public/a', { method: 'DELETE' }), 403);

  const policy = minio.newPostPolicy();
  policy.setBucket(bucket);
  policy.setKeyStartsWith('in/');
  policy.setContentType('text/plain');
  policy.setContentLengthRange(1, 10);
  policy.setExpires(new Date(Date.now() + 60_000));
  const { postURL, formData } = await minio.presignedPostPolicy(policy);
  const post = (fields, file) => {
    const form = new FormData();
    for (const [name, value] of Object.entries({ ...formData, ...fields })) form.append(name, value);
    form.append('file', new Blob([file]), 'name.txt');
    return fetch(postURL, { method: 'POST', body: form });
  };
  assert.equal((await post({ key: 'in/${filename}' }, 'by form')).status, 204);
  const there = await minio.statObject(bucket, 'in/name.txt');
  assert.deepEqual([there.size, there.metaData['content-type']], [7, 'text/plain']);
  assert.equal((await post({ key: 'out' }, 'x')).status, 403);
  assert.equal((await post({ key: 'in/a', 'x-amz-meta-a': 'b' }, 'x')).status, 403);
  assert.match(await (await post({ key: 'in/a' }, 'more than ten')).text(), /EntityTooLarge/);
  await minio.setBucketPolicy(bucket, '');
  assert.equal(await status('/public/a'), 403);
});

test('what a lifecycle ends goes, and nothing else', { skip: onPile && 'proves Mainstay, not the pile' }, async (t) => {
  const server = await startMainstay({ data: folder(t), extra: { MAINSTAY_OBJECTS__LIFECYCLE_EVERY: '1s' } });
  undo(t, () => server.stop());
  const { env } = server;
  const minio = new Minio({ endPoint: env.MINIO_ENDPOINT, port: Number(env.MINIO_PORT), useSSL: false, accessKey: env.MINIO_ACCESS_KEY, secretKey: env.MINIO_SECRET_KEY });
  await minio.makeBucket('ends', env.AWS_REGION);
  for (const name of ['tmp/a', 'tmp/b', 'stays']) await minio.putObject('ends', name, name);
  const Rule = [{ ID: 'tmp', Status: 'Enabled', Filter: { Prefix: 'tmp/' }, Expiration: { Date: '2026-01-01T00:00:00.000Z' } }];
  await minio.setBucketLifecycle('ends', { Rule });
  assert.equal((await minio.getBucketLifecycle('ends')).Rule.ID, 'tmp');
  const names = async () => {
    const found = [];
    for await (const { name } of minio.listObjects('ends', '', true)) found.push(name);
    return found;
  };
  while ((await names()).length > 1) await new Promise((again) => setTimeout(again, 100));
  assert.deepEqual(await names(), ['stays']);
  await minio.removeBucketLifecycle('ends');
});

test('boto3 stores, copies, lists and removes', beyondRclone('keeps no user metadata'), async () => {
  const env = { ...process.env, ...backend.env };
  assert.match(await output(python, [join(clients, 'python/boto3_roundtrip.py')], { env }), /ok/);
});

test('rclone copies a folder there and back and finds no difference', async (t) => {
  const here = folder(t);
  mkdirSync(join(here, 'tree/deep/er'), { recursive: true });
  for (const [name, size] of [['one.txt', 10], ['deep/two.bin', 300_000], ['deep/er/three ü.bin', 9 << 20]]) {
    writeFileSync(join(here, 'tree', name), randomBytes(size));
  }
  const env = {
    ...process.env,
    RCLONE_CONFIG: join(here, 'rclone.conf'),
    RCLONE_CONFIG_S_TYPE: 's3',
    RCLONE_CONFIG_S_PROVIDER: 'Other',
    RCLONE_CONFIG_S_ENDPOINT: backend.env.AWS_ENDPOINT_URL_S3,
    RCLONE_CONFIG_S_REGION: backend.env.AWS_REGION,
    RCLONE_CONFIG_S_ACCESS_KEY_ID: backend.env.AWS_ACCESS_KEY_ID,
    RCLONE_CONFIG_S_SECRET_ACCESS_KEY: backend.env.AWS_SECRET_ACCESS_KEY,
    RCLONE_S3_CHUNK_SIZE: '5M',
    RCLONE_S3_UPLOAD_CUTOFF: '8M',
    RCLONE_RETRIES: '1',
  };
  const rclone = (...words) => output(join(python, '../rclone'), words, { env });
  writeFileSync(env.RCLONE_CONFIG, '');
  await rclone('mkdir', 's:rclone-bucket');
  await rclone('copy', join(here, 'tree'), 's:rclone-bucket/tree');
  await rclone('check', '--download', join(here, 'tree'), 's:rclone-bucket/tree');
  await rclone('copy', 's:rclone-bucket/tree', join(here, 'back'));
  await rclone('check', '--download', join(here, 'tree'), join(here, 'back'));
  await rclone('purge', 's:rclone-bucket');
});
