// Mail nobody should send: nothing a sender writes starts a header field, a recipient or a message of its own, and what
// goes beyond a limit is refused without holding up anybody else. A real SMTP server plays the relay and sees the truth.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { before, test } from 'node:test';

import { SESClient, SendEmailCommand, SendRawEmailCommand } from '@aws-sdk/client-ses';
import { SESv2Client, SendEmailCommand as SendEmailV2 } from '@aws-sdk/client-sesv2';
import nodemailer from 'nodemailer';

import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { exchange } from './support/raw.mjs';
import { undo, wholeFile } from './support/scope.mjs';
import { parsed, startSink } from './support/sink.mjs';

const file = wholeFile();
const MOST = 1 << 20;
let server;
let mails;
let ses;
let sesV2;

before(async () => {
  const sink = await startSink(file);
  mails = sink.mails;
  // The budget for messages under way is one message: its smallest.
  const extra = { ...sink.settings, MAINSTAY_MAIL__MAX_MESSAGE: '1MiB', MAINSTAY_SMTP__MAX_HELD: '1MiB', MAINSTAY_MAIL__MAX_RECIPIENTS: '5' };
  server = await startMainstay({ data: folder(file), extra });
  undo(file, () => server.stop());
  const { env } = server;
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  const options = { region: env.AWS_REGION, endpoint: env.AWS_ENDPOINT_URL_SES, credentials, maxAttempts: 1 };
  ses = new SESClient(options);
  sesV2 = new SESv2Client(options);
});

/** Sends one more mail and sees that it is the next to arrive: nothing else was taken in before. */
async function marker() {
  const transport = nodemailer.createTransport(server.env.SMTP_URL);
  await transport.sendMail({ from: 'notes@example.com', to: 'end@example.com', subject: 'end', text: 'end' });
  transport.close();
  assert.deepEqual((await mails.take()).to, ['end@example.com']);
}

const TO = 'ada@example.com';
const LINES = ['\r\n', '\n', '\r', '\0', '\u2028', '\u0085', '\r\n ', '\v'];

function v1({ subject = 'subject', source = 'notes@example.com', to = [TO], cc, bcc, replyTo, tag, set } = {}) {
  return new SendEmailCommand({
    Source: source,
    Destination: { ToAddresses: to, CcAddresses: cc, BccAddresses: bcc },
    ReplyToAddresses: replyTo,
    Message: { Subject: { Data: subject }, Body: { Text: { Data: 'text' } } },
    Tags: tag && [{ Name: tag, Value: tag }],
    ConfigurationSetName: set,
  });
}

function v2({ subject = 'subject', from = 'notes@example.com', to = [TO], cc, replyTo, header, fileName, fileType, tag } = {}) {
  return new SendEmailV2({
    FromEmailAddress: from,
    Destination: { ToAddresses: to, CcAddresses: cc },
    ReplyToAddresses: replyTo,
    EmailTags: tag && [{ Name: tag, Value: tag }],
    Content: {
      Simple: {
        Subject: { Data: subject },
        Body: { Text: { Data: 'text' } },
        Headers: header && [header],
        Attachments: (fileName || fileType) && [{ FileName: fileName ?? 'a.txt', ContentType: fileType ?? 'text/plain', RawContent: Buffer.from('a') }],
      },
    },
  });
}

// Each puts a text that may hold line ends where a sender can put text.
const FIELDS = {
  'the subject (v1)': (text) => ses.send(v1({ subject: text })),
  'the sender (v1)': (text) => ses.send(v1({ source: `notes@example.com${text}` })),
  'the name of the sender (v1)': (text) => ses.send(v1({ source: `"a${text}" <notes@example.com>` })),
  'a recipient (v1)': (text) => ses.send(v1({ to: [`${TO}${text}`] })),
  'the name of a recipient (v1)': (text) => ses.send(v1({ to: [`a${text} <${TO}>`] })),
  'a copy (v1)': (text) => ses.send(v1({ cc: [`grace@example.com${text}`] })),
  'a blind copy (v1)': (text) => ses.send(v1({ bcc: [`grace@example.com${text}`] })),
  'where answers go (v1)': (text) => ses.send(v1({ replyTo: [`a${text} <notes@example.com>`] })),
  'a tag (v1)': (text) => ses.send(v1({ tag: text })),
  'a configuration set (v1)': (text) => ses.send(v1({ set: text })),
  'the subject (v2)': (text) => sesV2.send(v2({ subject: text })),
  'the sender (v2)': (text) => sesV2.send(v2({ from: `a${text} <notes@example.com>` })),
  'a recipient (v2)': (text) => sesV2.send(v2({ to: [`${TO}${text}`] })),
  'a copy (v2)': (text) => sesV2.send(v2({ cc: [`a${text} <grace@example.com>`] })),
  'where answers go (v2)': (text) => sesV2.send(v2({ replyTo: [`notes@example.com${text}`] })),
  'the name of a header (v2)': (text) => sesV2.send(v2({ header: { Name: `X-A${text}`, Value: 'a' } })),
  'the value of a header (v2)': (text) => sesV2.send(v2({ header: { Name: 'X-A', Value: text } })),
  'the name of a file (v2)': (text) => sesV2.send(v2({ fileName: `a${text}.txt` })),
  'the type of a file (v2)': (text) => sesV2.send(v2({ fileType: `text/plain${text}` })),
  'a tag (v2)': (text) => sesV2.send(v2({ tag: text })),
};

