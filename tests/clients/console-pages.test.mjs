// The console's pages in a real browser: what apps have stored can be seen, and nothing that was stored can act.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client as Minio } from 'minio';
import nodemailer from 'nodemailer';

import { chromium } from 'playwright-core';

import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { coldAt, eventually, mainstayRemote } from './support/remote.mjs';
import { undo } from './support/scope.mjs';

const EVIL = `"><script>document.title='owned';alert(1)</script><img src=x onerror="alert(2)">`;
const ACCOUNT = { email: 'ada@example.com', password: 'correct horse battery staple' };

/** A server with an account, and a browser in which it is logged in. */
async function loggedIn(t, { javaScriptEnabled = true, more = {} } = {}) {
  const extra = { ...more, MAINSTAY_ADMIN_EMAIL: ACCOUNT.email, MAINSTAY_ADMIN_PASSWORD: ACCOUNT.password };
  const server = await startMainstay({ data: folder(t), extra });
  undo(t, () => server.stop());
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
  undo(t, () => browser.close());
  const context = await browser.newContext({ javaScriptEnabled });
  const page = await context.newPage();
  const trouble = [];
  page.on('dialog', (dialog) => {
    trouble.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('pageerror', (error) => trouble.push(`error: ${error}`));
  page.on('console', (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) trouble.push(`${message.location().url} ${message.text()}`);
  });
  const base = server.env.MAINSTAY_URL;
  await page.goto(`${base}/login`);
  await page.fill('input[name="email"]', ACCOUNT.email);
  await page.fill('input[name="password"]', ACCOUNT.password);
  await page.click('main form button:not([name="theme"])');
  await page.waitForURL((url) => url.pathname !== '/login');
  return { server, context, page, base, trouble };
}

function files({ env }) {
  return new Minio({
    endPoint: env.MINIO_ENDPOINT,
    port: Number(env.MINIO_PORT),
    useSSL: false,
    accessKey: env.MINIO_ACCESS_KEY,
    secretKey: env.MINIO_SECRET_KEY,
  });
}

async function report(server, event) {
  const dsn = new URL(server.env.SENTRY_DSN);
  const id = crypto.randomUUID().replaceAll('-', '');
  const body = `{"event_id":"${id}"}\n{"type":"event"}\n${JSON.stringify({ event_id: id, ...event })}\n`;
  const answer = await fetch(`${dsn.origin}/api${dsn.pathname}/envelope/`, {
    method: 'POST',
    headers: { 'x-sentry-auth': `Sentry sentry_key=${dsn.username}, sentry_version=7` },
    body,
  });
  assert.equal(answer.status, 200);
}

/** Loads `path` until `text` is on it. */
async function until(page, path, text) {
  for (let tries = 0; tries < 100; tries += 1) {
    await page.goto(path);
    if ((await page.textContent('main')).includes(text)) return;
  }
  assert.fail(`${text} never came to ${path}`);
}

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? 'with scripts' : 'without scripts';

  test(`a file goes up, is looked at, shared and removed, ${how}`, async (t) => {
    const { server, page, base, trouble } = await loggedIn(t, { javaScriptEnabled });
    await page.goto(`${base}/buckets`);
    await page.fill('#name', 'papers');
    await page.click('text=Make it');
    const body = Buffer.from(`hello ${EVIL}`);
    await page.setInputFiles('#file', { name: 'a <b>& "ü.txt', mimeType: 'text/plain', buffer: body });
    await page.click('text=Store here');
    await page.click('table a');
    assert.equal(await page.textContent('pre.wrap'), body.toString());
    await page.click('text=Make an address');
    const link = await page.inputValue('#shared');
    assert.notEqual(new URL(link).origin, base);
    const shared = await fetch(link);
    assert.deepEqual([shared.status, await shared.text()], [200, body.toString()]);

    await page.click('.actions >> text=Delete');
    await page.click('button.danger');
    assert.equal((await fetch(link)).status, 404);
    assert.deepEqual(trouble, []);
    const left = [];
    for await (const object of files(server).listObjects('papers', '', true)) left.push(object.name);
    assert.deepEqual(left, []);
  });

  test(`versions are looked at, made current, deleted for good, and what was deleted comes back, ${how}`, async (t) => {
    const { server, page, base, trouble } = await loggedIn(t, { javaScriptEnabled });
    const bucket = files(server);
    await bucket.makeBucket('papers', server.env.AWS_REGION);
    const text = async () => {
      const parts = [];
      for await (const part of await bucket.getObject('papers', key)) parts.push(part);
      return Buffer.concat(parts).toString();
    };
    const key = `deep/a <b> & ${EVIL.slice(0, 30)}.txt`;
    await bucket.putObject('papers', key, 'before versions');
    await page.goto(`${base}/buckets/papers`);
    assert.equal(await page.locator('text=Show deleted').count(), 0, 'only where versions are kept');
    await bucket.setBucketVersioning('papers', { Status: 'Enabled' });
    for (let at = 0; at < 120; at += 1) await bucket.putObject('papers', key, `text ${at}`, undefined, { 'content-type': 'text/plain', 'x-amz-meta-nth': String(at) });
    await bucket.putObject('papers', `${key}-other`, 'not this one');
    const object = `${base}/buckets/papers/object?key=${encodeURIComponent(key)}`;
    await page.goto(object);
    const rows = page.locator('section[aria-labelledby=versions] tbody tr');
    assert.equal(await rows.count(), 50);
    assert.match(await rows.first().innerText(), /newest/);

    // The oldest version, three pages on.
    for (let more = 0; more < 2; more += 1) await page.click('.pager >> text=Next page');
    assert.equal(await rows.count(), 21);
    const [download] = await Promise.all([page.waitForEvent('download'), rows.last().getByText('Download').click()]);
    assert.equal((await download.createReadStream().then((stream) => stream.toArray())).join(''), 'before versions');
    const opened = await rows.nth(19).getByText('Open').getAttribute('href');
    assert.notEqual(new URL(opened).origin, base);
    assert.equal(await (await fetch(opened)).text(), 'text 0');
    await rows.nth(19).getByRole('button', { name: /^Make the version/ }).click();
    assert.match(await page.innerText('main'), /current again/);
    assert.equal(await text(), 'text 0');
    assert.equal((await bucket.statObject('papers', key)).metaData.nth, '0');

    // The newest for good: the one below is current again.
    await rows.first().getByText('Delete…').click();
    assert.match(await page.innerText('main'), /destroyed for good/);
    assert.equal(await text(), 'text 0', 'asked first');
    await page.click('button.danger');
    assert.match(await page.innerText('main'), /The version is gone/);
    assert.equal(await text(), 'text 119');

    // Deleted twice, and brought back from the folder.
    await page.goto(object);
    await page.click('.actions >> text=Delete');
    assert.match(await page.innerText('main'), /can be brought back/);
    await page.click('button.danger');
    await bucket.removeObject('papers', key);
    assert.equal((await page.goto(object)).status(), 200);
    assert.match(await page.innerText('main'), /It is deleted/);
    await page.goto(`${base}/buckets/papers`);
    await page.click('text=Show deleted');
    await page.click('text=deep/');
    assert.equal(await page.locator('tbody tr').count(), 1);
    await page.click('text=Undelete');
    assert.match(await page.innerText('main'), /The object is back/);
    assert.equal(await text(), 'text 119');
    await page.goto(`${base}/buckets/papers/deleted?prefix=deep%2F`);
    assert.match(await page.innerText('main'), /Nothing was deleted here/);
    assert.deepEqual(trouble, []);
  });

  test(`a prefix is opened to everybody and closed again, ${how}`, async (t) => {
    const { server, page, base, trouble } = await loggedIn(t, { javaScriptEnabled });
    const bucket = files(server);
    await bucket.makeBucket('papers', server.env.AWS_REGION);
    for (const name of ['public/a', 'private']) await bucket.putObject('papers', name, name);
    const status = async (path) => (await fetch(`${server.env.AWS_ENDPOINT_URL_S3}/papers${path}`)).status;
    assert.equal(await status('/public/a'), 403);
    await page.goto(`${base}/buckets/papers`);
    await page.click('.actions >> text=Settings');
    await page.fill('#prefix', 'public/');
    await page.click('text=Let everybody read');
    assert.match(await page.innerText('main'), /papers\/public\/\*/);
    assert.deepEqual([await status('/public/a'), await status('/private'), await status('?list-type=2')], [200, 403, 403]);
    await page.fill('#prefix', 'a*');
    await page.click('text=Let everybody read');
    assert.match(await page.innerText('main'), /stand for something else/);
    await page.click('button.danger');
    assert.match(await page.innerText('main'), /Nothing: whoever wants/);
    assert.equal(await status('/public/a'), 403);
    await bucket.setBucketPolicy('papers', JSON.stringify({ Version: '2012-10-17', Statement: { Sid: EVIL, Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: `arn:aws:s3:::papers/${EVIL}` } }));
    await page.reload();
    assert.ok((await page.innerText('main')).includes(EVIL));

    await page.fill('#types', 'image/*, pdf');
    await page.click('form[action$="/files"] button');
    assert.match(await page.innerText('main'), /“pdf”|`pdf` is no media type/);
    await page.fill('#types', 'image/*');
    await page.fill('#max-file', '1 MiB');
    await page.click('form[action$="/files"] button');
    assert.match(await page.innerText('main'), /The rules for files are set/);
    assert.deepEqual([await page.inputValue('#types'), await page.inputValue('#max-file')], ['image/*', '1048576']);
    await assert.rejects(bucket.putObject('papers', 'x.txt', 'x'), /takes no files of type text\/plain, only of image\/\*/);
    assert.deepEqual(trouble, []);
  });

  test(`a message is read, its HTML in a frame that runs nothing, ${how}`, async (t) => {
    const { server, page, base, trouble } = await loggedIn(t, { javaScriptEnabled });
    const mail = nodemailer.createTransport(server.env.SMTP_URL);
    undo(t, () => mail.close());
    await mail.sendMail({
      from: 'notes@example.com',
      to: 'ada@example.com',
      subject: `Hi ${EVIL}`,
      text: `text ${EVIL}`,
      html: `<p id="seen">html</p>${EVIL}`,
      attachments: [{ filename: `${EVIL}.html`, content: EVIL }],
    });
    await until(page, `${base}/mail`, 'Hi ');
    assert.ok((await page.textContent('table.cards')).includes(EVIL));
    await page.click('table a');
    assert.ok((await page.textContent('h1')).includes(EVIL));
    assert.ok((await page.textContent('pre.wrap')).includes(EVIL));
    const frame = page.frames().find((one) => one.url().endsWith('/html'));
    await frame.waitForSelector('#seen');
    const raw = await page.request.get(`${page.url()}/html`);
    assert.match(raw.headers()['content-security-policy'], /^sandbox; default-src 'none'/);
    const saved = await page.request.get(`${page.url()}/raw`);
    assert.match(saved.headers()['content-disposition'], /^attachment/);
    assert.notEqual(await page.title(), 'owned');
    // The frame's own document was kept from acting, and said so.
    assert.deepEqual(trouble.filter((line) => !/^[^ ]*\/mail\/\w+\/html /.test(line)), []);
  });

  test(`an issue is read and resolved, whatever its events hold, ${how}`, async (t) => {
    const { server, page, base, trouble } = await loggedIn(t, { javaScriptEnabled });
    const frame = { function: EVIL, filename: EVIL, lineno: 3, in_app: true, context_line: EVIL, vars: { x: EVIL } };
    await report(server, {
      level: 'error',
      platform: EVIL,
      release: EVIL,
      environment: EVIL,
      transaction: EVIL,
      server_name: EVIL,
      tags: { evil: EVIL },
      user: { id: EVIL },
      extra: { evil: EVIL },
      contexts: { evil: { evil: EVIL } },
      request: { method: EVIL, url: `http://x/${EVIL}`, headers: { evil: EVIL } },
      breadcrumbs: [{ category: EVIL, message: EVIL, data: { evil: EVIL } }],
      exception: { values: [{ type: 'Evil', value: EVIL, stacktrace: { frames: [frame] } }] },
    });
    await until(page, `${base}/issues`, 'Evil');
    await page.click('table a');
    assert.ok((await page.textContent('main')).includes(EVIL));
    await page.click('table a >> nth=-1');
    await page.goBack();
    await page.click('text=Resolve');
    assert.ok((await page.textContent('main')).includes('resolved'));
    assert.notEqual(await page.title(), 'owned');
    assert.deepEqual(trouble, []);
  });
}

