// The mail clients applications have: the SES SDKs and nodemailer on one side, a real SMTP server on the other.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { GetSendQuotaCommand, SESClient, SendEmailCommand, SendRawEmailCommand } from '@aws-sdk/client-ses';
import { SESv2Client, SendEmailCommand as SendEmailV2 } from '@aws-sdk/client-sesv2';
import nodemailer from 'nodemailer';

import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo, wholeFile } from './support/scope.mjs';
import { startSink } from './support/sink.mjs';

const file = wholeFile();
let mainstay;
let arrived;

before(async () => {
  const sink = await startSink(file);
  arrived = sink.mails;
  mainstay = await startMainstay({ data: folder(file), extra: sink.settings });
  undo(file, () => mainstay.stop());
});

/** The options every AWS client of an app takes from its environment. */
function aws(endpoint) {
  const { AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = mainstay.env;
  const credentials = { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY };
  return { region: AWS_REGION, endpoint: mainstay.env[endpoint], credentials };
}

test('the SES SDK sends a mail with text and HTML', async () => {
  const ses = new SESClient(aws('AWS_ENDPOINT_URL_SES'));
  const { MessageId } = await ses.send(
    new SendEmailCommand({
      Source: 'Notes <notes@example.com>',
      Destination: { ToAddresses: ['ada@example.com'], BccAddresses: ['eve@example.com'] },
      Message: {
        Subject: { Data: 'Welcome, Ada' },
        Body: { Text: { Data: 'Hello\n.\nthere' }, Html: { Data: '<p>Hello</p>' } },
      },
    }),
  );
  assert.match(MessageId, /^[0-9a-f]{32}$/);
  const mails = [await arrived.take(), await arrived.take()];
  assert.deepEqual(mails.map((mail) => mail.to).sort(), [['ada@example.com'], ['eve@example.com']]);
  for (const { from, text } of mails) {
    assert.equal(from, 'notes@example.com');
    assert.match(text, /Subject: Welcome, Ada/);
    assert.match(text, new RegExp(`Message-ID: <${MessageId}@localhost>`));
    assert.doesNotMatch(text, /eve@example.com/, 'nobody sees a blind copy');
  }
  const quota = await ses.send(new GetSendQuotaCommand({}));
  assert.equal(quota.SentLast24Hours, 2);
});

test('a raw mail goes to the recipients in its header', async () => {
  const ses = new SESClient(aws('AWS_ENDPOINT_URL_SES'));
  const raw = 'From: notes@example.com\nTo: ada@example.com\nSubject: raw\n\nbody\n';
  await ses.send(new SendRawEmailCommand({ RawMessage: { Data: Buffer.from(raw) } }));
  const { to, text } = await arrived.take();
  assert.deepEqual(to, ['ada@example.com']);
  assert.match(text, /Subject: raw\r\n[^]*\r\n\r\nbody\r\n$/);
});

test('SES v2 sends, and one call is one mail however often its SDK tries', async () => {
  const ses = new SESv2Client(aws('AWS_ENDPOINT_URL_SESV2'));
  let tries = 0;
  ses.middlewareStack.add(
    (next) => async (request) => {
      const answer = await next(request);
      tries += 1;
      // The answer to the first try gets lost on its way.
      if (tries === 1) throw Object.assign(new Error('socket hang up'), { name: 'TimeoutError' });
      return answer;
    },
    { step: 'finalizeRequest', name: 'loseOneAnswer', priority: 'low' },
  );
  const { MessageId } = await ses.send(
    new SendEmailV2({
      FromEmailAddress: 'notes@example.com',
      Destination: { ToAddresses: ['ada@example.com'] },
      Content: { Simple: { Subject: { Data: 'once' }, Body: { Text: { Data: 'once' } } } },
    }),
  );
  assert.equal(tries, 2);
  const { text } = await arrived.take();
  assert.match(text, new RegExp(MessageId));
  await marker();
});

test('nodemailer submits over SMTP, with an attachment', async () => {
  const transport = nodemailer.createTransport(mainstay.env.SMTP_URL);
  undo(file, () => transport.close());
  const sent = await transport.sendMail({
    from: 'notes@example.com',
    to: 'ada@example.com',
    subject: 'Grüße',
    text: '.dot\nfirst',
    attachments: [{ filename: 'a.bin', content: Buffer.from([0, 1, 255]) }],
  });
  assert.match(sent.response, /^250 2\.0\.0 OK: queued as [0-9a-f]{32}$/);
  const { text } = await arrived.take();
  assert.match(text, /^Received: from \[127\.0\.0\.1\]/);
  assert.match(text, /\r\n\.dot\r\nfirst\r\n/);
  assert.match(text, /AAH\//);
});

test('a message passes from SMTP to SMTP byte for byte, with its own Received line before it', async () => {
  const transport = nodemailer.createTransport(mainstay.env.SMTP_URL);
  const lines = ['.', '..', '.dot', '', 'ünïcode', ' folded?', 'x'.repeat(900), '', '.', '', ''];
  const head = ['From: notes@example.com', 'To: ada@example.com', 'Subject: as it is', 'Date: Fri, 20 Nov 2026 12:00:00 +0000'];
  const raw = [...head, 'Message-ID: <as-it-is@example.com>', 'Content-Type: text/plain; charset=utf-8', '', ...lines].join('\r\n');
  await transport.sendMail({ envelope: { from: 'notes@example.com', to: ['ada@example.com'] }, raw });
  transport.close();
  const { text } = await arrived.take();
  const [received, rest] = text.split(/\r\n(?![ \t])([^]*)/);
  assert.match(received, /^Received: from \[127\.0\.0\.1\]/);
  assert.equal(rest, raw);
});

test('nodemailer without the right password submits nothing', async () => {
  const url = new URL(mainstay.env.SMTP_URL);
  url.password = 'wrong';
  const transport = nodemailer.createTransport(url.href);
  const mail = { from: 'notes@example.com', to: 'ada@example.com', subject: 'no', text: 'no' };
  await assert.rejects(transport.sendMail(mail), { code: 'EAUTH' });
  const open = nodemailer.createTransport({ host: url.hostname, port: Number(url.port) });
  await assert.rejects(open.sendMail(mail), { responseCode: 530 });
  await marker();
});

test('a refused recipient is final and holds up nobody else', async () => {
  const transport = nodemailer.createTransport(mainstay.env.SMTP_URL);
  const to = ['nobody@example.com', 'ada@example.com'];
  await transport.sendMail({ from: 'notes@example.com', to, subject: 'both', text: 'both' });
  assert.deepEqual((await arrived.take()).to, ['ada@example.com']);
  transport.close();
  await marker();
});

/** Sends one more mail and sees that it is the next to arrive: nothing else was under way. */
async function marker() {
  const transport = nodemailer.createTransport(mainstay.env.SMTP_URL);
  await transport.sendMail({ from: 'notes@example.com', to: 'end@example.com', subject: 'end', text: 'end' });
  transport.close();
  assert.deepEqual((await arrived.take()).to, ['end@example.com']);
}
