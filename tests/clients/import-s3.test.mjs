// `mainstay import s3` from another Mainstay and from rclone: metadata, tags, parts, odd keys, killed, changed meanwhile.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';

import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { mainstay, python } from './support/paths.mjs';
import { freePort, run, start } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const BUCKET = 'source';
const MIB = 1 << 20;
const ODD = [
  'a b', 'a+b', 'a%2Bb', 'ü/日本 😀', '/leads', 'a//b', 'dir/', 'x/./y', 'x/../y', '..', "it's (1)*!", 'q?x=1&y#z', '<&">', '~-_.', 'x'.repeat(1024),
];

/** A client of a server's S3 door. */
function client(t, env) {
  const objects = new s3.S3Client({
    endpoint: env.AWS_ENDPOINT_URL_S3,
    region: env.AWS_REGION,
    credentials: { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY },
    forcePathStyle: true,
  });
  undo(t, () => objects.destroy());
  return {
    objects,
    send: (command, input) => objects.send(new s3[`${command}Command`]({ Bucket: BUCKET, ...input })),
  };
}

/** The server that is imported into, and `imported(flags)`, which runs the command with `key` as the source's. */
async function into(t, url, key) {
  const data = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  const env = { ...process.env, AWS_ACCESS_KEY_ID: key.id, AWS_SECRET_ACCESS_KEY: key.secret };
  const args = (flags) => ['--data', data, 'import', 's3', url, ...flags];
  const imported = async (flags = [], given = {}) => {
    const done = await run(mainstay, args(flags), { env: { ...env, ...given } });
    assert.ok(!`${done.stdout}${done.stderr}`.includes(key.secret), 'the key is not shown');
    return { ...done, ...(done.stdout.startsWith('{') ? JSON.parse(done.stdout) : {}) };
  };
  return { data, env, imported, to: client(t, server.env) };
}

/** Two Mainstays. */
async function both(t) {
  const source = await startMainstay({ data: folder(t) });
  undo(t, () => source.stop());
  const from = client(t, source.env);
  await from.send('CreateBucket');
  const key = { id: source.env.AWS_ACCESS_KEY_ID, secret: source.env.AWS_SECRET_ACCESS_KEY };
  const endpoint = source.env.AWS_ENDPOINT_URL_S3;
  return { source, from, key, endpoint, ...(await into(t, `${endpoint}/${BUCKET}`, key)) };
}

/** Every object with all that is said of it and its bytes. */
async function contents({ send }, bucket = BUCKET, prefix = '') {
  const found = {};
  for (let token; ; ) {
    const page = await send('ListObjectsV2', { Bucket: bucket, Prefix: prefix, ContinuationToken: token });
    for (const { Key } of page.Contents ?? []) {
      const object = await send('GetObject', { Bucket: bucket, Key, ChecksumMode: 'ENABLED' });
      const { Body, $metadata, LastModified, ...rest } = object;
      const tags = await send('GetObjectTagging', { Bucket: bucket, Key });
      found[Key] = { ...rest, tags: tags.TagSet, bytes: Buffer.from(await Body.transformToByteArray()).toString('base64') };
    }
    token = page.NextContinuationToken;
    if (!token) return found;
  }
}

async function put({ send }, key, body, rest = {}) {
  await send('PutObject', { Key: key, Body: body, ...rest });
}

/** An object in parts of 5 MiB. */
async function inParts({ objects }, key, size) {
  const params = { Bucket: BUCKET, Key: key, Body: content(key, size) };
  await new Upload({ client: objects, partSize: 5 * MIB, params }).done();
}

/** Several hundred small objects, `at` a time. */
async function many(from, count, name = (at) => `many/${String(at).padStart(4, '0')}`) {
  for (let at = 0; at < count; at += 20) {
    await Promise.all(Array.from({ length: 20 }, (_, nth) => put(from, name(at + nth), content(name(at + nth), 3000))));
  }
}