test('stored pages and pictures do not act on the console', async (t) => {
  const { server, page, base, trouble } = await loggedIn(t);
  const client = files(server);
  // A slash would make a folder of it.
  const name = `"><img src=x onerror=alert(5)>`;
  await client.makeBucket('evil');
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="alert(3)"><script>alert(4)</script></svg>`;
  await client.putObject('evil', `${name}.svg`, svg, svg.length, { 'Content-Type': 'image/svg+xml' });
  await client.putObject('evil', `${name}.html`, EVIL, EVIL.length, { 'Content-Type': 'text/html' });
  await page.goto(`${base}/buckets/evil`);
  const links = await page.$$eval('table a', (all) => all.map((link) => link.href));
  assert.equal(links.length, 2);
  for (const link of links) {
    await page.goto(link);
    assert.ok((await page.textContent('main')).includes(name));
  }
  const key = encodeURIComponent(`${name}.svg`);
  const picture = await page.goto(`${base}/buckets/evil/picture?key=${key}`).catch(() => null);
  const headers = picture?.headers() ?? (await page.request.get(`${base}/buckets/evil/picture?key=${key}`)).headers();
  assert.match(headers['content-security-policy'], /^sandbox; default-src 'none'/);
  assert.deepEqual(trouble, []);
});

test('a bucket is moved to another backend and back', async (t) => {
  const remote = await mainstayRemote(t);
  const { server, page, base, trouble } = await loggedIn(t, { more: coldAt(t, remote) });
  const client = files(server);
  await client.makeBucket('photos');
  for (let at = 0; at < 5; at += 1) await client.putObject('photos', `${at}`, Buffer.alloc(100_000, at));
  const settings = `${base}/buckets/photos/settings`;
  const shows = (text) => eventually(async () => (await page.goto(settings)) && (await page.textContent('main')).includes(text));
  for (const [to, count] of [['cold', 5], ['local', 0]]) {
    await page.goto(settings);
    await page.selectOption('#backend-to', to);
    await page.click('form[action="/buckets/photos/move"] button');
    await page.waitForURL(settings);
    assert.match(await page.textContent('main'), /The move has begun/);
    await shows(`Moved to ${to} on`);
    const where = await page.textContent('section[aria-labelledby="backend"]');
    assert.match(where, new RegExp(`New ones go to ${to};`));
    assert.match(where, /5 bodies, /);
    assert.equal(await page.inputValue('#backend-to'), to);
    await page.goto(`${base}/buckets`);
    assert.equal((await page.textContent('main')).includes('at cold'), to === 'cold');
    while ((await remote.list()).length !== count) await new Promise(setImmediate);
  }
  await remote.kill();
  await page.goto(settings);
  await page.selectOption('#backend-to', 'cold');
  await page.click('form[action="/buckets/photos/move"] button');
  await shows('It does not go on: backend `cold`');
  await page.goto(`${base}/dashboard`);
  assert.match(await page.textContent('main'), /backends/);
  assert.deepEqual(trouble, []);
});

test('the manual is read chapter by chapter', async (t) => {
  const { page, base, trouble } = await loggedIn(t);
  await page.goto(`${base}/docs`);
  const chapters = await page.$$eval('.manual nav > ul > li > a', (links) => links.map((link) => link.href));
  assert.ok(chapters.length >= 12);
  for (const chapter of chapters) {
    const answer = await page.goto(chapter);
    assert.equal(answer.status(), 200);
    assert.ok((await page.textContent('article')).length > 500, chapter);
  }
  assert.deepEqual(trouble, []);
});
