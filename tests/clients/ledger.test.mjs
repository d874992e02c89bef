// kill -9 under load on every door, again and again on the same data folder: what was acknowledged is there and intact.

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';

import { Client as Minio } from 'minio';

import { onPile } from './support/backend.mjs';
import { Http1, Http2 } from './support/browse.mjs';
import { folder } from './support/folder.mjs';
import { Ledger, work } from './support/ledger.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { startApp } from './support/notes.mjs';
import { freePort } from './support/process.mjs';
import { undo } from './support/scope.mjs';
import { startSink } from './support/sink.mjs';
import { Delivered, errorWorker, sesWorker, smtpWorker } from './support/submitters.mjs';
import { edgeWorker, redisWorker, s3Worker } from './support/workers.mjs';

const ROUNDS = Number(process.env.LEDGER_ROUNDS ?? 3);
const BUCKET = 'ledger';
// Deliveries under way at once, as the defaults say: a kill may make each of them come twice.
const IN_FLIGHT = 8;
const secrets = ({ env }) => [new URL(env.REDIS_URL).password, env.AWS_ACCESS_KEY_ID, env.AWS_SECRET_ACCESS_KEY];

/** Opens a client of class `Http` on the app, signed in or with the cookies of an earlier one. */
async function visitor(t, Http, server, cookies) {
  const client = new Http(server);
  await client.connect?.();
  undo(t, () => client.close());
  if (cookies) client.cookies = cookies;
  else assert.equal((await client.json('POST', '/login', { user: 'ada', password: 'lovelace' })).status, 200);
  return client;
}

test('a killed server has everything it acknowledged', { skip: onPile && 'proves Mainstay, not the pile' }, async (t) => {
  const data = folder(t);
  const port = await freePort();
  const app = `127.0.0.1:${port}`;
  const delivered = new Delivered();
  const sink = await startSink(t, delivered.heard);
  let server = await startMainstay({ data, app, extra: sink.settings });
  undo(t, () => server.stop());
  // The same ports from now on, so that the app finds its server again by itself.
  const { ports } = server;
  const extra = {
    ...sink.settings,
    MAINSTAY_EDGE__HTTPS: `127.0.0.1:${ports.https}`,
    MAINSTAY_S3__LISTEN: `127.0.0.1:${ports.s3}`,
    MAINSTAY_REDIS__LISTEN: `127.0.0.1:${ports.redis}`,
    MAINSTAY_CONSOLE__LISTEN: `127.0.0.1:${ports.console}`,
    MAINSTAY_SMTP__LISTEN: `127.0.0.1:${ports.smtp}`,
  };
  const before = secrets(server);
  const notes = await startApp(server, port);
  undo(t, () => notes.stop());
  const { env } = server;
  const minio = new Minio({ endPoint: env.MINIO_ENDPOINT, port: ports.s3, useSSL: false, accessKey: env.MINIO_ACCESS_KEY, secretKey: env.MINIO_SECRET_KEY });
  await minio.makeBucket(BUCKET);

  const ledger = new Ledger(join(folder(t), 'ledger'));
  undo(t, () => ledger.close());
  const everybody = new Map();
  let cookies;

  for (let round = 0; round < ROUNDS; round += 1) {
    const current = () => server;
    const workers = new Map();
    for (let at = 0; at < 4; at += 1) workers.set(`r${round}w${at}`, redisWorker(`r${round}w${at}`, current));
    for (let at = 0; at < 3; at += 1) workers.set(`s${round}w${at}`, s3Worker(`s${round}w${at}`, current, BUCKET));
    for (const version of [1, 2]) workers.set(`v${round}w${version}`, sesWorker(`v${round}w${version}`, current, delivered, version));
    workers.set(`m${round}w0`, smtpWorker(`m${round}w0`, current, delivered));
    workers.set(`c${round}w0`, errorWorker(`c${round}w0`, current));
    for (const Http of [Http1, Http2]) {
      const client = await visitor(t, Http, server);
      const name = `e${round}${Http.name}`;
      const worker = edgeWorker(name, client);
      await worker.prepare();
      workers.set(name, worker);
      cookies ??= client.cookies;
    }

    for (const worker of workers.values()) undo(t, () => worker.close());
    // Counted on the slowest door, so that every door has had its share.
    const moment = randomInt(20, 90);
    const killed = ledger.after(moment, 's').then(() => server.kill());
    const tried = await Promise.all(
      [...workers].map(async ([name, worker]) => [name, await work(ledger, name, (number) => worker.step(number))]),
    );
    assert.equal((await killed).signal, 'SIGKILL');
    for (const [name, count] of tried) everybody.set(name, { worker: workers.get(name), tried: count });

    server = await startMainstay({ data, app, extra });
    assert.deepEqual(secrets(server), before, 'the credentials are the same');
    const acknowledged = ledger.read();
    const again = await visitor(t, Http2, server, cookies);
    assert.deepEqual((await again.request('GET', '/me')).json(), { user: 'ada' }, 'a session outlives the crash');
    // Those through the edge first: the edge ends connections that say nothing for long.
    const edgeFirst = [...everybody].sort(([a], [b]) => b.startsWith('e') - a.startsWith('e'));
    for (const [name, { worker, tried }] of edgeFirst) await worker.check(acknowledged.get(name) ?? 0, tried, again);
    assert.ok(delivered.duplicates <= (round + 1) * IN_FLIGHT, `${delivered.duplicates} mails came more than once`);
    const { r, s, e, v, m, c } = ledger.counts;
    t.diagnostic(
      `round ${round + 1}: checked ${r} Redis batches, ${s} uploads, ${e} requests through the edge, ` +
        `${v} mails through SES and ${m} over SMTP (${delivered.duplicates} twice), ${c} errors`,
    );
  }
});