test('everything comes over as it was, large objects part by part', async (t) => {
  const { from, to, data, imported } = await both(t);
  await many(from, 300);
  for (const key of ODD) await put(from, key, `of ${key}`);
  await put(from, 'described', Buffer.from('\x1f\x8b packed'), {
    ContentType: 'text/plain; charset=utf-8',
    CacheControl: 'max-age=60',
    ContentDisposition: 'attachment; filename="a b.txt"',
    ContentEncoding: 'gzip',
    ContentLanguage: 'de',
    Expires: new Date('2030-01-01T00:00:00Z'),
    Metadata: { who: 'me', two: 'some  spaces', 'with-dash': '1' },
    Tagging: 'colour=deep%20blue&sign=%26%3D%2B',
    ChecksumAlgorithm: 'SHA256',
  });
  await put(from, 'empty', '');
  await put(from, 'whole', Buffer.from(content('whole', 9 * MIB)));
  const large = content('large', 70 * MIB);
  const upload = { Bucket: BUCKET, Key: 'large', Body: large, Metadata: { big: 'yes' }, Tagging: 'size=large' };
  await new Upload({ client: from.objects, partSize: 16 * MIB, params: upload }).done();
  // In one piece at the source, in parts here.
  await put(from, 'piece', content('piece', 65 * MIB));

  const done = await imported(['--json']);
  assert.equal(done.code, 0, done.stderr);
  const count = 300 + ODD.length + 5;
  assert.deepEqual([done.copied, done.here, done.left_out, done.skipped, done.settled], [count, count, 0, 0, true]);
  assert.deepEqual(done.passes, [{ new: count, changed: 0, removed: 0 }, { new: 0, changed: 0, removed: 0 }]);
  const [there, here] = [await contents(from), await contents(to)];
  // Its ETag tells of parts now; the bytes are compared below.
  for (const all of [there, here]) ['ETag', 'ChecksumType'].forEach((name) => delete all.piece[name]);
  assert.deepEqual(Object.keys(here), Object.keys(there));
  for (const [key, object] of Object.entries(there)) {
    for (const [name, value] of Object.entries(object)) assert.deepEqual(here[key][name], value, `${key}: ${name}`);
  }
  const uploads = await to.send('ListMultipartUploads');
  assert.equal(uploads.Uploads, undefined);

  // Nothing is copied again, and what the notes hold is no key.
  const again = await imported(['--json']);
  assert.deepEqual([again.code, again.copied, again.passes.length], [0, count, 1], again.stderr);
  const [notes] = readdirSync(join(data, 'import'));
  assert.match(notes, /^s3-[0-9a-f]{16}\.redb$/);
  assert.equal((await imported(['--forget'])).code, 0);
  assert.deepEqual(readdirSync(join(data, 'import')), []);
});

test('what has changed is copied again, and what is gone goes when that is asked for', async (t) => {
  const { from, to, imported } = await both(t);
  await many(from, 40);
  await put(from, 'kept/here', '1');
  assert.equal((await imported()).code, 0);
  await put(from, 'many/0001', 'changed');
  // Only what is said of it.
  const copied = { CopySource: `${BUCKET}/many/0002`, MetadataDirective: 'REPLACE', Metadata: { now: 'other' } };
  await from.send('CopyObject', { Key: 'many/0002', ...copied });
  await put(from, 'new', 'x');
  for (const key of ['many/0003', 'many/0004', 'kept/here']) await from.send('DeleteObject', { Key: key });
  // An app writes here by now: its objects stay, whatever the source has lost.
  await put(to, 'kept/here', 'of the app');
  await put(to, 'of the app', '2');

  const second = await imported(['--json']);
  assert.equal(second.code, 0, second.stderr);
  assert.deepEqual(second.passes[0], { new: 1, changed: 2, removed: 0 });
  assert.equal(second.gone_from_source, 3);
  assert.match((await imported()).stdout, /gone from the source, and still here: 3 \(--delete/);
  const third = await imported(['--delete', '--json']);
  assert.deepEqual([third.code, third.passes[0].removed], [0, 2], third.stderr);
  const here = await contents(to);
  assert.deepEqual(Object.keys(here).length, 38 + 3);
  assert.equal(here['many/0002'].Metadata.now, 'other');
  const text = (key) => Buffer.from(here[key].bytes, 'base64').toString();
  assert.deepEqual(['many/0001', 'kept/here', 'of the app', 'new'].map(text), ['changed', 'of the app', '2', 'x']);
});

test('other tags alone are seen when that is asked for', async (t) => {
  const { from, to, imported } = await both(t);
  const tagged = { a: 'x=1&y=2', b: 'x=1', c: '', same: 'x=1&y=2' };
  for (const [key, Tagging] of Object.entries(tagged)) await put(from, key, content(key, 3000), { Tagging });
  await inParts(from, 'parts', 12 * MIB);
  assert.equal((await imported()).code, 0);
  const tag = (Key, tags) => from.send('PutObjectTagging', {
    Key, Tagging: { TagSet: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })) },
  });
  await tag('a', { x: '1', y: 'other' });
  await from.send('DeleteObjectTagging', { Key: 'b' });
  await tag('c', { 'new one': 'ü' });
  await tag('parts', { size: 'large' });
  await tag('same', { y: '2', x: '1' });

  const without = await imported(['--json']);
  assert.deepEqual([without.code, without.passes], [0, [{ new: 0, changed: 0, removed: 0 }]], without.stderr);
  const seen = await imported(['--tags', '--json']);
  assert.deepEqual([seen.code, seen.passes[0]], [0, { new: 0, changed: 4, removed: 0 }], seen.stderr);
  const sorted = (all) => Object.fromEntries(Object.entries(all).map(([key, { tags }]) => [key, tags.sort((a, b) => (a.Key < b.Key ? -1 : 1))]));
  assert.deepEqual(sorted(await contents(to)), sorted(await contents(from)));
  const again = await imported(['--tags', '--json']);
  assert.deepEqual([again.code, again.passes], [0, [{ new: 0, changed: 0, removed: 0 }]], again.stderr);
});

