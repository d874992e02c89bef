// An account's life in a real browser: invited, welcomed, told of logins, a second factor, keys and tokens made and revoked,
// a backup run by a button.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';

import { ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';

import { startChromium } from './support/chromium.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';
import { parsed, parts, startSink } from './support/sink.mjs';

const EMAIL = 'ada@example.com';
const PASSWORD = 'correct horse battery staple';

/** A server with an account whose mail arrives at `sink`; `browse` opens a browser that was never there. */
async function start(t) {
  const sink = await startSink(t);
  const account = { MAINSTAY_ADMIN_EMAIL: EMAIL, MAINSTAY_ADMIN_PASSWORD: PASSWORD };
  const target = folder(t);
  const extra = { ...sink.settings, ...account, MAINSTAY_BACKUP__TARGET: target };
  const server = await startMainstay({ data: folder(t), extra });
  undo(t, () => server.stop());
  const origin = `http://127.0.0.1:${server.ports.console}`;
  const browse = async () => (await startChromium(t, server, { javaScriptEnabled: false })).newPage();
  return { sink, server, origin, browse, target };
}

async function logIn(page, origin, email = EMAIL, password = PASSWORD) {
  await page.goto(`${origin}/login`);
  await page.getByLabel('E-mail address').fill(email);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
}

async function logOut(page) {
  await page.locator('.side').getByRole('button', { name: 'Log out' }).click();
}

/** Gives the password again where it is asked for. */
async function confirmed(page) {
  if (new URL(page.url()).pathname !== '/confirm') return;
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Go on' }).click();
}

/** The code of an authenticator app (RFC 6238) that many steps of 30 seconds from now. */
function code(secret, steps = 0) {
  const bits = [...secret].map((letter) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const digest = createHmac('sha1', key).update(counter).digest();
  const at = digest[19] & 15;
  return String((digest.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

test('a login from a new browser is told of by mail, from a known one not', async (t) => {
  const { sink, origin, browse } = await start(t);
  const page = await browse();
  await logIn(page, origin);
  await page.waitForURL(`${origin}/dashboard`);
  const told = await sink.mails.take();
  assert.deepEqual(told.to, [EMAIL]);
  assert.match(parsed(told.text).fields.subject, /New sign-in/);
  assert.match(parts(told.text).text, /127\.0\.0\.1/);

  await logOut(page);
  await logIn(page, origin);
  await page.waitForURL(`${origin}/dashboard`);
  // Changing the password makes every browser a new one but this.
  await page.goto(`${origin}/account`);
  await page.getByLabel('Current password').fill(PASSWORD);
  await page.getByLabel('New password', { exact: true }).fill('four unrelated words here');
  await page.getByLabel('New password again').fill('four unrelated words here');
  await page.getByRole('button', { name: 'Change the password' }).click();
  assert.match(parsed((await sink.mails.take()).text).fields.subject, /was changed/, 'no letter about the second login');
  await logOut(page);
  await logIn(page, origin, EMAIL, 'four unrelated words here');
  await page.waitForURL(`${origin}/dashboard`);

  const other = await browse();
  await logIn(other, origin, EMAIL, 'four unrelated words here');
  await other.waitForURL(`${origin}/dashboard`);
  assert.match(parsed((await sink.mails.take()).text).fields.subject, /New sign-in/);
});

test('who is invited chooses a password and is welcomed', async (t) => {
  const { sink, server, origin, browse } = await start(t);
  const { code: status, stdout, stderr } = await command(server.data, ['user', 'invite', 'grace@example.com']);
  assert.equal(status, 0, stderr);
  const page = await browse();
  await page.goto(/http\S+\/reset\?token=\S+/.exec(stdout)[0]);
  await page.getByLabel('New password', { exact: true }).fill('compile the first one');
  await page.getByLabel('New password again').fill('compile the first one');
  await page.getByRole('button', { name: 'Set the password' }).click();
  await page.waitForURL(`${origin}/dashboard`);
  const mail = await sink.mails.take();
  assert.deepEqual(mail.to, ['grace@example.com']);
  assert.match(parsed(mail.text).fields.subject, /^Welcome/);
  assert.ok(parts(mail.text).text.includes(`${origin}/login`));
});

test('a second factor is asked for, a recovery code is one too, once', async (t) => {
  const { origin, browse } = await start(t);
  const page = await browse();
  await logIn(page, origin);
  await page.goto(`${origin}/account/second-factor`);
  await confirmed(page);
  const secret = (await page.getByLabel('Secret').inputValue()).replaceAll(' ', '');
  await page.getByLabel('First code from the app').fill(code(secret));
  await page.getByRole('button', { name: 'Turn it on' }).click();
  assert.equal(await page.innerText('h1'), 'Your recovery codes');
  const recovery = (await page.innerText('main')).match(/[\w-]{8,}/g).filter((word) => /\d/.test(word));
  assert.ok(recovery.length >= 8, String(recovery));

  const enter = async (answer) => {
    await page.goto(`${origin}/account`);
    if (new URL(page.url()).pathname === '/account') await logOut(page);
    await logIn(page, origin);
    assert.equal(await page.innerText('h1'), 'Your code', 'the password alone is not enough');
    await page.getByLabel('Code from your app').fill(answer);
    await page.getByRole('button', { name: 'Log in' }).click();
    return new URL(page.url()).pathname;
  };
  assert.notEqual(await enter('000000'), '/dashboard');
  assert.equal(await enter(recovery[0]), '/dashboard');
  assert.notEqual(await enter(recovery[0]), '/dashboard', 'a recovery code works once');
  assert.equal(await enter(code(secret, 1)), '/dashboard');

  await page.goto(`${origin}/account/second-factor/remove`);
  await confirmed(page);
  await page.getByRole('button', { name: 'Remove it' }).click();
  await logOut(page);
  await logIn(page, origin);
  await page.waitForURL(`${origin}/dashboard`);
});

test('a key and a token work until they are revoked', async (t) => {
  const { server, origin, browse } = await start(t);
  const page = await browse();
  await logIn(page, origin);
  const fresh = async (path, button) => {
    await page.goto(`${origin}/keys`);
    await page.locator(`form[action="${path}"]`).getByLabel('Label').fill('a worker');
    await page.getByRole('button', { name: button }).click();
    await confirmed(page);
    const lines = (await page.innerText('pre')).trim().split('\n');
    return Object.fromEntries(lines.map((line) => /^(\w+)=(.*)$/.exec(line).slice(1)));
  };
  const key = await fresh('/keys/access', 'Make an access key');
  const s3 = new S3Client({
    endpoint: server.env.AWS_ENDPOINT_URL_S3,
    region: server.env.AWS_REGION,
    credentials: { accessKeyId: key.AWS_ACCESS_KEY_ID, secretAccessKey: key.AWS_SECRET_ACCESS_KEY },
    maxAttempts: 1,
  });
  undo(t, () => s3.destroy());
  await s3.send(new ListBucketsCommand({}));
  const { MAINSTAY_API_TOKEN: token } = await fresh('/keys/tokens', 'Make a token');
  const ask = async () => (await fetch(`${origin}/v1/mail`, { headers: { authorization: `Bearer ${token}` } })).status;
  assert.equal(await ask(), 200);

  await page.goto(`${origin}/keys`);
  await page.getByRole('link', { name: `Revoke ${key.AWS_ACCESS_KEY_ID}` }).click();
  await page.locator('main input:not([type=hidden])').fill(key.AWS_ACCESS_KEY_ID);
  await page.getByRole('button', { name: 'Revoke it' }).click();
  assert.match(await page.getByRole('status').innerText(), /is revoked/);
  await assert.rejects(s3.send(new ListBucketsCommand({})), { name: 'InvalidAccessKeyId' });

  await page.getByRole('link', { name: 'Revoke a worker' }).click();
  await page.getByRole('button', { name: 'Revoke it' }).click();
  assert.equal(await ask(), 401);
});

test('a backup runs by a button, and the dashboard tells of it', async (t) => {
  const { server, origin, browse, target } = await start(t);
  const page = await browse();
  await logIn(page, origin);
  const tile = page.locator('.tiles div', { hasText: 'Last backup' });
  const rows = page.locator('section', { hasText: 'Snapshots' }).locator('tbody tr');
  // One is made by itself at the start; a command's waits for the one under way.
  const run = async () => {
    const { code: status, stderr } = await command(server.data, ['backup', 'now']);
    assert.equal(status, 0, stderr);
  };
  await run();
  await page.goto(`${origin}/backups`);
  const before = await rows.count();
  await page.getByRole('button', { name: 'Back up now' }).click();
  assert.match(await page.getByRole('status').innerText(), /has begun/);
  await run();
  await page.goto(`${origin}/backups`);
  assert.equal((await rows.count()) - before, 2);
  const { stdout } = await command(server.data, ['backup', 'list', '--target', target]);
  for (const row of await rows.all()) assert.ok(stdout.includes((await row.locator('code').innerText()).slice(0, 8)));
  await page.goto(`${origin}/dashboard`);
  assert.match(await tile.innerText(), /just now|\d+ (s|min) ago/);
});
