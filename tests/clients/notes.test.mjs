// An ordinary Node service runs on Mainstay alone: everything it does is driven through the edge over HTTPS, and what
// arrived in Redis and in the object store is checked by clients that know nothing of the service.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { before, test } from 'node:test';

import { Redis } from 'ioredis5';
import { Client as Minio } from 'minio';

import { BUCKETS } from './notes-app/files.mjs';
import { onPile } from './support/backend.mjs';
import { Http1, Http2, eventStream } from './support/browse.mjs';
import { startNotes } from './support/notes.mjs';
import { undo, wholeFile } from './support/scope.mjs';

let backend;
let redis;
let s3;
const file = wholeFile();

before(async () => {
  ({ backend } = await startNotes(file));
  redis = new Redis(backend.env.REDIS_URL);
  undo(file, () => redis.quit());
  s3 = new Minio({
    endPoint: backend.env.MINIO_ENDPOINT,
    port: Number(backend.env.MINIO_PORT),
    useSSL: backend.env.MINIO_USE_SSL === 'true',
    accessKey: backend.env.MINIO_ACCESS_KEY,
    secretKey: backend.env.MINIO_SECRET_KEY,
  });
});

/** A client that ends with the test; signed in when `user` is given. */
async function visitor(t, Http, user) {
  const client = new Http(backend);
  await client.connect?.();
  undo(t, () => client.close());
  if (user) {
    const password = { ada: 'lovelace', grace: 'hopper' }[user];
    assert.equal((await client.json('POST', '/login', { user, password })).status, 200);
  }
  return client;
}

