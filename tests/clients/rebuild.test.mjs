// `mainstay objects rebuild-index`: objects.redb is gone, and everything an export or a stored file tells of comes back.

import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, readdirSync, renameSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { s3Client } from './support/s3.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const MIB = 1 << 20;

function connect({ env }) {
  const client = s3Client(env);
  return (name, input) => client.send(new s3[`${name}Command`](input));
}

/** Numbers of the exports there are, oldest first. */
function exports_(data) {
  const names = readdirSync(join(data, 'objects/index')).filter((name) => /^export-[0-9a-f]{16}$/.test(name));
  return names.map((name) => parseInt(name.slice(7), 16)).sort((a, b) => a - b);
}

/** Waits until so many exports are there that began after this moment. */
async function exported(data, count = 1) {
  const newest = exports_(data).at(-1) ?? 0;
  // The next one may be under way already.
  while ((exports_(data).at(-1) ?? 0) < newest + 1 + count) await new Promise((resolve) => { setImmediate(resolve); });
}

async function putInParts(send, Bucket, Key, sizes) {
  const metadata = { ContentType: 'video/mp4', Metadata: { seen: 'by nobody' } };
  const { UploadId } = await send('CreateMultipartUpload', { Bucket, Key, ...metadata });
  const Parts = [];
  for (const [at, size] of sizes.entries()) {
    const Body = content(`${Key}-${at}`, size);
    const { ETag } = await send('UploadPart', { Bucket, Key, UploadId, PartNumber: at + 1, Body });
    Parts.push({ ETag, PartNumber: at + 1 });
  }
  await send('CompleteMultipartUpload', { Bucket, Key, UploadId, MultipartUpload: { Parts } });
}

/** Every version of every bucket, with its bytes, and what is set. */
async function state(send) {
  const out = {};
  for (const { Name: Bucket } of (await send('ListBuckets', {})).Buckets) {
    const { Status } = await send('GetBucketVersioning', { Bucket });
    const tags = await send('GetBucketTagging', { Bucket }).then(({ TagSet }) => TagSet, (error) => error.name);
    const rules = await send('GetBucketLifecycleConfiguration', { Bucket }).then(({ Rules }) => Rules, (error) => error.name);
    out[Bucket] = JSON.stringify({ Status, tags, rules });
    const { Versions = [], DeleteMarkers = [] } = await send('ListObjectVersions', { Bucket });
    for (const { Key, VersionId, IsLatest, LastModified } of DeleteMarkers) {
      out[`${Bucket}/${Key} ${VersionId}`] = JSON.stringify({ IsLatest, LastModified });
    }
    for (const { Key, VersionId, IsLatest, ETag, Size, LastModified } of Versions) {
      const { Body, ContentType, Metadata } = await send('GetObject', { Bucket, Key, VersionId });
      const bytes = Buffer.from(await Body.transformToByteArray());
      const { TagSet } = await send('GetObjectTagging', { Bucket, Key, VersionId });
      const told = JSON.stringify({ IsLatest, ETag, Size, LastModified, ContentType, Metadata, TagSet });
      out[`${Bucket}/${Key} ${VersionId}`] = `${told} ${bytes.toString('base64')}`;
    }
  }
  return out;
}

/** A server with two buckets of all sorts, and how to speak to it. */
async function filled(t, data) {
  const server = await startMainstay({ data, extra: { MAINSTAY_OBJECTS__EXPORT_EVERY: '100ms' } });
  undo(t, () => server.stop());
  const send = connect(server);
  const put = (Bucket, Key, size, more = {}) => send('PutObject', { Bucket, Key, Body: content(Key, size), ...more });
  for (const Bucket of ['photos', 'kept']) await send('CreateBucket', { Bucket });
  await send('PutBucketVersioning', { Bucket: 'kept', VersioningConfiguration: { Status: 'Enabled' } });
  await send('PutBucketTagging', { Bucket: 'photos', Tagging: { TagSet: [{ Key: 'team', Value: 'a' }] } });
  const rule = { ID: 'old', Status: 'Enabled', Filter: { Prefix: 'tmp/' }, Expiration: { Days: 3 } };
  await send('PutBucketLifecycleConfiguration', { Bucket: 'kept', LifecycleConfiguration: { Rules: [rule] } });
  for (let at = 0; at < 50; at += 1) await put('photos', `small/${at}`, at * 20, { Metadata: { nth: `${at}` }, Tagging: 'a=b' });
  for (const size of [8192, 8193, 300_000, 2 * MIB]) await put('photos', `large/${size} ü`, size, { ContentType: 'image/png' });
  for (const size of [10, 20_000, 30, 40_000]) await put('kept', 'over', size);
  await put('kept', 'deleted', 100);
  await send('DeleteObject', { Bucket: 'kept', Key: 'deleted' });
  await putInParts(send, 'kept', 'film', [5 * MIB, 100_000]);
  return { server, send, put };
}

async function started(t, data) {
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  return connect(server);
}

