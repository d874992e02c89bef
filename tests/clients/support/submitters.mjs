// Who sends mail and errors during a ledger round, and how each proves afterwards that nothing acknowledged is missing.
// They have the same shape as the workers of `workers.mjs`.

import assert from 'node:assert/strict';

import { SESClient, SendEmailCommand } from '@aws-sdk/client-ses';
import { SESv2Client, SendEmailCommand as SendEmailV2 } from '@aws-sdk/client-sesv2';
import nodemailer from 'nodemailer';

import { issues } from './issues.mjs';
import { until } from './process.mjs';

const FROM = 'ledger@example.com';
const TO = 'ada@example.com';

/** What reached the relay, by subject: hand `heard` to `startSink`. */
export class Delivered {
  constructor() {
    this.counts = new Map();
    this.waiting = [];
  }

  heard = ({ text }) => {
    const subject = /^Subject: (.*)\r$/m.exec(text)[1];
    this.counts.set(subject, (this.counts.get(subject) ?? 0) + 1);
    for (const wake of this.waiting.splice(0)) wake();
  };

  /** Resolves once a mail of this subject is there. */
  there(subject) {
    return until(() => this.counts.has(subject), () => new Promise((wake) => this.waiting.push(wake)));
  }

  /** Mails that came more than once, each surplus one counted. */
  get duplicates() {
    return [...this.counts.values()].reduce((sum, count) => sum + count - 1, 0);
  }
}

/** The subjects of everything acknowledged must arrive; none may that was never tried. */
async function checkMail(delivered, name, acknowledged, tried) {
  for (let number = 0; number < acknowledged; number += 1) await delivered.there(`${name} ${number}`);
  for (const subject of delivered.counts.keys()) {
    const [worker, number] = subject.split(' ');
    if (worker === name) assert.ok(Number(number) < tried, `${subject} was never sent`);
  }
}

/** Sends through the SES door, with the SDK of version 1 or 2; each call is tried once. */
export function sesWorker(name, connect, delivered, version) {
  const open = () => {
    const { env } = connect();
    const credentials = { accessKeyId: env.AWS_SES_ACCESS_KEY_ID, secretAccessKey: env.AWS_SES_SECRET_ACCESS_KEY };
    const endpoint = version === 1 ? env.AWS_ENDPOINT_URL_SES : env.AWS_ENDPOINT_URL_SESV2;
    const client = new (version === 1 ? SESClient : SESv2Client)({ endpoint, region: env.AWS_SES_REGION, credentials, maxAttempts: 1 });
    // What the SDK itself does when it tries a call again: the id stays.
    client.middlewareStack.addRelativeTo(
      (next, context) => (call) => {
        call.request.headers['amz-sdk-invocation-id'] = context.invocation ?? call.request.headers['amz-sdk-invocation-id'];
        return next(call);
      },
      { name: 'sameInvocation', relation: 'before', toMiddleware: 'httpSigningMiddleware' },
    );
    client.middlewareStack.add(
      (next, context) => (call) => {
        context.invocation = `${name}-${/\d+$/.exec(call.input.Message?.Subject.Data ?? call.input.Content.Simple.Subject.Data)[0]}`;
        return next(call);
      },
      { name: 'nameInvocation', step: 'initialize' },
    );
    return client;
  };
  const mail = (number) => {
    const Subject = { Data: `${name} ${number}` };
    const Body = { Text: { Data: `text ${number}\n.\n` }, Html: { Data: `<p>${number}</p>` } };
    const Destination = { ToAddresses: [TO] };
    if (version === 1) return new SendEmailCommand({ Source: FROM, Destination, Message: { Subject, Body } });
    return new SendEmailV2({ FromEmailAddress: FROM, Destination, Content: { Simple: { Subject, Body } } });
  };
  const client = open();
  const ids = [];

  return {
    async step(number) {
      ids[number] = (await client.send(mail(number))).MessageId;
    },

    async check(acknowledged, tried) {
      const again = open();
      // The last answer got lost, and whether the mail was taken is unknown; the one before was answered.
      for (let number = Math.max(0, acknowledged - 1); number < tried; number += 1) {
        const { MessageId } = await again.send(mail(number));
        if (number < acknowledged) assert.equal(MessageId, ids[number], 'the same call is the same mail');
        await delivered.there(`${name} ${number}`);
      }
      again.destroy();
      await checkMail(delivered, name, acknowledged, tried);
    },

    close: () => client.destroy(),
  };
}

/** Submits over SMTP, on one kept connection. */
export function smtpWorker(name, connect, delivered) {
  const transport = nodemailer.createTransport({ url: connect().env.SMTP_URL, pool: true, maxConnections: 1, maxRequeues: 0 });
  transport.on('error', () => {});
  return {
    step: (number) => transport.sendMail({ from: FROM, to: TO, subject: `${name} ${number}`, text: `.text ${number}` }),
    check: (acknowledged, tried) => checkMail(delivered, name, acknowledged, tried),
    close: () => transport.close(),
  };
}

/** Sends errors, all of one issue. */
export function errorWorker(name, connect) {
  return {
    async step(number) {
      const { origin, username } = new URL(connect().env.SENTRY_DSN);
      const body = JSON.stringify({ message: `${name} ${number}`, fingerprint: [name] });
      const answer = await fetch(`${origin}/api/1/store/?sentry_key=${username}`, { method: 'POST', body });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}: ${await answer.text()}`);
      await answer.json();
    },

    async check(acknowledged, tried) {
      const mine = (all) => all.find(({ title }) => title.startsWith(`${name} `))?.count ?? 0;
      const count = mine(await issues(connect(), (all) => mine(all) >= acknowledged));
      assert.ok(count <= tried, `${name}: ${count} events, but only ${tried} were sent`);
    },

    close: () => {},
  };
}