async function stored(bucket, name) {
  const chunks = [];
  for await (const chunk of await s3.getObject(bucket, name)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const md5 = (bytes) => createHash('md5').update(bytes).digest('hex');

for (const Http of [Http1, Http2]) {
  const over = Http === Http1 ? 'HTTP/1.1' : 'HTTP/2';

  test(`the app sees the visitor, the name and TLS as they are, over ${over}`, async (t) => {
    const client = await visitor(t, Http);
    const seen = (await client.request('GET', '/whoami', { headers: { 'x-forwarded-for': '203.0.113.9' } })).json();
    assert.equal(seen.ip, '127.0.0.1', 'a forged X-Forwarded-For is not believed');
    assert.equal(seen.protocol, 'https');
    assert.equal(seen.host, 'localhost');
  });

  test(`responses carry the security headers over ${over}`, async (t) => {
    const { headers } = await (await visitor(t, Http)).request('GET', '/health');
    assert.equal(headers['x-content-type-options'], 'nosniff');
  });

  test(`a session lives in Redis from log-in to log-out over ${over}`, async (t) => {
    const client = await visitor(t, Http);
    assert.equal((await client.request('GET', '/me')).status, 401);
    await client.json('POST', '/login', { user: 'ada', password: 'lovelace' });
    assert.deepEqual((await client.request('GET', '/me')).json(), { user: 'ada' });

    const id = decodeURIComponent(client.cookies.get('notes.sid')).slice(2).split('.')[0];
    assert.equal(JSON.parse(await redis.get(`session:${id}`)).user, 'ada');
    const seconds = await redis.ttl(`session:${id}`);
    assert.ok(seconds > 3500 && seconds <= 3600, `${seconds} seconds left`);

    assert.equal((await client.request('POST', '/logout')).status, 204);
    assert.equal(await redis.exists(`session:${id}`), 0);
    assert.equal((await client.request('GET', '/me')).status, 401);
  });

  test(`notes are made, read, changed, listed and removed over ${over}`, async (t) => {
    const client = await visitor(t, Http, 'ada');
    const made = await client.json('POST', '/notes', { title: 'Größe', text: 'line\r\nline — ünïcode' });
    assert.equal(made.status, 201);
    const { id } = made.json();
    assert.equal(made.headers.location, `/notes/${id}`);
    assert.equal(await redis.hget(`note:${id}`, 'text'), 'line\r\nline — ünïcode');

    const changed = (await client.json('PUT', `/notes/${id}`, { title: 'Size', text: '' })).json();
    assert.deepEqual([changed.title, changed.text, changed.edits], ['Size', '', 1]);
    assert.equal((await client.request('GET', '/notes')).json()[0].id, id);
    assert.equal((await (await visitor(t, Http, 'grace')).request('GET', `/notes/${id}`)).status, 404);

    assert.equal((await client.request('DELETE', `/notes/${id}`)).status, 204);
    assert.equal(await redis.exists(`note:${id}`), 0);
    assert.equal(await redis.zscore('notes:ada', id), null);
  });

  test(`a small file goes in whole and comes out whole over ${over}`, async (t) => {
    const client = await visitor(t, Http, 'ada');
    const bytes = randomBytes(100_000);
    const headers = { 'content-type': 'image/png' };
    const put = await client.request('PUT', '/small/avatars/ada.png', { headers, body: bytes });
    assert.equal(put.json().etag, md5(bytes));
    assert.deepEqual(await stored('avatars', 'ada.png'), bytes);

    const got = await client.request('GET', '/files/avatars/ada.png');
    assert.equal(got.headers['content-type'], 'image/png');
    assert.deepEqual(got.bytes, bytes);
  });

  const inParts = { skip: onPile && 'rclone serve s3 answers NoSuchUpload when the minio client asks for unfinished uploads first' };
  test(`a stream of unknown length is stored in parts and read back as a stream over ${over}`, inParts, async (t) => {
    const client = await visitor(t, Http, 'ada');
    const pieces = Array.from({ length: 200 }, () => randomBytes(100_000));
    const put = await client.request('PUT', '/files/backups/big.bin', { body: Readable.from(pieces) });
    assert.equal(put.status, 201);

    const whole = Buffer.concat(pieces);
    assert.equal(md5(await stored('backups', 'big.bin')), md5(whole));
    const got = await client.request('GET', '/files/backups/big.bin');
    assert.equal(got.headers['content-length'], String(whole.length));
    assert.equal(md5(got.bytes), md5(whole));
  });

  test(`events are pushed while the response stays open over ${over}`, async (t) => {
    const client = await visitor(t, Http, 'grace');
    const answer = await client.open('GET', '/events');
    undo(t, () => answer.close());
    assert.match(answer.headers['content-type'], /^text\/event-stream/);
    const events = eventStream(answer.stream);
    assert.match(await events.take(), /event: hello/);
    const { id } = (await client.json('POST', '/notes', { title: 'pushed', text: '' })).json();
    const pushed = JSON.parse((await events.take()).split('data: ')[1]);
    assert.deepEqual([pushed.kind, pushed.note.id], ['created', id]);
  });
}

test('the four buckets are there after the start', async () => {
  const names = (await s3.listBuckets()).map((bucket) => bucket.name);
  assert.deepEqual(names.sort(), [...BUCKETS].sort());
});

test('files are listed by prefix, described and removed', async (t) => {
  const client = await visitor(t, Http2, 'ada');
  for (const name of ['2026-01.csv', '2026-02.csv', 'other.csv']) {
    const put = await client.request('PUT', `/small/exports/${name}`, { headers: { 'content-type': 'text/csv' }, body: name });
    assert.equal(put.status, 201);
  }
  const listed = (await client.request('GET', '/files/exports?prefix=2026')).json();
  assert.deepEqual(listed.map(({ name, size }) => [name, size]), [['2026-01.csv', 11], ['2026-02.csv', 11]]);

  const stat = (await client.request('GET', '/stat/exports/other.csv')).json();
  assert.deepEqual(stat, { size: 9, etag: md5(Buffer.from('other.csv')), type: 'text/csv' });
  assert.equal((await client.request('DELETE', '/files/exports/other.csv')).status, 204);
  assert.equal((await client.request('GET', '/stat/exports/other.csv')).status, 404);
  await assert.rejects(s3.statObject('exports', 'other.csv'), { code: 'NotFound' });
});

test('signed links carry a file past the app, both ways, until they are tampered with', async (t) => {
  const client = await visitor(t, Http1, 'ada');
  const links = (await client.request('GET', '/links/attachments/report.pdf')).json();
  const store = new Http1(backend, `s3.${backend.domain}`);
  undo(t, () => store.close());
  const path = (link) => link.slice(store.origin.length);
  assert.ok(links.write.startsWith(`${store.origin}/attachments/report.pdf?`), links.write);

  const bytes = randomBytes(300_000);
  assert.equal((await store.request('PUT', path(links.write), { body: bytes })).status, 200);
  assert.deepEqual((await store.request('GET', path(links.read))).bytes, bytes);
  assert.deepEqual(await stored('attachments', 'report.pdf'), bytes);

  const forged = path(links.read).replace('report.pdf', 'secret.pdf');
  assert.equal((await store.request('GET', forged)).status, 403);
  assert.equal((await store.request('PUT', path(links.read), { body: bytes })).status, 403);
});

test('a WebSocket echoes text and bytes and is pushed what happens to notes', async (t) => {
  const client = await visitor(t, Http1, 'ada');
  const socket = await client.webSocket('/live');
  undo(t, () => socket.terminate());
  assert.deepEqual(JSON.parse(await socket.inbox.take()), { kind: 'hello' });

  socket.send('gruß');
  assert.equal(await socket.inbox.take(), 'gruß');
  const bytes = randomBytes(200_000);
  socket.send(bytes);
  assert.deepEqual(await socket.inbox.take(), bytes);

  const { id } = (await client.json('POST', '/notes', { title: 'told', text: '' })).json();
  assert.equal(JSON.parse(await socket.inbox.take()).note.id, id);

  const closed = new Promise((resolve) => socket.once('close', (code) => resolve(code)));
  socket.close(4001, 'bye');
  assert.equal(await closed, 4001);
});

test('the sliding window lets 30 writes through and then says when to come back', async (t) => {
  const client = await visitor(t, Http2, 'grace');
  await redis.del('limit:writes:127.0.0.1');
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, at) => client.json('POST', '/notes', { title: `n${at}`, text: '' })),
  );
  const refused = answers.filter(({ status }) => status === 429);
  assert.equal(answers.length - refused.length, 30);
  for (const { headers } of refused) assert.ok(headers['retry-after'] >= 1 && headers['retry-after'] <= 10);
  assert.equal(await redis.zcard('limit:writes:127.0.0.1'), 30);
  assert.ok((await redis.ttl('limit:writes:127.0.0.1')) > 0);
});

test('failed log-ins are counted, locked after five, and forgotten in time', async (t) => {
  const client = await visitor(t, Http1, 'ada');
  const guess = () => client.json('POST', '/login', { user: 'mallory', password: 'guess' });
  for (const failed of [1, 2, 3, 4, 5]) assert.equal((await guess()).json().failed, failed);
  assert.equal((await guess()).status, 429);
  assert.deepEqual((await client.request('GET', '/failed-attempts')).json(), { mallory: 5 });
  const seconds = await redis.ttl('login:failed:mallory');
  assert.ok(seconds > 890 && seconds <= 900, `${seconds} seconds left`);
});

test('plain HTTP is sent on to HTTPS', async () => {
  const answer = await fetch(`http://127.0.0.1:${backend.ports.http}/notes?x=1`, { redirect: 'manual' });
  assert.ok([301, 308].includes(answer.status), String(answer.status));
  assert.match(answer.headers.get('location'), /^https:\/\/.*\/notes\?x=1$/);
});
