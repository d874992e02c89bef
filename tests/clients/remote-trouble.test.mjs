// A remote that is gone, swallows everything, refuses, or has lost and changed what it was given.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { bytesOf, coldAt, eventually, mainstayRemote, moveOf, rcloneRemote, speakTo, sweptTo, told, wireTo } from './support/remote.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const MIB = 1 << 20;

/** A server with the bucket `there` at `remote`, and the bucket `here`. */
async function twoBuckets(t, remote, more) {
  const [data, extra] = [folder(t), coldAt(t, remote, more)];
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const send = speakTo(t, server);
  for (const Bucket of ['here', 'there']) await send('CreateBucket', { Bucket });
  await told(data, ['objects', 'move', 'there', '--to', 'cold', '--wait'], extra);
  const status = async () => (await command(data, ['status'], extra)).stdout;
  return { data, extra, server, send, status };
}

/** The answer is 503 in S3's form. */
async function busy(answer) {
  await assert.rejects(answer, (error) => {
    assert.deepEqual([error.$metadata?.httpStatusCode, error.name], [503, 'SlowDown'], String(error));
    return true;
  });
}

test('with its remote gone a bucket says so, others go on, and it is back by itself', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const { data, extra, send, status } = await twoBuckets(t, remote);
  const body = content('body', 300_000);
  for (const Bucket of ['here', 'there']) {
    await send('PutObject', { Bucket, Key: 'large', Body: body });
    await send('PutObject', { Bucket, Key: 'small', Body: 'in the index' });
  }
  await send('PutObject', { Bucket: 'there', Key: 'deleted', Body: body });
  await eventually(async () => /^ {2}backends +works$/m.test(await status()));
  assert.equal((await remote.list()).length, 2);

  await remote.kill();
  const began = Date.now();
  // More than are let through before nobody is asked any more.
  for (let at = 0; at < 5; at += 1) {
    await busy(send('GetObject', { Bucket: 'there', Key: 'large' }));
    await busy(send('PutObject', { Bucket: 'there', Key: `new/${at}`, Body: body }));
  }
  assert.ok(Date.now() - began < 60_000, `ten answers took ${Date.now() - began} ms`);
  await busy(send('CopyObject', { Bucket: 'here', Key: 'copied', CopySource: 'there/large' }));
  assert.match(await status(), /^ {2}backends +backend `cold`: .* \(since /m);
  assert.match(await status(), /is ready/);
  assert.equal((await command(data, ['healthcheck'], extra)).code, 0);
  // What needs no remote.
  assert.ok((await bytesOf(await send('GetObject', { Bucket: 'here', Key: 'large' }))).equals(body));
  await send('PutObject', { Bucket: 'here', Key: 'more', Body: body });
  assert.equal((await bytesOf(await send('GetObject', { Bucket: 'there', Key: 'small' }))).toString(), 'in the index');
  await send('PutObject', { Bucket: 'there', Key: 'small too', Body: 'x' });
  assert.equal((await send('HeadObject', { Bucket: 'there', Key: 'large' })).ContentLength, 300_000);
  const { Contents } = await send('ListObjectsV2', { Bucket: 'there' });
  assert.deepEqual(Contents.map(({ Key }) => Key), ['deleted', 'large', 'small', 'small too'], 'what failed is not there');
  const check = await command(data, ['objects', 'check', '--read-data', '--json'], extra);
  assert.equal(check.code, 1);
  assert.match(check.stderr, /not looked at, since their backend could not be asked: 2/);
  const { damaged, objects, unknown } = JSON.parse(check.stdout);
  assert.deepEqual([damaged, objects, unknown], [[], 7, 2]);
  await send('DeleteObject', { Bucket: 'there', Key: 'deleted' });

  await remote.revive();
  const read = async () => bytesOf(await send('GetObject', { Bucket: 'there', Key: 'large' }));
  assert.ok((await eventually(() => read().catch((error) => void assert.equal(error.name, 'SlowDown')))).equals(body));
  await send('PutObject', { Bucket: 'there', Key: 'new', Body: body });
  assert.match(await status(), /^ {2}backends +works$/m);
  // What was deleted meanwhile goes, and what did not come about leaves nothing.
  await sweptTo(data, extra, remote, 2);
});

