// The mail clients applications have: the SES SDKs and nodemailer on one side, a real SMTP server on the other.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { before, test } from 'node:test';

import { GetSendQuotaCommand, SESClient, SendEmailCommand, SendRawEmailCommand } from '@aws-sdk/client-ses';
import { SESv2Client, SendEmailCommand as SendEmailV2 } from '@aws-sdk/client-sesv2';
import nodemailer from 'nodemailer';
import { SMTPServer } from 'smtp-server';

import { inbox } from './support/browse.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const file = wholeFile();
let mainstay;
let arrived;

/** An SMTP server that keeps what it is given; `refuse` decides about recipients. */
async function sink() {
  const mails = inbox();
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onRcptTo({ address }, session, done) {
      done(address.startsWith('nobody@') ? Object.assign(new Error('no such user'), { responseCode: 550 }) : undefined);
    },
    onData(stream, session, done) {
      const pieces = [];
      stream.on('data', (piece) => pieces.push(piece));
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.put({ from: mailFrom.address, to: rcptTo.map((to) => to.address), text: Buffer.concat(pieces).toString() });
        done();
      });
    },
  });
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  return { mails, port: server.server.address().port, close: () => new Promise((done) => server.close(done)) };
}

before(async () => {
  const relay = await sink();
  undo(file, () => relay.close());
  arrived = relay.mails;
  const extra = {
    MAINSTAY_MAIL__TRANSPORT: 'smtp',
    MAINSTAY_MAIL__RELAY: `smtp://127.0.0.1:${relay.port}`,
  };
  mainstay = await startMainstay({ data: folder(file), extra });
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
