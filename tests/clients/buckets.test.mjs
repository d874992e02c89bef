// `mainstay buckets`: quotas and rules for files, held against stock SDKs: many writers at once, overwriting, copies, uploads in
// parts, forms.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { Client as Minio } from 'minio';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { s3Client } from './support/s3.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const MIB = 1024 * 1024;

test('a bucket holds no more than its quota, whoever writes how', { skip }, async (t) => {
  const data = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  const { env } = server;
  const client = s3Client(env);
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

test('a bucket takes the files its rules allow, and gives them out as downloads', { skip }, async (t) => {
  const data = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  const { env } = server;
  const client = s3Client(env);
  const send = (Command, input) => client.send(new Command({ Bucket: 'uploads', ...input }));
  const refused = (promise, code) => assert.rejects(promise, (error) => {
    assert.deepEqual([error.name, error.$metadata.httpStatusCode], [code, 400], error.message);
    return true;
  });
  const png = (more) => Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.alloc(more)]);
  const html = Buffer.from('<!doctype html><script>alert(1)</script>');
  await send(s3.CreateBucketCommand, {});
  await send(s3.PutObjectCommand, { Key: 'page.html', Body: html, ContentType: 'text/html' });
  const set = await command(data, ['buckets', 'set', 'uploads', '--max-file', '6MiB', '--types', 'image/*,application/pdf',
    '--extensions', 'png,pdf', '--serve-as-download', 'true']);
  assert.equal(set.code, 0, set.stderr);
  assert.match(set.stdout, /, files of at most 6\.0 MiB, types image\/\* application\/pdf, endings png pdf, as downloads\n$/);

  const put = (Key, Body, ContentType) => send(s3.PutObjectCommand, { Key, Body, ContentType });
  await put('a.png', png(100_000), 'image/png');
  await refused(put('b.png', html, 'image/png'), 'InvalidArgument');
  await refused(put('b.png', html), 'InvalidArgument');
  await refused(put('b.exe', png(10), 'image/png'), 'InvalidArgument');
  await refused(put('b.png', png(7 * MIB), 'image/png'), 'EntityTooLarge');
  await refused(send(s3.CopyObjectCommand, { Key: 'b.png', CopySource: 'uploads/page.html' }), 'InvalidArgument');
  await send(s3.CopyObjectCommand, { Key: 'c.png', CopySource: 'uploads/a.png' });

  const { UploadId } = await send(s3.CreateMultipartUploadCommand, { Key: 'd.png', ContentType: 'image/png' });
  const part = async (PartNumber, Body) => {
    const { ETag } = await send(s3.UploadPartCommand, { Key: 'd.png', UploadId, PartNumber, Body });
    return { PartNumber, ETag };
  };
  const complete = (...Parts) => send(s3.CompleteMultipartUploadCommand, { Key: 'd.png', UploadId, MultipartUpload: { Parts } });
  await refused(part(1, html), 'InvalidArgument');
  const first = await part(1, png(5 * MIB));
  await refused(complete(first, await part(2, png(2 * MIB))), 'EntityTooLarge');
  await complete(first, await part(2, png(100)));
  const { Contents } = await send(s3.ListObjectsV2Command, {});
  assert.deepEqual(Contents.map(({ Key }) => Key), ['a.png', 'c.png', 'd.png', 'page.html']);

  // A form is held to it too.
  const minio = new Minio({ endPoint: env.MINIO_ENDPOINT, port: Number(env.MINIO_PORT), useSSL: false, accessKey: env.MINIO_ACCESS_KEY, secretKey: env.MINIO_SECRET_KEY });
  const policy = minio.newPostPolicy();
  policy.setBucket('uploads');
  policy.setKey('e.png');
  policy.setContentType('image/png');
  policy.setExpires(new Date(Date.now() + 60_000));
  const { postURL, formData } = await minio.presignedPostPolicy(policy);
  const form = async (bytes) => {
    const body = new FormData();
    for (const [name, value] of Object.entries(formData)) body.append(name, value);
    body.append('file', new Blob([bytes]));
    return fetch(postURL, { method: 'POST', body });
  };
  const disguised = await form(html);
  assert.deepEqual([disguised.status, (await disguised.text()).includes('<Code>InvalidArgument</Code>')], [400, true]);
  assert.equal((await form(png(10))).status, 204);

  const page = await send(s3.GetObjectCommand, { Key: 'page.html', ResponseContentDisposition: 'inline; filename="x.html"' });
  assert.equal(page.ContentDisposition, 'attachment; filename="x.html"');
  const address = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket: 'uploads', Key: 'page.html' }));
  const { headers } = await fetch(address);
  assert.equal(headers.get('content-disposition'), 'attachment');
  assert.match(headers.get('content-security-policy'), /^sandbox; default-src 'none'/);
  assert.equal(headers.get('x-content-type-options'), 'nosniff');
});
