// What a small server's whole pile takes in memory: everything on, some data in every door, a storm of logins, a backup.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { folder } from '../clients/support/folder.mjs';
import { command, startMainstay } from '../clients/support/mainstay.mjs';
import { table } from './measure.mjs';

// The clients' packages are installed over there.
const require = createRequire(new URL('../clients/package.json', import.meta.url));
const s3 = require('@aws-sdk/client-s3');
const { SESv2Client, SendEmailCommand } = require('@aws-sdk/client-sesv2');
const { Redis } = require('ioredis5');

const [KEYS, OBJECTS, EVENTS, GROUPS, MAILS, LOGINS] = [10_000, 1_000, 1_000, 50, 100, 60];
const ADMIN = { email: 'admin@example.com', password: 'correct horse battery staple 47' };

/** Calls `one` with 0 to `count` - 1, at most `width` at once. */
async function each(count, width, one) {
  let next = 0;
  const lane = async () => {
    while (next < count) await one(next++);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

function memory(pid) {
  const kib = (file, name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/${file}`, 'utf8'))[1]);
  return [kib('status', 'VmRSS'), kib('smaps_rollup', 'Pss'), kib('smaps_rollup', 'Pss_Anon'), kib('status', 'VmHWM')];
}

async function keys({ env }) {
  const redis = new Redis(env.REDIS_URL);
  for (let start = 0; start < KEYS; start += 1000) {
    const batch = redis.pipeline();
    for (let key = start; key < start + 1000; key++) batch.set(`cache:${key}`, 'x'.repeat(200), 'EX', 86_400);
    await batch.exec();
  }
  redis.disconnect();
}

async function objects({ env }) {
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  const client = new s3.S3Client({ region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true });
  await client.send(new s3.CreateBucketCommand({ Bucket: 'bench' }));
  const sizes = [2_000, 20_000, 200_000];
  await each(OBJECTS, 8, (at) =>
    client.send(new s3.PutObjectCommand({ Bucket: 'bench', Key: `photos/${at}`, Body: Buffer.alloc(sizes[at % 3], at) })));
  client.destroy();
}

async function errors({ env }) {
  const dsn = new URL(env.SENTRY_DSN);
  await each(EVENTS, 8, async (at) => {
    const frames = [{ filename: 'app.py', function: `handler_${at % GROUPS}`, lineno: at % 400, in_app: true }];
    const event = {
      event_id: at.toString(16).padStart(32, '0'),
      platform: 'python',
      exception: { values: [{ type: `Error${at % GROUPS}`, value: `something ${at}`, stacktrace: { frames } }] },
    };
    const answer = await fetch(`${dsn.origin}/api${dsn.pathname}/store/`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-sentry-auth': `Sentry sentry_version=7, sentry_key=${dsn.username}` },
      body: JSON.stringify(event),
    });
    if (!answer.ok) throw new Error(`an event was answered ${answer.status}: ${await answer.text()}`);
  });
}

async function mails({ env }) {
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  const client = new SESv2Client({ region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_SESV2 });
  await each(MAILS, 4, (at) =>
    client.send(new SendEmailCommand({
      FromEmailAddress: 'app@localhost',
      Destination: { ToAddresses: [`user${at}@example.com`] },
      Content: { Simple: { Subject: { Data: `Mail ${at}` }, Body: { Text: { Data: 'hello '.repeat(200) } } } },
    })));
  client.destroy();
}

/** Logins as a browser makes them, good and bad ones at once; what the answers were, or why there were none. */
async function logins({ env }) {
  const console_ = new URL(env.MAINSTAY_URL);
  const statuses = {};
  let missing;
  await each(LOGINS, 10, async (at) => {
    const page = await fetch(new URL('/login', console_), { redirect: 'manual' });
    if (page.status !== 200) return void (missing = `GET /login is answered ${page.status}`);
    const html = await page.text();
    const fields = new URLSearchParams();
    for (const [input] of html.matchAll(/<input[^>]*>/g)) {
      const attribute = (name) => new RegExp(`\\b${name}="?([^">\\s]*)`).exec(input)?.[1];
      if (attribute('type') === 'hidden') fields.set(attribute('name'), attribute('value') ?? '');
      if (attribute('name') === 'email') fields.set('email', ADMIN.email);
      if (attribute('name') === 'password') fields.set('password', at % 2 ? ADMIN.password : `wrong ${at} and long enough`);
    }
    const cookie = page.headers.getSetCookie().map((one) => one.split(';')[0]).join('; ');
    const answer = await fetch(new URL('/login', console_), {
      method: 'POST',
      redirect: 'manual',
      headers: { cookie, origin: console_.origin, 'sec-fetch-site': 'same-origin' },
      body: fields,
    });
    await answer.arrayBuffer();
    statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
  });
  return missing ? `not tried: ${missing}` : Object.entries(statuses).map(([status, count]) => `${count} x ${status}`).join(', ');
}

async function backup({ data }, target) {
  const done = await command(data, ['backup', 'now', '--target', target]);
  return done.code === 0 ? 'done' : `not done: ${done.stderr.trim().split('\n').at(-1)}`;
}

const steps = [];
const work = folder({ after: (step) => steps.push(step) });
const secret = join(work, 'admin-password');
writeFileSync(secret, ADMIN.password, { mode: 0o600 });
const extra = { MAINSTAY_ADMIN_EMAIL: ADMIN.email, MAINSTAY_ADMIN_PASSWORD_FILE: secret };
const server = await startMainstay({ data: join(work, 'data'), extra });
const rows = [['after', 'RSS MiB', 'PSS MiB', 'anonymous', 'peak RSS', '']];
const note = (stage, remark = '') => {
  rows.push([stage, ...memory(server.pid).map((kib) => (kib / 1024).toFixed(1)), remark ?? '']);
};
try {
  note('start');
  await keys(server);
  note(`${KEYS} cache keys`);
  await objects(server);
  note(`${OBJECTS} objects`);
  await errors(server);
  note(`${EVENTS} events in ${GROUPS} groups`);
  await mails(server);
  note(`${MAILS} mails`);
  note(`${LOGINS} logins`, await logins(server));
  note('a backup', await backup(server, join(work, 'backups')));
  // A minute in which freed memory goes back; not a test, so it may wait.
  const idle = Number(process.argv[2] ?? 60);
  await new Promise((done) => setTimeout(done, idle * 1000));
  note(`${idle} s at rest`);
  table(rows);
} finally {
  await server.stop();
  for (const step of steps) await step();
}
