// Bodies of objects at another S3 service: used as on the disk, sealed there, moved while in use, killed, rebuilt, backed up.

import assert from 'node:assert/strict';
import { copyFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { Upload } from '@aws-sdk/lib-storage';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { Ledger, content, work } from './support/ledger.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import {
  NAME, bodiesIn, bytesOf, coldAt, eventually, mainstayRemote, moveOf, speakTo, sweptTo, told,
} from './support/remote.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const MIB = 1 << 20;
/** What is not larger lies in the index. */
const SMALL = 8192;

/** A server whose backend `cold` is `remote`. */
async function serverWith(t, remote, more) {
  const [data, extra] = [folder(t), coldAt(t, remote, more)];
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  return { data, extra, server, send: speakTo(t, server) };
}

async function v1(server, method, path, body) {
  const { MAINSTAY_URL: url, MAINSTAY_API_TOKEN: token } = server.env;
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const answer = await fetch(`${url}/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  return [answer.status, await answer.json()];
}

/** Every object of a bucket with its size. */
async function sizes(send, Bucket) {
  const out = new Map();
  for (let ContinuationToken; ; ) {
    const page = await send('ListObjectsV2', { Bucket, ContinuationToken });
    for (const { Key, Size } of page.Contents ?? []) out.set(Key, Size);
    ContinuationToken = page.NextContinuationToken;
    if (!ContinuationToken) return out;
  }
}

const large = (all) => [...all.values()].filter((size) => size > SMALL).length;

test('a bucket at a remote is used as one on the disk, and nobody there can tell what is in it', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const { data, extra, server, send } = await serverWith(t, remote, { objects: { default_backend: 'cold' } });
  const Bucket = 'secret-plans';
  await send('CreateBucket', { Bucket });
  assert.deepEqual((await v1(server, 'POST', '/buckets', { name: 'here', backend: 'local' }))[0], 201);
  const [, { backend, move }] = await v1(server, 'GET', `/buckets/${Bucket}`);
  assert.deepEqual([backend, move], ['cold', null]);
  const mark = Buffer.from('THE PLAINTEXT OF A SECRET PLAN. ');
  const marked = (size) => Buffer.alloc(size, mark);
  const read = async (Key, more) => bytesOf(await send('GetObject', { Bucket, Key, ...more }));

  const whole = { 'a/small': marked(100), 'a/edge': marked(SMALL + 1), 'b ü/photo.jpg': content('photo', 300_000), 'b/large': content('large', 3 * MIB) };
  for (const [Key, Body] of Object.entries(whole)) await send('PutObject', { Bucket, Key, Body, ContentType: 'image/png', Metadata: { of: 'plan' } });
  await send('PutObject', { Bucket: 'here', Key: 'stays', Body: marked(50_000) });
  const film = content('film', 6 * MIB);
  await new Upload({ client: send.client, partSize: 5 * MIB, params: { Bucket, Key: 'c/film', Body: film } }).done();
  await send('CopyObject', { Bucket, Key: 'copied', CopySource: `${Bucket}/c/film` });
  await send('CopyObject', { Bucket, Key: 'from here', CopySource: 'here/stays' });
  const all = { ...whole, 'c/film': film, copied: film, 'from here': marked(50_000) };
  for (const [Key, bytes] of Object.entries(all)) {
    assert.ok((await read(Key)).equals(bytes), Key);
    const from = Math.floor(bytes.length / 3);
    const until = Math.min(bytes.length, from + 200_000);
    assert.ok((await read(Key, { Range: `bytes=${from}-${until - 1}` })).equals(bytes.subarray(from, until)), `a range of ${Key}`);
    assert.ok((await read(Key, { Range: 'bytes=-17' })).equals(bytes.subarray(-17)), `the end of ${Key}`);
  }
  const { ContentType, Metadata, ETag } = await send('HeadObject', { Bucket, Key: 'b/large' });
  assert.deepEqual([ContentType, Metadata.of], ['image/png', 'plan']);
  await assert.rejects(send('PutObject', { Bucket, Key: 'b/large', Body: 'x', IfNoneMatch: '*' }), { name: 'PreconditionFailed' });
  await send('PutObject', { Bucket, Key: 'b/large', Body: content('anew', 100_000), IfMatch: ETag });
  assert.ok((await read('b/large')).equals(content('anew', 100_000)));
  assert.deepEqual([...(await sizes(send, Bucket)).keys()], [...Object.keys(all)].sort());

  // One bucket is here, and of the other nothing but what is in the index, and what tells of parts.
  await eventually(() => bodiesIn(data).length === 2);
  // Five objects in one body each; the other has two parts, and a body here that tells of them.
  await sweptTo(data, extra, remote, 7);
  for (const [at] of await remote.list()) {
    assert.match(at, NAME);
    const bytes = await remote.read(at);
    const secrets = [mark, ...[Bucket, 'photo.jpg', 'c/film', 'image/png'].map((text) => Buffer.from(text)), content('photo', 32), content('film', 32)];
    for (const secret of secrets) assert.ok(!bytes.includes(secret), `${at} has ${secret}`);
  }
  const check = await told(data, ['objects', 'check', '--read-data'], extra);
  assert.match(check, /objects: 8, uploads in progress: 0, .*, damaged: 0$/m);

  const unfinished = await send('CreateMultipartUpload', { Bucket, Key: 'unfinished' });
  await send('UploadPart', { Bucket, Key: 'unfinished', UploadId: unfinished.UploadId, PartNumber: 1, Body: content('part', 100_000) });
  await send('AbortMultipartUpload', { Bucket, Key: 'unfinished', UploadId: unfinished.UploadId });
  const Objects = Object.keys(all).map((Key) => ({ Key }));
  assert.equal((await send('DeleteObjects', { Bucket, Delete: { Objects } })).Errors, undefined);
  await assert.rejects(read('c/film'), { name: 'NoSuchKey' });
  await sweptTo(data, extra, remote, 0);
  assert.equal(await remote.uploads(), 0, 'no upload is left over there');
  await send('DeleteBucket', { Bucket });
  const metrics = await (await fetch(`${server.env.MAINSTAY_URL}/metrics`)).text();
  assert.match(metrics, /^mainstay_objects_backend_failures_total\{backend="cold"\} 0$/m);
});

test('a bucket moves to a remote and back while clients use it, without one wrong answer', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const { data, extra, server, send } = await serverWith(t, remote);
  const Bucket = 'moving';
  await send('CreateBucket', { Bucket });
  const SIZES = [100, SMALL + 1, 70_000, 300_000, 600_000];
  for (let at = 0; at < 15; at += 1) await send('PutObject', { Bucket, Key: `old/${at}`, Body: content(`old/${at}`, SIZES[at % SIZES.length]) });

  let goesOn = true;
  const seen = { puts: 0, gets: 0, deletes: 0 };
  /** Writes, overwrites, reads and deletes keys of its own, one after the other. */
  const client = async (who) => {
    const has = new Map();
    for (let nth = 0; goesOn; nth += 1) {
      const Key = `${who}/${nth % 7}`;
      const seed = `${Key} ${nth}`;
      const Body = content(seed, SIZES[(nth + who.length) % SIZES.length]);
      await send('PutObject', { Bucket, Key, Body });
      has.set(Key, Body);
      seen.puts += 1;
      const [other, bytes] = [...has][nth % has.size];
      assert.ok((await bytesOf(await send('GetObject', { Bucket, Key: other }))).equals(bytes), `${other} after ${seed}`);
      const at = nth % 15;
      const old = content(`old/${at}`, SIZES[at % SIZES.length]);
      const from = old.length >> 1;
      const part = await bytesOf(await send('GetObject', { Bucket, Key: `old/${at}`, Range: `bytes=${from}-` }));
      assert.ok(part.equals(old.subarray(from)), `old/${at}`);
      seen.gets += 2;
      if (nth % 5 === 4) {
        await send('DeleteObject', { Bucket, Key: other });
        has.delete(other);
        seen.deletes += 1;
        await assert.rejects(send('GetObject', { Bucket, Key: other }), { name: 'NoSuchKey' });
      }
    }
    return has;
  };
  const clients = Promise.all(['a', 'bb'].map(client));
  const moved = async (to) => {
    const before = seen.puts;
    await told(data, ['objects', 'move', Bucket, '--to', to], extra);
    const done = command(data, ['objects', 'move', Bucket, '--wait', '--json'], extra);
    const { code, stdout, stderr } = await Promise.race([done, clients.then(() => assert.fail('a client ended'))]);
    assert.equal(code, 0, stdout + stderr);
    const status = JSON.parse(stdout);
    assert.deepEqual([status.to, status.stayed, status.trouble], [to, 0, null]);
    assert.ok(status.ended && status.moved > 0);
    t.diagnostic(`to ${to}: ${status.moved} bodies, ${status.bytes} bytes; written meanwhile: ${seen.puts - before}`);
    await eventually(() => seen.puts > before + 20);
  };
  await moved('cold');
  assert.equal((await v1(server, 'GET', `/buckets/${Bucket}`))[1].backend, 'cold');
  await moved('local');
  goesOn = false;
  for (const has of await clients) {
    for (const [Key, bytes] of has) assert.ok((await bytesOf(await send('GetObject', { Bucket, Key }))).equals(bytes), Key);
  }
  t.diagnostic(`${seen.puts} written, ${seen.gets} read, ${seen.deletes} deleted`);
  // Everything is there, and nothing twice.
  await told(data, ['objects', 'move', Bucket, '--to', 'cold', '--wait'], extra);
  await sweptTo(data, extra, remote, large(await sizes(send, Bucket)));
  await eventually(() => bodiesIn(data).length === 0);
  await told(data, ['objects', 'move', Bucket, '--to', 'local', '--wait'], extra);
  await sweptTo(data, extra, remote, 0);
  assert.equal(bodiesIn(data).length, large(await sizes(send, Bucket)));
  await told(data, ['objects', 'check', '--read-data'], extra);
});

test('kill -9 in the middle of moves and uploads loses nothing, and the move goes on', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  // Slow, so that the kill comes in the middle.
  const slow = coldAt(t, remote, { objects: { move_rate: '1MiB' } });
  const fast = coldAt(t, remote);
  const data = folder(t);
  const Bucket = 'ledger';
  let server = await startMainstay({ data, extra: slow });
  undo(t, () => server.stop());
  await speakTo(t, server)('CreateBucket', { Bucket });
  const ledger = new Ledger(join(folder(t), 'ledger'));
  undo(t, () => ledger.close());
  const first = speakTo(t, server);
  for (let at = 0; at < 40; at += 1) await first('PutObject', { Bucket, Key: `old/${at}`, Body: content(`old/${at}`, 300_000) });
  const sizeOf = (number) => [100, 20_000, 400_000, number === 3 ? 9 * MIB : 100_000][number % 4];

  for (const [round, to] of ['cold', 'local'].entries()) {
    const send = speakTo(t, server);
    await told(data, ['objects', 'move', Bucket, '--to', to], slow);
    const names = ['s0', 's1', 's2'].map((who) => `${who}-${round}`);
    const workers = Promise.all(names.map((who) => work(ledger, who, (number) =>
      send('PutObject', { Bucket, Key: `${who}/${number}`, Body: content(`${who}/${number}`, sizeOf(number)) }))));
    await ledger.after(12, 's');
    await eventually(async () => (await moveOf(data, Bucket, slow)).moved >= 3);
    const { moved, ended } = await moveOf(data, Bucket, slow);
    assert.equal((await server.kill()).signal, 'SIGKILL');
    await workers;

    server = await startMainstay({ data, extra: fast });
    const after = speakTo(t, server);
    const check = async (Key, bytes) => assert.ok((await bytesOf(await after('GetObject', { Bucket, Key }))).equals(bytes), Key);
    for (let at = 0; at < 40; at += 1) await check(`old/${at}`, content(`old/${at}`, 300_000));
    for (const [who, count] of ledger.read()) {
      for (let number = 0; number < count; number += 1) await check(`${who}/${number}`, content(`${who}/${number}`, sizeOf(number)));
    }
    const { code, stdout, stderr } = await command(data, ['objects', 'move', Bucket, '--wait', '--json'], fast);
    assert.equal(code, 0, stdout + stderr);
    const status = JSON.parse(stdout);
    assert.deepEqual([status.to, status.stayed, status.trouble], [to, 0, null]);
    const count = large(await sizes(after, Bucket));
    // What was on its way at a kill is deleted an hour later, as a service may carry out late what it was sent.
    const there = to === 'cold' ? count : 0;
    // Here a whole file that nothing names is put aside a day later.
    const most = (names.length + 1) * (round + 1);
    await eventually(async () => {
      await told(data, ['objects', 'sweep'], fast);
      const more = [(await remote.list()).length - there, bodiesIn(data).length - (count - there)];
      assert.ok(Math.min(...more) >= 0, `${more}`);
      return Math.max(...more) <= most;
    });
    assert.ok(await remote.uploads() <= most, 'uploads are left over there');
    await told(data, ['objects', 'check', '--read-data'], fast);
    t.diagnostic(`round ${round + 1}: killed ${ended ? 'after' : `with ${moved} bodies on`} the way to ${to}, ${count} afterwards`);
    await server.stop();
    server = await startMainstay({ data, extra: slow });
  }
});

test('a lost index comes back with what is at a remote', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const { data, extra, server, send } = await serverWith(t, remote, { objects: { default_backend: 'cold', export_every: '0s' } });
  const Bucket = 'photos';
  await send('CreateBucket', { Bucket });
  await v1(server, 'POST', '/buckets', { name: 'here', backend: 'local' });
  const all = { 'a ü': content('a', 300_000), b: content('b', 2 * MIB), 'c/d': content('c', 20_000) };
  for (const [Key, Body] of Object.entries(all)) await send('PutObject', { Bucket, Key, Body, Metadata: { nth: Key.slice(0, 1) } });
  all.film = content('film', 6 * MIB);
  await new Upload({ client: send.client, partSize: 5 * MIB, params: { Bucket, Key: 'film', Body: all.film } }).done();
  await send('PutObject', { Bucket: 'here', Key: 'stays', Body: content('stays', 50_000) });
  const there = await remote.list();
  await server.stop();
  renameSync(join(data, 'objects.redb'), join(data, 'aside'));

  const dry = JSON.parse(await told(data, ['objects', 'rebuild-index', '--dry-run', '--json'], extra));
  assert.deepEqual([dry.buckets, dry.objects, dry.lost, dry.unreadable], [2, 5, [], []]);
  await told(data, ['objects', 'rebuild-index'], extra);
  assert.deepEqual(await remote.list(), there, 'nothing was changed there');
  const again = await startMainstay({ data, extra });
  undo(t, () => again.stop());
  const after = speakTo(t, again);
  for (const [Key, bytes] of Object.entries(all)) assert.ok((await bytesOf(await after('GetObject', { Bucket, Key }))).equals(bytes), Key);
  assert.equal((await after('HeadObject', { Bucket, Key: 'b' })).Metadata.nth, 'b');
  assert.ok((await bytesOf(await after('GetObject', { Bucket: 'here', Key: 'stays' }))).equals(content('stays', 50_000)));
  assert.match(await told(data, ['objects', 'check', '--read-data'], extra), /objects: 5, .* damaged: 0$/m);
  // It knows what is its own there.
  for (const Key of Object.keys(all)) await after('DeleteObject', { Bucket, Key });
  await sweptTo(data, extra, remote, 0);
});

test('backups hold what is at a remote, and a restore needs no remote', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const { data, extra, server, send } = await serverWith(t, remote, { objects: { default_backend: 'cold' } });
  const Bucket = 'photos';
  await send('CreateBucket', { Bucket });
  const all = { a: content('a', 300_000), b: content('b', 4 * MIB), small: content('small', 50) };
  for (const [Key, Body] of Object.entries(all)) await send('PutObject', { Bucket, Key, Body });
  const target = join(folder(t), 'backups');
  const backup = (...words) => told(data, ['backup', ...words, '--target', target], extra);
  const report = JSON.parse(await backup('now', '--json'));
  assert.deepEqual(report.drill.failures, []);
  await send('PutObject', { Bucket, Key: 'c', Body: (all.c = content('c', 400_000)) });
  const second = JSON.parse(await backup('now', '--json'));
  assert.ok(second.snapshots[0].counts.bytes_new < 2 * MIB, 'what a backup has is not fetched again');
  const key = join(folder(t), 'key');
  copyFileSync(join(data, 'keys/master.key'), key);
  await server.stop();
  await remote.kill();

  const copy = join(folder(t), 'copy');
  await told(copy, ['backup', 'restore', '--from', target, '--data', copy, '--key-file', key]);
  const restored = await startMainstay({ data: copy });
  undo(t, () => restored.stop());
  const after = speakTo(t, restored);
  for (const [Key, bytes] of Object.entries(all)) assert.ok((await bytesOf(await after('GetObject', { Bucket, Key }))).equals(bytes), Key);
  assert.equal(bodiesIn(copy).length, 3);
  assert.equal((await v1(restored, 'GET', `/buckets/${Bucket}`))[1].backend, 'local');
  assert.match(await told(copy, ['objects', 'check', '--read-data']), /objects: 4, .* damaged: 0$/m);
});