test('a remote that swallows everything holds nobody up for long', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const wire = await wireTo(t, remote.endpoint);
  const through = { ...remote, endpoint: wire.endpoint };
  const { send, status } = await twoBuckets(t, through, { backend: { timeout: '2s', concurrency: 4 } });
  const body = content('body', 300_000);
  for (const Bucket of ['here', 'there']) await send('PutObject', { Bucket, Key: 'large', Body: body });
  wire.swallow();
  const began = Date.now();
  const read = () => send('GetObject', { Bucket: 'there', Key: 'large' });
  // Were each to wait for its turn and its time, this would take minutes.
  const crowd = Promise.all(Array.from({ length: 200 }, () => busy(read())));
  const local = Array.from({ length: 20 }, async () => bytesOf(await send('GetObject', { Bucket: 'here', Key: 'large' })));
  for (const bytes of await Promise.all(local)) assert.ok(bytes.equals(body));
  await crowd;
  t.diagnostic(`200 answers took ${Date.now() - began} ms`);
  assert.ok(Date.now() - began < 60_000, `${Date.now() - began} ms`);
  assert.match(await status(), /^ {2}backends +backend `cold`: /m);
  wire.mend();
  await eventually(() => read().then(bytesOf).catch((error) => void assert.equal(error.name, 'SlowDown')));
  await eventually(async () => /^ {2}backends +works$/m.test(await status()));
});

test('a move waits for a remote that is gone, and is called off by moving back', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const { data, extra, send } = await twoBuckets(t, remote);
  const body = (at) => content(`body ${at}`, 300_000);
  for (let at = 0; at < 10; at += 1) await send('PutObject', { Bucket: 'here', Key: `${at}`, Body: body(at) });
  await remote.kill();
  await told(data, ['objects', 'move', 'here', '--to', 'cold'], extra);
  const { trouble, ended } = await eventually(async () => {
    const move = await moveOf(data, 'here', extra);
    return move.trouble && move;
  });
  assert.match(trouble, /backend `cold`: /);
  assert.equal(ended, null);
  // Those that are here can be read all the while.
  for (let at = 0; at < 10; at += 1) assert.ok((await bytesOf(await send('GetObject', { Bucket: 'here', Key: `${at}` }))).equals(body(at)));
  const back = JSON.parse(await told(data, ['objects', 'move', 'here', '--to', 'local', '--wait', '--json'], extra));
  assert.deepEqual([back.to, back.stayed, back.trouble], ['local', 0, null]);
  await send('PutObject', { Bucket: 'here', Key: 'new', Body: body(11) });
  await remote.revive();
  await sweptTo(data, extra, remote, 0);
});