for (const [name, send] of Object.entries(FIELDS)) {
  test(`SES: ${name} starts no header field`, async () => {
    for (const line of LINES) {
      const injected = `x${line}Bcc: eve@example.com${line}X-Injected: yes${line}${line}<p>injected</p>`;
      try {
        await send(injected);
      } catch (error) {
        // Refused as the caller's fault, and nothing was sent.
        assert.equal(error.$metadata?.httpStatusCode, 400, `${JSON.stringify(line)}: ${error}`);
        continue;
      }
      const { to, text } = await mails.take();
      assert.deepEqual(to, [TO], JSON.stringify(line));
      const { fields, body } = parsed(text);
      assert.equal(fields['x-injected'], undefined, text);
      assert.equal(fields.bcc, undefined, text);
      assert.doesNotMatch(body, /injected/, text);
    }
    await marker();
  });
}

test('SES: fields Mainstay writes cannot be given a second time', async () => {
  for (const Name of ['Bcc', 'From', 'to', 'Content-Type', 'DKIM Signature', '', 'a:b']) {
    await assert.rejects(sesV2.send(v2({ header: { Name, Value: 'x' } })), { $fault: 'client' }, Name);
  }
  await marker();
});

test('SES: more than the limits allow is refused', async () => {
  const many = Array.from({ length: 6 }, (_, at) => `a${at}@example.com`);
  await assert.rejects(ses.send(v1({ to: many })), { $fault: 'client' });
  const large = Buffer.from(`From: a@example.com\r\nTo: ${TO}\r\n\r\n${'x\r\n'.repeat(MOST / 3)}`);
  await assert.rejects(ses.send(new SendRawEmailCommand({ RawMessage: { Data: large } })), { $fault: 'client' });
  const raw = (text) => ses.send(new SendRawEmailCommand({ RawMessage: { Data: Buffer.from(text) }, Destinations: [TO] }));
  await assert.rejects(raw('From: a@example.com\r\n\r\na\r.\r\nb'), { $fault: 'client' });
  await assert.rejects(raw('From: a@example.com\r\n\r\na\0b'), { $fault: 'client' });
  await assert.rejects(raw(`From: a@example.com\r\n\r\n${'x'.repeat(2000)}`), { $fault: 'client' });
  await marker();
});

const port = () => Number(new URL(server.env.SMTP_URL).port);

/** The words that log in, and open a message. */
function login() {
  const { username, password } = new URL(server.env.SMTP_URL);
  const plain = Buffer.from(`\0${decodeURIComponent(username)}\0${decodeURIComponent(password)}`).toString('base64');
  return `EHLO test\r\nAUTH PLAIN ${plain}\r\n`;
}
const opened = () => `${login()}MAIL FROM:<notes@example.com>\r\nRCPT TO:<${TO}>\r\nDATA\r\n`;
const HEAD = `From: notes@example.com\r\nTo: ${TO}\r\nSubject: s\r\n\r\n`;
const codes = ({ text }) => [...text.matchAll(/^(\d{3}) /gm)].map(([, code]) => Number(code));

const SMUGGLED = ['\n.\n', '\n.\r\n', '\r\n.\n', '\r.\r\n', '\r.\r', '\n\n.\r\n', '\r\r\n.\r\n', '\r\n.\r\r\n', '\r\n\r.\r\n', '\n\r\n.\n'];

for (const end of SMUGGLED) {
  test(`SMTP: ${JSON.stringify(end)} ends no message, and none hides behind it`, async () => {
    const hidden = `MAIL FROM:<notes@example.com>\r\nRCPT TO:<eve@example.com>\r\nDATA\r\n${HEAD}smuggled\r\n.\r\nQUIT\r\n`;
    const answer = await exchange(port(), `${opened()}${HEAD}hi${end}${hidden}`);
    assert.equal(codes(answer).at(-1), 521, answer.text);
    assert.ok(answer.closed);
    await marker();
  });
}

test('SMTP: nobody relays without logging in', async () => {
  const message = `DATA\r\n${HEAD}hi\r\n.\r\nQUIT\r\n`;
  for (const start of ['', 'AUTH PLAIN AGEAYg==\r\n', 'AUTH PLAIN =\r\n', 'AUTH LOGIN\r\nYQ==\r\nYg==\r\n', 'STARTTLS\r\n', 'AUTH CRAM-MD5\r\n']) {
    for (const from of ['<notes@example.com>', '<>', '<root@localhost> AUTH=<root@localhost>']) {
      const answer = await exchange(port(), `EHLO test\r\n${start}MAIL FROM:${from}\r\nRCPT TO:<${TO}>\r\n${message}`);
      assert.ok(!codes(answer).some((code) => code === 354), answer.text);
      assert.ok(codes(answer).some((code) => code >= 500), answer.text);
    }
  }
  const first = await exchange(port(), `MAIL FROM:<notes@example.com>\r\nRCPT TO:<${TO}>\r\n${message}`);
  assert.ok(!codes(first).includes(354), first.text);
  await marker();
});

