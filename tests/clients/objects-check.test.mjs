// `mainstay objects check`, `scrub` and `sweep` on a running server: what is whole, and what somebody has taken a hand to.

import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readSync, statSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
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
  const client = s3Client(env);
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

test('a scrub finds what was changed on disk, and whoever asks is told', { skip }, async (t) => {
  const data = folder(t);
  let server = await startMainstay({ data });
  undo(t, () => server.stop());
  const { env } = server;
  const client = s3Client(env);
  await client.send(new s3.CreateBucketCommand({ Bucket: 'photos' }));
  const put = (key, bytes) => client.send(new s3.PutObjectCommand({ Bucket: 'photos', Key: key, Body: content(key, bytes) }));
  await put('kept', 200_000);
  const before = blobs(data);
  await put('a b/ü.jpg', 1_000_000);
  const file = blobs(data).find((path) => !before.includes(path));
  const objects = (...words) => command(data, ['objects', ...words]);
  const status = async () => (await command(data, ['status'])).stdout;
  const v1 = async (method = 'GET') => {
    const answer = await fetch(`${server.env.MAINSTAY_URL}/v1/scrub`, { method, headers: { authorization: `Bearer ${server.env.MAINSTAY_API_TOKEN}` } });
    return [answer.status, await answer.json()];
  };

  // A pass begins with the server, and one that has begun before the objects came may not have seen them.
  while (!JSON.parse((await objects('scrub', '--status', '--json')).stdout).status.last);
  const whole = await objects('scrub', '--wait');
  assert.equal(whole.code, 0, whole.stdout + whole.stderr);
  assert.match(whole.stdout, /^last from \S+ to \S+: objects: 2, uploads in progress: 0, damaged: 0, 1\.1 MiB$/m);
  assert.match(await status(), /^ {2}scrub +works$/m);

  flip(file);
  const found = await objects('scrub', '--wait');
  assert.equal(found.code, 1);
  assert.match(found.stdout, /^photos\/a b\/ü\.jpg: a segment does not verify, found \S+$/m);
  assert.match(found.stderr, /damaged: 1; a backup may still have them/);
  assert.match(await status(), /^ {2}scrub +damaged: 1; .*scrub --status/m);
  assert.match(await status(), /is ready/);
  assert.equal((await command(data, ['healthcheck'])).code, 0);
  const [code, told] = await v1();
  assert.deepEqual([code, told.running, told.damaged, told.last.counts.objects], [200, null, 1, 2]);
  const { found_at, ...damage } = told.damage[0];
  assert.deepEqual(damage, { bucket: 'photos', key: 'a b/ü.jpg', version: null, upload_part: null, what: 'a segment does not verify' });
  assert.ok(Date.parse(found_at) <= Date.now());
  assert.match(await (await fetch(`${env.MAINSTAY_URL}/metrics`)).text(), /^mainstay_objects_damaged 1$/m);

  // It is known after a restart, too.
  await server.stop();
  server = await startMainstay({ data });
  const again = JSON.parse((await objects('scrub', '--status', '--json')).stdout);
  assert.deepEqual([again.begun, again.status.damage.length, again.status.pass], [false, 1, told.pass]);

  await s3Client(server.env).send(new s3.PutObjectCommand({ Bucket: 'photos', Key: 'a b/ü.jpg', Body: content('new', 300_000) }));
  assert.equal((await v1())[1].damaged, 0);
  assert.equal((await v1('POST'))[0], 202);
  assert.equal((await objects('scrub', '--wait')).code, 0);
  assert.match(await status(), /^ {2}scrub +works$/m);
});

test('a sweep that is asked for removes what an upload left, and only notes what might be wanted', { skip }, async (t) => {
  const data = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  // The start has a sweep of its own, and so have the jobs: they would find the same.
  const over = (text) => server.lines.some((line) => line.includes(text));
  while (!over('leftovers of the last run are swept') || !over('leftovers are swept')) await new Promise(setImmediate);
  const id = 'ab'.repeat(16);
  const at = join(data, 'objects/blobs/ab');
  writeFileSync(join(at, `${id}.tmp`), 'half');
  writeFileSync(join(at, 'abcd'.padEnd(32, '0')), 'whole, and nothing names it');
  const { code, stdout, stderr } = await command(data, ['objects', 'sweep', '--json']);
  assert.equal(code, 0, stderr);
  const { temporaries, blobs: seen, orphans, quarantined, in_quarantine } = JSON.parse(stdout);
  assert.deepEqual([temporaries, seen, orphans, quarantined, in_quarantine], [1, 1, 1, 0, 0]);
  assert.deepEqual(readdirSync(at), ['abcd'.padEnd(32, '0')]);
  assert.match((await command(data, ['objects', 'sweep'])).stdout, /^files nothing refers to: 1, moved to quarantine: 0$/m);
});