test('what was changed or lost at a remote is found, named, and never answered', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const { data, extra, server, send, status } = await twoBuckets(t, remote, { backend: { scrub: true } });
  const names = {};
  for (const [Key, size] of [['whole', 100_000], ['flipped', 400_000], ['lost', 200_000], ['large', 3 * MIB]]) {
    const before = new Set((await remote.list()).map(([name]) => name));
    await send('PutObject', { Bucket: 'there', Key, Body: content(Key, size) });
    names[Key] = (await remote.list()).map(([name]) => name).find((name) => !before.has(name));
  }
  await told(data, ['objects', 'check', '--read-data'], extra);
  await remote.flip(names.flipped);
  await remote.flip(names.large);
  await remote.send('DeleteObject', { Bucket: remote.bucket, Key: names.lost });

  const check = await command(data, ['objects', 'check', '--read-data', '--json'], extra);
  assert.equal(check.code, 1);
  const found = JSON.parse(check.stdout).damaged.map(({ bucket, key, what }) => [bucket, key, what]);
  const expected = [
    ['there', 'flipped', 'a segment does not verify'],
    ['there', 'large', 'a segment does not verify'],
    ['there', 'lost', 'its file is missing'],
  ];
  assert.deepEqual(found, expected);
  const scrub = await command(data, ['objects', 'scrub', '--wait'], extra);
  assert.equal(scrub.code, 1, scrub.stdout);
  for (const [, key, what] of expected) assert.ok(scrub.stdout.includes(`there/${key}: ${what}`), scrub.stdout);
  assert.match(await status(), /^ {2}scrub +damaged: 3;/m);
  assert.match(await status(), /^ {2}backends +works$/m);

  // What does not verify never leaves: not a byte of a small one, no end of a large one.
  for (const Key of ['flipped', 'lost']) {
    await assert.rejects(send('GetObject', { Bucket: 'there', Key }), { name: 'InternalError' });
  }
  const { Body } = await send('GetObject', { Bucket: 'there', Key: 'large' });
  await assert.rejects(Body.transformToByteArray());
  assert.ok((await bytesOf(await send('GetObject', { Bucket: 'there', Key: 'whole' }))).equals(content('whole', 100_000)));

  // A move takes what is whole and passes over the rest.
  const move = await command(data, ['objects', 'move', 'there', '--to', 'local', '--wait', '--json'], extra);
  assert.equal(move.code, 1);
  const { moved, stayed, ended } = JSON.parse(move.stdout);
  assert.deepEqual([moved, stayed, Boolean(ended)], [1, 3, true]);
  for (const Key of ['flipped', 'lost', 'large']) await send('DeleteObject', { Bucket: 'there', Key });
  await sweptTo(data, extra, remote, 0);
  await told(data, ['objects', 'check', '--read-data'], extra);
  assert.ok((await bytesOf(await send('GetObject', { Bucket: 'there', Key: 'whole' }))).equals(content('whole', 100_000)));
  assert.ok(server.lines.every((line) => !line.includes(remote.secret)));
});

test('wrong credentials and a bucket that is not there are told at the start', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const wrong = {
    'a wrong secret': [{ ...remote, secret: 'not-the-secret-of-anybody' }, {}, /SignatureDoesNotMatch/],
    'an unknown key': [{ ...remote, id: 'AKIANOBODY' }, {}, /InvalidAccessKeyId/],
    'a bucket that is not there': [remote, { bucket: 'elsewhere' }, /NoSuchBucket/],
  };
  for (const [name, [place, backend, said]] of Object.entries(wrong)) {
    const [data, extra] = [folder(t), coldAt(t, place, { backend })];
    const server = await startMainstay({ data, extra });
    undo(t, () => server.stop());
    const status = await eventually(async () => {
      const { stdout } = await command(data, ['status'], extra);
      return /^ {2}backends +backend/m.test(stdout) && stdout;
    });
    assert.match(status, said, name);
    assert.match(status, /backend `cold`: trying whether bodies can be kept there: /);
    const log = server.lines.filter((line) => line.includes('a backend cannot be used'));
    assert.equal(log.length, 1, name);
    assert.match(log[0], said);
    for (const line of [...server.lines, status]) {
      assert.ok(![place.secret, remote.secret, 'StringToSign', 'SignatureProvided'].some((secret) => line.includes(secret)), line);
    }
    await server.stop();
  }
  assert.deepEqual(await remote.list(), []);
});

