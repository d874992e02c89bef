// A real browser on a page of the app: its session, its signed links to the object store, its WebSocket and its events.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { Client as Minio } from 'minio';

import { onPile } from './support/backend.mjs';
import { startChromium } from './support/chromium.mjs';
import { startNotes } from './support/notes.mjs';

/** A page of the app with a signed-in visitor. */
async function signedInPage(t) {
  const { backend } = await startNotes(t);
  const browser = await startChromium(t, backend);
  const page = await browser.newPage();
  await page.goto(`https://${backend.domain}:${backend.ports.https}/health`);
  const signedIn = await page.evaluate(async () => {
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ user: 'ada', password: 'lovelace' });
    const answer = await fetch('/login', { method: 'POST', headers, body });
    return [answer.status, await (await fetch('/me')).json()];
  });
  assert.deepEqual(signedIn, [200, { user: 'ada' }]);
  return { backend, browser, page };
}

test('a page uploads and downloads through signed links of another origin', { skip: onPile && 'rclone serve s3 answers no preflight' }, async (t) => {
  const { backend, page } = await signedInPage(t);
  const found = await page.evaluate(async () => {
    const { read, write } = await (await fetch('/links/attachments/from the browser.bin')).json();
    const bytes = new Uint8Array(3_000_000).map((_, at) => (at * 31) % 251);
    const put = await fetch(write, { method: 'PUT', headers: { 'content-type': 'application/x-notes' }, body: bytes });
    const got = await fetch(read);
    const back = new Uint8Array(await got.arrayBuffer());
    const part = await fetch(read, { headers: { range: 'bytes=10-19' } });
    return {
      host: new URL(write).host,
      put: put.status,
      got: got.status,
      type: got.headers.get('content-type'),
      same: back.length === bytes.length && back.every((byte, at) => byte === bytes[at]),
      part: [part.status, (await part.arrayBuffer()).byteLength],
    };
  });
  assert.deepEqual(found, {
    host: `s3.localhost:${backend.ports.https}`,
    put: 200,
    got: 200,
    type: 'application/x-notes',
    same: true,
    part: [206, 10],
  });
  assert.equal(await storedDigest(backend, 'attachments', 'from the browser.bin'), patternDigest(3_000_000));
});

test('a signed link opens in the address bar', async (t) => {
  const { backend, browser, page } = await signedInPage(t);
  const link = await page.evaluate(async () => {
    const headers = { 'content-type': 'text/plain' };
    await fetch('/small/exports/hello.txt', { method: 'PUT', headers, body: 'hello from the store' });
    return (await (await fetch('/links/exports/hello.txt')).json()).read;
  });
  const tab = await browser.newPage();
  const answer = await tab.goto(link);
  assert.equal(new URL(link).host, `s3.localhost:${backend.ports.https}`);
  assert.equal(answer.status(), 200);
  assert.equal(await tab.evaluate(() => document.body.innerText), 'hello from the store');
});

test('a page hears of notes over WebSocket and as events', async (t) => {
  const { page } = await signedInPage(t);
  const heard = await page.evaluate(async () => {
    const socket = new WebSocket(`wss://${location.host}/live`);
    const events = new EventSource('/events');
    const once = (target, name, accept = () => true) =>
      new Promise((resolve) => target.addEventListener(name, (event) => accept(event) && resolve(event)));
    await Promise.all([once(socket, 'message'), once(events, 'hello')]);
    const pushed = Promise.all([once(socket, 'message'), once(events, 'note')]);
    const headers = { 'content-type': 'application/json' };
    await fetch('/notes', { method: 'POST', headers, body: JSON.stringify({ title: 'seen', text: '' }) });
    const [message, event] = await pushed;
    socket.close();
    events.close();
    return [message, event].map(({ data }) => JSON.parse(data).note.title);
  });
  assert.deepEqual(heard, ['seen', 'seen']);
});

async function storedDigest({ env }, bucket, name) {
  const client = new Minio({
    endPoint: env.MINIO_ENDPOINT,
    port: Number(env.MINIO_PORT),
    useSSL: env.MINIO_USE_SSL === 'true',
    accessKey: env.MINIO_ACCESS_KEY,
    secretKey: env.MINIO_SECRET_KEY,
  });
  const digest = createHash('md5');
  for await (const chunk of await client.getObject(bucket, name)) digest.update(chunk);
  return digest.digest('hex');
}

function patternDigest(length) {
  return createHash('md5').update(Uint8Array.from({ length }, (_, at) => (at * 31) % 251)).digest('hex');
}