/** Something in front of `url` that lets so many bytes through as it is told, and then no more until it is told again. */
async function narrow(t, url) {
  const { hostname, port } = new URL(url);
  const held = new Set();
  let left = 0;
  const proxy = createServer((socket) => {
    const behind = connect(port, hostname);
    socket.on('error', () => behind.destroy()).on('close', () => behind.destroy()).pipe(behind);
    behind.on('error', () => socket.destroy()).on('close', () => held.delete(behind) || socket.destroy());
    behind.on('data', (piece) => {
      socket.write(piece);
      left -= piece.length;
      if (left <= 0) held.add(behind.pause());
    });
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  undo(t, () => proxy.close());
  const pass = (bytes) => {
    left = bytes;
    for (const behind of held) behind.resume();
    held.clear();
  };
  return { url: `http://127.0.0.1:${proxy.address().port}`, pass };
}

test('it goes on where it was killed, and comes to the same', async (t) => {
  const it = await both(t);
  const way = await narrow(t, it.endpoint);
  const args = (flags) => ['--data', it.data, 'import', 's3', `${way.url}/${BUCKET}`, ...flags];
  await many(it.from, 600);
  await inParts(it.from, 'zz/large', 32 * MIB);
  // Killed twice: among small objects, and within the large one.
  const there = async (prefix) => (await it.to.send('ListObjectsV2', { Prefix: prefix }).catch(() => ({}))).KeyCount ?? 0;
  const uploading = async () => ((await it.to.send('ListMultipartUploads').catch(() => ({}))).Uploads ?? []).length > 0;
  for (const [bytes, far] of [[600_000, async () => (await there('many/')) > 50], [8 * MIB, uploading]]) {
    way.pass(bytes);
    const child = spawn(mainstay, args([]), { env: it.env, stdio: 'ignore' });
    while (child.exitCode === null && !(await far())) await new Promise(setImmediate);
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
    assert.equal(child.signalCode, 'SIGKILL', 'it was killed under way');
  }
  await put(it.from, 'many/0000', 'changed meanwhile');
  way.pass(Infinity);
  const ended = await run(mainstay, args(['--json']), { env: it.env });
  assert.equal(ended.code, 0, ended.stderr);
  const done = { ...ended, ...JSON.parse(ended.stdout) };
  assert.match(done.stderr, /going on with the import of/);
  assert.equal(done.here, 601);
  const [source, target] = [await contents(it.from), await contents(it.to)];
  assert.deepEqual(Object.keys(target), Object.keys(source));
  for (const [key, { bytes }] of Object.entries(source)) assert.equal(target[key].bytes, bytes, key);
  assert.equal(await uploading(), false, 'no upload is left over');
});

test('what is there already is not touched unless that is asked for', async (t) => {
  const { from, to, imported } = await both(t);
  for (const key of ['a', 'b', 'p/c']) await put(from, key, `theirs ${key}`);
  await to.send('CreateBucket');
  await put(to, 'a', 'mine');
  const refused = await imported();
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /bucket source holds objects already: --replace .* --skip .* nothing was imported/);
  const read = async (key) => (await to.send('GetObject', { Key: key })).Body.transformToString();
  // A prefix alone, where nothing is.
  assert.equal((await imported(['--prefix', 'p/'])).code, 0);
  assert.equal((await to.send('ListObjectsV2')).KeyCount, 2);
  const skipped = await imported(['--skip', '--json']);
  assert.deepEqual([skipped.code, skipped.skipped, skipped.copied], [0, 2, 1], skipped.stderr);
  assert.equal(await read('a'), 'mine');
  assert.equal((await imported(['--replace', '--fresh'])).code, 0);
  assert.equal(await read('a'), 'theirs a');
  // Into another bucket, with the times.
  assert.equal((await imported(['--into', 'other', '--mtime'])).code, 0);
  const there = await to.send('HeadObject', { Bucket: 'other', Key: 'a' });
  const { LastModified } = await from.send('HeadObject', { Key: 'a' });
  assert.equal(there.Metadata.mtime, String(LastModified.getTime() / 1000));
});

test('what is wrong is said as the source says it', async (t) => {
  const { source, from, data, key, endpoint, imported, to, env } = await both(t);
  await put(from, 'good', '1');
  const wrong = async (flags, given, told) => {
    const done = await imported(flags, given);
    assert.equal(done.code, 1, done.stdout);
    assert.match(done.stderr, told);
    await assert.rejects(to.send('HeadBucket'), { name: 'NotFound' });
  };
  await wrong([], { AWS_SECRET_ACCESS_KEY: 'wrong' }, /the source answers SignatureDoesNotMatch: .+/);
  await wrong([], { AWS_ACCESS_KEY_ID: 'wrong' }, /the source answers InvalidAccessKeyId: /);
  await wrong([], { AWS_ACCESS_KEY_ID: '' }, /access key is missing: give AWS_ACCESS_KEY_ID .* --credentials-file/);
  await wrong(['--region', 'eu-central-9'], {}, /the source answers AuthorizationHeaderMalformed: .*us-east-1/);
  const elsewhere = await run(mainstay, ['--data', data, 'import', 's3', `${endpoint}/nothing-here`], { env });
  assert.match(elsewhere.stderr, /the source answers NoSuchBucket: /);
  const nobody = await run(mainstay, ['--data', data, 'import', 's3', `http://127.0.0.1:${await freePort()}/b-b`], { env });
  assert.match(nobody.stderr, /no connection to 127\.0\.0\.1: /);

  // What the source does not give out is named; the rest comes.
  const limited = await run(mainstay, ['--data', source.data, 'keys', 'create', 'half', '--allow', `${BUCKET}:list`, '--allow', `${BUCKET}/good:read`]);
  assert.equal(limited.code, 0, limited.stderr);
  await put(from, 'hidden', '2');
  const file = join(data, 'key');
  writeFileSync(file, limited.stdout);
  const half = await imported(['--json', '--credentials-file', file], { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' });
  assert.deepEqual([half.code, half.copied, half.left_out], [1, 1, 1], half.stderr);
  assert.match(half.left_out_named[0], /^"hidden": the source answers AccessDenied: /);
  // With the whole key the same command brings the rest.
  const rest = await imported(['--json'], { AWS_ACCESS_KEY_ID: key.id });
  assert.deepEqual([rest.code, rest.here, rest.left_out], [0, 2, 0], rest.stderr);
});

test('a source behind TLS is trusted by an authority that is named, and one may have its buckets in the host', async (t) => {
  const { source, from, data, env, to } = await both(t);
  await many(from, 40);
  await put(from, 'a//b +', '1');
  const imported = (url, ...flags) => run(mainstay, ['--data', data, 'import', 's3', url, ...flags], { env });
  const secure = `https://s3.localhost:${source.ports.https}/${BUCKET}`;
  const untrusted = await imported(secure);
  assert.equal(untrusted.code, 1);
  assert.match(untrusted.stderr, /no connection to s3\.localhost: .*certificate/i);
  const trusted = await imported(secure, '--ca-file', join(source.data, 'edge/self-signed.pem'));
  assert.equal(trusted.code, 0, trusted.stderr);
  const host = await imported(`http://localhost:${source.ports.s3}/${BUCKET}`, '--virtual-host', '--into', 'other');
  assert.equal(host.code, 0, host.stderr);
  const keys = Object.keys(await contents(from));
  assert.deepEqual(Object.keys(await contents(to)), keys);
  assert.deepEqual(Object.keys(await contents(to, 'other')), keys);
});

test('connections that break and answers that may pass are tried again', async (t) => {
  const { from, to, endpoint, data, env } = await both(t);
  await many(from, 60);
  await inParts(from, 'zz/large', 12 * MIB);
  const { hostname, port } = new URL(endpoint);
  // In front of the source: answers the second and third connection by itself, and cuts three that have passed some bytes. That
  // is less often than one request is tried, should it meet all of them.
  let [turn, slowed, cuts] = [0, 0, 0];
  const proxy = createServer((socket) => {
    turn += 1;
    if (turn === 2 || turn === 3) {
      slowed += 1;
      const body = '<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>';
      socket.once('data', () => socket.end(`HTTP/1.1 503 Slow Down\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`));
      return;
    }
    const behind = connect(port, hostname);
    let passed = 0;
    socket.on('data', (piece) => behind.write(piece)).on('error', () => behind.destroy());
    behind.on('data', (piece) => {
      passed += piece.length;
      if (passed <= 20_000 || cuts === 3) return socket.write(piece);
      cuts += 1;
      behind.destroy();
      return socket.destroy();
    });
    behind.on('error', () => socket.destroy()).on('close', () => socket.destroy());
    socket.on('close', () => behind.destroy());
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  undo(t, () => proxy.close());
  const url = `http://127.0.0.1:${proxy.address().port}/${BUCKET}`;
  const done = await run(mainstay, ['--data', data, 'import', 's3', url, '--json'], { env });
  assert.equal(done.code, 0, done.stderr);
  assert.deepEqual([slowed, cuts], [2, 3]);
  const [there, here] = [await contents(from), await contents(to)];
  assert.deepEqual(Object.keys(here), Object.keys(there));
  for (const [key, { bytes }] of Object.entries(there)) assert.equal(here[key].bytes, bytes, key);
});

test('a folder behind rclone comes over', async (t) => {
  const place = folder(t);
  mkdirSync(join(place, BUCKET, 'deep/er'), { recursive: true });
  const files = { 'one.txt': 'one', 'deep/two words.txt': 'two', 'deep/er/ü+1.txt': '3', 'large.bin': content('large', 70 * MIB) };
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(place, BUCKET, name), bytes);
  const [port, key] = [await freePort(), { id: 'rclone-key', secret: 'rclone-secret-of-a-test' }];
  const words = ['serve', 's3', '--addr', `127.0.0.1:${port}`, '--auth-key', `${key.id},${key.secret}`, '-v', place];
  const rclone = await start(join(python, '..', 'rclone'), words, {
    env: { ...process.env, RCLONE_CONFIG: join(folder(t), 'rclone.conf') },
    ready: (line) => line.includes('Starting s3 server') || line.includes('Serving'),
    name: 'rclone',
  });
  undo(t, () => rclone.stop());
  const { to, imported } = await into(t, `http://127.0.0.1:${port}/${BUCKET}`, key);
  const done = await imported(['--json']);
  assert.deepEqual([done.code, done.copied, done.left_out], [0, 4, 0], done.stderr + done.stdout);
  const here = await contents(to);
  assert.deepEqual(Object.keys(here).sort(), Object.keys(files).sort());
  for (const [name, bytes] of Object.entries(files)) assert.equal(here[name].bytes, Buffer.from(bytes).toString('base64'), name);
});