test('a remote that says yes to everything and keeps nothing gets no body that is moved', { skip }, async (t) => {
  const liar = createServer((request, response) => {
    request.resume().on('end', () => {
      const answer = { GET: [404, '<Error><Code>NoSuchKey</Code><Message>It is not there.</Message></Error>'], DELETE: [204, ''] };
      const [code, text] = answer[request.method] ?? [200, ''];
      response.writeHead(code, { etag: '"d41d8cd98f00b204e9800998ecf8427e"' }).end(text);
    });
  }).listen(0, '127.0.0.1');
  await once(liar, 'listening');
  undo(t, () => liar.close());
  const [data, extra] = [folder(t), coldAt(t, { endpoint: `http://127.0.0.1:${liar.address().port}`, id: 'id', secret: 'secret' })];
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const send = speakTo(t, server);
  await send('CreateBucket', { Bucket: 'here' });
  await send('PutObject', { Bucket: 'here', Key: 'only', Body: content('only', 300_000) });
  await told(data, ['objects', 'move', 'here', '--to', 'cold'], extra);
  const { trouble, moved } = await eventually(async () => {
    const move = await moveOf(data, 'here', extra);
    return move.trouble && move;
  });
  assert.equal(moved, 0, trouble);
  assert.ok((await bytesOf(await send('GetObject', { Bucket: 'here', Key: 'only' }))).equals(content('only', 300_000)));
  const said = /^ {2}backends +backend `cold`: trying whether bodies can be kept there: .*NoSuchKey/m;
  await eventually(async () => said.test((await command(data, ['status'], extra)).stdout));
});

test('a service that answers ranges otherwise than S3 does is told at the start', { skip }, async (t) => {
  const remote = await rcloneRemote(t);
  const [data, extra] = [folder(t), coldAt(t, remote)];
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const said = /^ {2}backends +backend `cold`: trying whether bodies can be kept there: .*non-partial response/m;
  await eventually(async () => said.test((await command(data, ['status'], extra)).stdout));
});

test('settings that cannot work are refused with words', { skip }, async (t) => {
  const remote = { endpoint: 'http://127.0.0.1:9', id: 'id', secret: 'secret' };
  const wrong = [
    [{ backend: { name: 'Cold' } }, /`Cold` is no name of a backend/],
    [{ backend: { endpoint: 'http://192.0.2.1' } }, /plain http:\/\/ at 192\.0\.2\.1; write https:\/\/, or allow_http = true/],
    [{ backend: { bucket: '' } }, /`cold` has no bucket/],
    [{ objects: { default_backend: 'warm' } }, /default_backend = "warm" is none of objects\.backends/],
  ];
  for (const [more, said] of wrong) {
    const { code, stdout, stderr } = await command(join(folder(t), 'data'), ['config', 'check'], coldAt(t, remote, more));
    assert.notEqual(code, 0, stdout);
    assert.match(stdout + stderr, said);
  }
  const data = join(folder(t), 'data');
  const unread = coldAt(t, remote, { backend: { secret_access_key_file: '/nowhere/secret' } });
  await assert.rejects(startMainstay({ data, extra: unread, quick: true }), /`cold`: secret_access_key_file: .*\/nowhere\/secret/);
});

test('a backend that holds bodies is not forgotten by the settings', { skip }, async (t) => {
  const remote = await mainstayRemote(t);
  const { data, extra, server, send } = await twoBuckets(t, remote);
  await send('PutObject', { Bucket: 'there', Key: 'large', Body: content('large', 300_000) });
  await server.stop();
  await assert.rejects(startMainstay({ data, quick: true }), /it holds 1 bodies of objects.*objects\.backends has no `cold`/s);
  const elsewhere = coldAt(t, remote, { backend: { prefix: 'another' } });
  await assert.rejects(startMainstay({ data, extra: elsewhere, quick: true }), /bodies do not follow by themselves/);
  const again = await startMainstay({ data, extra });
  undo(t, () => again.stop());
  const after = speakTo(t, again);
  assert.ok((await bytesOf(await after('GetObject', { Bucket: 'there', Key: 'large' }))).equals(content('large', 300_000)));
  await told(data, ['objects', 'move', 'there', '--to', 'local', '--wait'], extra);
  await sweptTo(data, extra, remote, 0);
  await again.stop();
  const without = await startMainstay({ data });
  undo(t, () => without.stop());
  assert.ok((await bytesOf(await speakTo(t, without)('GetObject', { Bucket: 'there', Key: 'large' }))).equals(content('large', 300_000)));
});
