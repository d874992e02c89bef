// A forgotten password: the link comes by mail, sets a new one once, and nobody learns who has an account.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startChromium } from './support/chromium.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';
import { parts, startSink } from './support/sink.mjs';

const EMAIL = 'ada@example.com';
const NEW = 'four unrelated words here';

test('a link by mail sets a new password, once', async (t) => {
  const sink = await startSink(t);
  const account = { MAINSTAY_ADMIN_EMAIL: EMAIL, MAINSTAY_ADMIN_PASSWORD: 'correct horse battery staple' };
  const server = await startMainstay({ data: folder(t), extra: { ...sink.settings, ...account } });
  undo(t, () => server.stop());
  const origin = `http://127.0.0.1:${server.ports.console}`;
  const browser = await startChromium(t, server, { javaScriptEnabled: false, viewport: { width: 390, height: 800 } });
  const page = await browser.newPage();

  await page.goto(`${origin}/login`);
  await page.getByRole('link', { name: 'Forgot the password?' }).click();
  const answers = [];
  for (const email of ['nobody@example.com', EMAIL, EMAIL]) {
    await page.getByLabel('E-mail address').fill(email);
    await page.getByRole('button', { name: 'Send a link' }).click();
    answers.push(await page.getByRole('status').innerText());
  }
  assert.equal(new Set(answers).size, 1, 'the answer is always the same');

  const mail = await sink.mails.take();
  assert.deepEqual(mail.to, [EMAIL]);
  const link = /http:\S+\/reset\?token=[\w-]+/.exec(parts(mail.text).text)[0];
  assert.ok(link.startsWith(`${origin}/reset`), link);
  await page.goto(link);
  await page.getByLabel('New password', { exact: true }).fill(NEW);
  await page.getByLabel('New password again').fill(NEW);
  await page.getByRole('button', { name: 'Set the password' }).click();
  await page.waitForURL(`${origin}/dashboard`);

  const told = await sink.mails.take();
  assert.deepEqual(told.to, [EMAIL], 'the second request within minutes sent nothing');
  assert.match(parts(told.text).text, /password/);
  assert.match(parts(told.text).text, /127\.0\.0\.1/);
  assert.equal((await page.goto(link)).status(), 404, 'the link works once');
});