const LINES_OF_COMMANDS = {
  'a sender with a line end': 'MAIL FROM:<a@example.com\nRCPT TO:<eve@example.com>>\r\n',
  'a recipient with a line end': `MAIL FROM:<a@example.com>\r\nRCPT TO:<eve@example.com\r>\r\n`,
  'a parameter nobody offered': 'MAIL FROM:<a@example.com> XINJECT=a+0D+0ARCPT\r\n',
  'a sender with two addresses': 'MAIL FROM:<a@example.com>,<b@example.com>\r\n',
  'a sender without a domain': 'MAIL FROM:<root>\r\n',
  'a source route': 'MAIL FROM:<@one.example,@two.example:a@example.com>\r\n',
  'a size above the limit': `MAIL FROM:<a@example.com> SIZE=${MOST + 1}\r\n`,
  'binary without chunks': 'MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n',
  'a NUL': 'MAIL FROM:<a\0@example.com>\r\n',
  'a line without end': `${'x'.repeat(100_000)}`,
};

for (const [name, line] of Object.entries(LINES_OF_COMMANDS)) {
  test(`SMTP: ${name} is refused`, async () => {
    const answer = await exchange(port(), `${login()}${line}\r\nQUIT\r\n`);
    assert.ok(codes(answer).some((code) => code >= 500), answer.text);
    assert.doesNotMatch(answer.text, /^250 2\.1\.5/m, 'no recipient was taken');
    await marker();
  });
}

const MESSAGES = {
  'no header at all': ['hello\r\n.\r\n', 550],
  'a NUL': [`${HEAD}a\0b\r\n.\r\n`, 550],
  'a line of a thousand bytes': [`${HEAD}${'x'.repeat(1000)}\r\n.\r\n`, 550],
  'more bytes than allowed': [`${HEAD}${'x\r\n'.repeat(MOST / 2)}.\r\n`, 552],
};

for (const [name, [message, code]] of Object.entries(MESSAGES)) {
  test(`SMTP: a message with ${name} is refused, and the next one is taken`, async () => {
    const next = `MAIL FROM:<notes@example.com>\r\nRCPT TO:<${TO}>\r\nDATA\r\n${HEAD}next\r\n.\r\nQUIT\r\n`;
    const answer = await exchange(port(), `${opened()}${message}${next}`);
    assert.deepEqual(codes(answer).slice(-6), [code, 250, 250, 354, 250, 221], answer.text);
    assert.match((await mails.take()).text, /\r\nnext\r\n$/);
    await marker();
  });
}

test('SMTP: too many recipients are refused one by one', async () => {
  const recipients = Array.from({ length: 7 }, (_, at) => `RCPT TO:<a${at}@example.com>\r\n`).join('');
  const answer = await exchange(port(), `${login()}MAIL FROM:<a@example.com>\r\n${recipients}QUIT\r\n`);
  assert.deepEqual(codes(answer).slice(-8), [250, 250, 250, 250, 250, 452, 452, 221], answer.text);
});

test('SMTP: a client that only makes mistakes is sent away', async () => {
  const answer = await exchange(port(), `${login()}${'NONSENSE\r\n'.repeat(100)}`);
  assert.equal(codes(answer).at(-1), 421);
  assert.ok(answer.closed);
});

test('SMTP: messages under way share a budget, and what does not fit comes again later', async (t) => {
  const body = 'x'.repeat(70).concat('\r\n').repeat(12_000);
  const whole = `${opened()}${HEAD}${body}.\r\nQUIT\r\n`;
  // The first one holds most of the budget and takes its time.
  let slow;
  let heard;
  const answered = (code) => new Promise((resolve) => {
    const look = () => new RegExp(`^${code} `, 'm').test(heard) && resolve();
    slow.on('data', look);
    look();
  });
  for (let refused = []; refused.at(-2) !== 452; ) {
    slow?.destroy();
    slow = connect(port(), '127.0.0.1');
    slow.setEncoding('latin1');
    heard = '';
    slow.on('data', (text) => (heard += text));
    slow.write(opened());
    await answered(354);
    await new Promise((done) => slow.write(`${HEAD}${body}`, done));
    refused = codes(await exchange(port(), whole));
    // The other one was read first, and it is the slow one that does not fit: once more.
    if (refused.at(-2) === 250) await mails.take();
    else assert.deepEqual(refused.slice(-2), [452, 221]);
  }
  undo(t, () => slow.destroy());
  slow.write('.\r\n');
  heard = '';
  await answered(250);
  await mails.take();
  assert.deepEqual(codes(await exchange(port(), whole)).slice(-2), [250, 221], 'there is room again');
  await mails.take();
  await marker();
});