test('an index that is gone comes back byte for byte, small objects too', { skip }, async (t) => {
  const data = folder(t);
  const { server, send, put } = await filled(t, data);
  await exported(data);
  const running = await command(data, ['objects', 'rebuild-index']);
  assert.equal(running.code, 1);
  assert.match(running.stderr, /is in use by the Mainstay with process id/);
  await server.stop();
  // A clean stop makes no export: what comes now is told by stored files alone.
  const again = await startMainstay({ data, extra: { MAINSTAY_OBJECTS__EXPORT_EVERY: '0s' } });
  undo(t, () => again.stop());
  const later = connect(again);
  await later('PutObject', { Bucket: 'photos', Key: 'later', Body: content('later', 100_000), Metadata: { who: 'me' } });
  await putInParts(later, 'photos', 'later in parts', [5 * MIB, 5 * MIB, 7]);
  await later('CreateBucket', { Bucket: 'younger' });
  await later('PutBucketTagging', { Bucket: 'younger', Tagging: { TagSet: [{ Key: 'x', Value: 'y' }] } });
  const { UploadId } = await later('CreateMultipartUpload', { Bucket: 'photos', Key: 'unfinished' });
  const part = { Bucket: 'photos', Key: 'unfinished', UploadId, PartNumber: 1 };
  const { ETag } = await later('UploadPart', { ...part, Body: content('part', 6 * MIB) });
  const before = await state(later);
  await again.stop();
  assert.ok(send && put);
  renameSync(join(data, 'objects.redb'), join(data, 'aside'));

  // Buckets without an index are no empty server.
  await assert.rejects(startMainstay({ data, quick: true }), /mainstay objects rebuild-index/);
  const dry = await command(data, ['objects', 'rebuild-index', '--dry-run', '--json']);
  assert.equal(dry.code, 0, dry.stderr);
  const report = JSON.parse(dry.stdout);
  assert.deepEqual([report.buckets, report.objects, report.from_blobs, report.uploads], [3, 62, 2, 1]);
  assert.deepEqual([report.lost, report.unreadable, report.notes, report.left], [[], [], [], 0]);
  assert.ok(!readdirSync(data).some((name) => name.startsWith('objects.redb')));
  const real = await command(data, ['objects', 'rebuild-index']);
  assert.equal(real.code, 0, real.stderr);
  assert.match(real.stdout, /^from export \d+ of .*: small objects \(up to 8 KiB\) stored since that moment are lost/);
  assert.match(real.stdout, /buckets: 3, objects: 62 \(2 of them from stored files alone\), uploads in progress: 1, /);

  const after = await started(t, data);
  const there = await state(after);
  for (const [at, told] of Object.entries(before)) assert.ok(there[at] === told, at);
  assert.deepEqual(Object.keys(there).sort(), Object.keys(before).sort());
  const MultipartUpload = { Parts: [{ ETag, PartNumber: 1 }] };
  await after('CompleteMultipartUpload', { Bucket: 'photos', Key: 'unfinished', UploadId, MultipartUpload });
  const found = await after('GetObject', { Bucket: 'photos', Key: 'unfinished' });
  assert.ok(content('part', 6 * MIB).equals(Buffer.from(await found.Body.transformToByteArray())));
  const check = await command(data, ['objects', 'check', '--read-data']);
  assert.equal(check.code, 0, check.stdout + check.stderr);
  const quotas = await command(data, ['buckets', '--json']);
  assert.equal(JSON.parse(quotas.stdout).reduce((sum, { objects }) => sum + objects, 0), 63);
});

test('without an export stored files are there, small objects are gone, and the command says so', { skip }, async (t) => {
  const data = folder(t);
  const { server, send } = await filled(t, data);
  const before = await state(send);
  await server.stop();
  rmSync(join(data, 'objects.redb'));
  for (const name of readdirSync(join(data, 'objects/index'))) rmSync(join(data, 'objects/index', name));
  const { code, stdout, stderr } = await command(data, ['objects', 'rebuild-index']);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^no export of the index could be read: all small objects \(up to 8 KiB\) are lost/);
  const there = await state(await started(t, data));
  assert.equal(there.photos, before.photos);
  assert.equal(there.kept, before.kept);
  const keys = Object.keys(there).filter((at) => at.includes('/')).map((at) => at.slice(0, at.lastIndexOf(' ')));
  assert.deepEqual(keys.sort(), [
    'kept/film', 'kept/over', 'kept/over', 'photos/large/2097152 ü', 'photos/large/300000 ü', 'photos/large/8193 ü',
  ]);
  for (const [at, told] of Object.entries(there).filter(([at]) => at.startsWith('photos/'))) assert.ok(before[at] === told, at);
  const film = Object.entries(there).find(([at]) => at.startsWith('kept/film'))[1];
  assert.ok(Object.entries(before).some(([at, told]) => at.startsWith('kept/film') && told === film));
});

test('a damaged index is not served, and gives way to a new one that is kept beside it', { skip }, async (t) => {
  const data = folder(t);
  const { server, send } = await filled(t, data);
  // The newest will be damaged, and the one before is to have everything too.
  await exported(data, 2);
  const before = await state(send);
  await server.stop();
  const path = join(data, 'objects.redb');
  writeFileSync(path, Buffer.alloc(statSync(path).size, 7));
  await assert.rejects(startMainstay({ data, quick: true }), /mainstay objects rebuild-index/);
  // The newest export is damaged as well: there is the one before.
  const newest = join(data, 'objects/index', `export-${exports_(data).at(-1).toString(16).padStart(16, '0')}`);
  const [file, at, byte] = [openSync(newest, 'r+'), statSync(newest).size >> 1, Buffer.alloc(1)];
  readSync(file, byte, 0, 1, at);
  byte[0] ^= 8;
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
  const { code, stdout, stderr } = await command(data, ['objects', 'rebuild-index']);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^exports that are damaged:\n {2}export \d+: some of it does not verify\nfrom export \d+ of /);
  assert.equal(readdirSync(data).filter((name) => name.startsWith('objects.redb.before-rebuild-')).length, 1);
  const there = await state(await started(t, data));
  for (const [at, told] of Object.entries(before)) assert.ok(there[at] === told, at);
  assert.deepEqual(Object.keys(there).sort(), Object.keys(before).sort());
});
