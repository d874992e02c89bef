// A backup under load on every door, then the server and its folder are lost: what comes back is one moment of it.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';
import { GetSendQuotaCommand, SESClient } from '@aws-sdk/client-ses';
import { SESv2Client, SendEmailCommand } from '@aws-sdk/client-sesv2';
import { Redis } from 'ioredis5';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { Ledger, content, work } from './support/ledger.mjs';
import { command, settings, startMainstay } from './support/mainstay.mjs';
import { mainstay } from './support/paths.mjs';
import { run } from './support/process.mjs';
import { undo } from './support/scope.mjs';
import { mountTmpfs } from './support/tmpfs.mjs';
import { redisWorker, s3Worker } from './support/workers.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const BUCKET = 'ledger';
const secrets = ({ env }) => Object.fromEntries(Object.entries(env).filter(([name]) => /KEY|SECRET|REDIS_URL|SENTRY_DSN/.test(name)).map(([name, value]) => [name, value.replace(/:\d+(?=$|\/)/, '')]));

/** Clients of all doors, as an app has them. */
function clients({ env }) {
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  const common = { region: env.AWS_REGION, credentials, maxAttempts: 1 };
  const redis = new Redis(env.REDIS_URL, { retryStrategy: null, maxRetriesPerRequest: 0 });
  redis.on('error', () => {});
  return {
    redis,
    objects: new s3.S3Client({ ...common, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true }),
    mail: new SESv2Client({ ...common, endpoint: env.AWS_ENDPOINT_URL_SESV2 }),
    quota: new SESClient({ ...common, endpoint: env.AWS_ENDPOINT_URL_SES }),
    close: () => redis.disconnect(),
  };
}

/** One operation after the other, each on the next door: Redis, then S3, then mail. */
function doorsWorker(name, server) {
  const { redis, objects, mail, close } = clients(server);
  return {
    async step(number) {
      await redis.set(`${name}:${number}`, 'here');
      await objects.send(new s3.PutObjectCommand({ Bucket: BUCKET, Key: `${name}/${number}`, Body: content(`${name}${number}`, 9000) }));
      const Content = { Simple: { Subject: { Data: `${number}` }, Body: { Text: { Data: 'hello' } } } };
      await mail.send(new SendEmailCommand({ FromEmailAddress: 'app@localhost', Destination: { ToAddresses: ['ada@example.com'] }, Content }));
    },
    close,
  };
}

/** How much of a doors worker's history each door has. */
async function found(name, server, tried) {
  const { redis, objects, quota, close } = clients(server);
  const numbers = Array.from({ length: tried }, (_, number) => number);
  const keys = await Promise.all(numbers.map((number) => redis.exists(`${name}:${number}`)));
  const listed = new Set();
  for await (const page of s3.paginateListObjectsV2({ client: objects }, { Bucket: BUCKET, Prefix: `${name}/` })) {
    for (const { Key } of page.Contents ?? []) listed.add(Number(Key.split('/')[1]));
  }
  const { SentLast24Hours: mails } = await quota.send(new GetSendQuotaCommand({}));
  close();
  const prefix = (is) => {
    const length = numbers.findIndex((number) => !is(number));
    const upto = length < 0 ? tried : length;
    assert.ok(numbers.slice(upto).every((number) => !is(number)), `${name}: a hole at ${upto}`);
    return upto;
  };
  return { redis: prefix((number) => keys[number] === 1), s3: prefix((number) => listed.has(number)), mails };
}

/** Sets what can be set for the bucket. */
async function open(objects) {
  const statement = { Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: `arn:aws:s3:::${BUCKET}/tiny` };
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
  await objects.send(new s3.PutBucketPolicyCommand({ Bucket: BUCKET, Policy }));
  const Rules = [{ ID: 'tmp', Status: 'Enabled', Filter: { Prefix: 'tmp/' }, Expiration: { Days: 3 } }];
  await objects.send(new s3.PutBucketLifecycleConfigurationCommand({ Bucket: BUCKET, LifecycleConfiguration: { Rules } }));
  await objects.send(new s3.PutBucketTaggingCommand({ Bucket: BUCKET, Tagging: { TagSet: [{ Key: 'team', Value: 'web' }] } }));
}

/** What is set for the bucket, and what everybody gets of it. */
async function described(server) {
  const { objects, close } = clients(server);
  const { Policy } = await objects.send(new s3.GetBucketPolicyCommand({ Bucket: BUCKET }));
  const { TagSet } = await objects.send(new s3.GetBucketTaggingCommand({ Bucket: BUCKET }));
  const { Rules } = await objects.send(new s3.GetBucketLifecycleConfigurationCommand({ Bucket: BUCKET }));
  close();
  const anyone = async (name) => (await fetch(`${server.env.AWS_ENDPOINT_URL_S3}/${BUCKET}/${name}`)).status;
  return { Policy, TagSet, Rules, tiny: await anyone('tiny'), parts: await anyone('parts') };
}

/** Hash of every object in the bucket. */
async function hashes(server) {
  const { objects, close } = clients(server);
  const out = {};
  for await (const page of s3.paginateListObjectsV2({ client: objects }, { Bucket: BUCKET })) {
    for (const { Key } of page.Contents ?? []) {
      const { Body } = await objects.send(new s3.GetObjectCommand({ Bucket: BUCKET, Key }));
      out[Key] = createHash('sha256').update(await Body.transformToByteArray()).digest('hex');
    }
  }
  close();
  return out;
}

/** Makes the bucket and a few objects. */
async function fill(server, count = 6) {
  const { redis, objects, close } = clients(server);
  await objects.send(new s3.CreateBucketCommand({ Bucket: BUCKET }));
  for (let number = 0; number < count; number += 1) {
    await objects.send(new s3.PutObjectCommand({ Bucket: BUCKET, Key: `o/${number}`, Body: content(`o${number}`, 700_000) }));
  }
  await redis.set('small', 'value');
  close();
}

/** Keeps a copy of the master key outside the data folder, as the manual says. */
function recoverySheet(t, data) {
  const path = join(folder(t), 'key');
  writeFileSync(path, readFileSync(join(data, 'keys/master.key')));
  return path;
}

const ok = ({ code, stdout, stderr }) => {
  assert.equal(code, 0, stdout + stderr);
  return stdout;
};

test('what a backup under load restores is one moment across all doors', { skip }, async (t) => {
  const data = join(folder(t), 'data');
  const target = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  const key = recoverySheet(t, data);
  await fill(server, 0);
  const ledger = new Ledger(join(folder(t), 'ledger'));
  undo(t, () => ledger.close());
  let current = server;
  const workers = new Map();
  for (let at = 0; at < 3; at += 1) workers.set(`r${at}`, redisWorker(`r${at}`, () => current));
  for (let at = 0; at < 2; at += 1) workers.set(`s${at}`, s3Worker(`s${at}`, () => current, BUCKET));
  workers.set('x', doorsWorker('x', server));
  for (const worker of workers.values()) undo(t, () => worker.close());
  const working = Promise.all([...workers].map(async ([name, worker]) => [name, await work(ledger, name, (number) => worker.step(number))]));

  await ledger.after(15, 'x');
  const before = ledger.read();
  const report = JSON.parse(ok(await command(data, ['backup', 'now', '--target', target, '--json'])));
  assert.equal(report.snapshots[0].source, 'mainstay');
  assert.deepEqual(report.drill.failures, []);
  await ledger.after(10, 'x');
  await server.kill();
  const tried = new Map(await working);
  t.diagnostic(`commits stood still for ${report.pause_ms} ms; ${report.snapshots[0].counts.files} entries`);

  // Everything is lost.
  rmSync(data, { recursive: true });
  const said = await command(data, ['backup', 'restore', '--from', target, '--data', data, '--key-file', key, '--json']);
  assert.deepEqual(JSON.parse(ok(said)).damaged, []);
  current = await startMainstay({ data });
  undo(t, () => current.stop());
  assert.deepEqual(secrets(current), secrets(server), 'the credentials are the same');
  for (const [name, worker] of workers) {
    if (!worker.check) continue;
    // Which operation was the last is not known from outside: the moment lies somewhere after `before`.
    const { redis, close } = clients(current);
    const count = name[0] === 'r' ? Number(await redis.get(`${name}:count`)) : undefined;
    close();
    if (count === undefined) continue;
    assert.ok(count >= (before.get(name) ?? 0), `${name}: ${count} of ${before.get(name)} acknowledged before`);
    await worker.check(count, count);
  }
  const has = await found('x', current, tried.get('x'));
  t.diagnostic(`of the one who went from door to door: ${JSON.stringify(has)}, ${before.get('x')} before, ${tried.get('x')} tried`);
  assert.ok(has.redis >= has.s3 && has.s3 >= has.mails && has.mails >= has.redis - 1, JSON.stringify(has));
  assert.ok(has.mails >= before.get('x'), 'everything acknowledged before is there');
  assert.ok(has.redis < tried.get('x'), 'and nothing from after the backup');
});

test('a restored server is the same to its apps, and goes on', { skip }, async (t) => {
  const data = join(folder(t), 'data');
  const target = folder(t);
  let server = await startMainstay({ data });
  undo(t, () => server.stop());
  await fill(server);
  const { objects, close } = clients(server);
  const upload = await objects.send(new s3.CreateMultipartUploadCommand({ Bucket: BUCKET, Key: 'parts' }));
  const part = { Bucket: BUCKET, Key: 'parts', UploadId: upload.UploadId };
  const { ETag } = await objects.send(new s3.UploadPartCommand({ ...part, PartNumber: 1, Body: content('part', 300_000) }));
  await objects.send(new s3.CompleteMultipartUploadCommand({ ...part, MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] } }));
  await objects.send(new s3.PutObjectCommand({ Bucket: BUCKET, Key: 'tiny', Body: 'inline' }));
  await open(objects);
  ok(await command(data, ['keys', 'create', 'reader', '--allow', `${BUCKET}/p:read`]));
  const limits = async (data) => ok(await command(data, ['keys', 'list'])).match(/^.*reader.*\/p:read.*$/m)?.[0];
  const settled = [await described(server), await limits(data)];
  assert.ok(settled[1], 'a key and what it may do');
  close();
  const key = recoverySheet(t, data);
  const [wanted, known] = [await hashes(server), secrets(server)];
  ok(await command(data, ['backup', 'now', '--target', target]));
  const again = JSON.parse(ok(await command(data, ['backup', 'now', '--target', target, '--json'])));
  assert.ok(again.snapshots[0].counts.bytes_new < 200_000, `unchanged objects are not stored again: ${again.snapshots[0].counts.bytes_new}`);
  ok(await command(data, ['backup', 'verify', '--target', target, '--read-data']));
  await server.stop();

  const copy = join(folder(t), 'copy');
  ok(await command(copy, ['backup', 'restore', '--from', target, '--data', copy, '--key-file', key]));
  server = await startMainstay({ data: copy });
  undo(t, () => server.stop());
  assert.deepEqual(await hashes(server), wanted);
  assert.deepEqual(secrets(server), known);
  assert.deepEqual([await described(server), await limits(copy)], settled);
  const { redis, objects: writing, close: done } = clients(server);
  assert.equal(await redis.get('small'), 'value');
  await redis.set('small', 'changed');
  await writing.send(new s3.PutObjectCommand({ Bucket: BUCKET, Key: 'new', Body: content('new', 100_000) }));
  done();
  await server.kill();
  server = await startMainstay({ data: copy });
  const last = clients(server);
  assert.equal(await last.redis.get('small'), 'changed');
  last.close();

  const one = join(folder(t), 'one');
  ok(await command(copy, ['backup', 'restore', '--from', target, '--key-file', key, '--object', `${BUCKET}/parts`, '--to', one]));
  assert.ok(readFileSync(one).equals(content('part', 300_000)));
  const inline = await command(copy, ['backup', 'restore', '--from', target, '--key-file', key, '--object', `${BUCKET}/tiny`, '--to', '-']);
  assert.equal(ok(inline), 'inline');
});

test('what is piped in is a snapshot only when all of it came', { skip }, async (t) => {
  const data = join(folder(t), 'data');
  const target = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  const env = settings(data);
  const add = ['backup', 'add', '--stdin', 'app.sql', '--target', target];
  const dump = content('dump', 3_000_000).toString('base64');
  ok(await run(mainstay, add, { env, input: dump }));
  const empty = await run(mainstay, add, { env, input: '' });
  assert.notEqual(empty.code, 0);
  assert.match(empty.stderr, /nothing came/);
  // Killed in the middle, as by a failing pipe.
  const cut = await run('/bin/sh', ['-c', `(printf half; sleep 0.2; kill -9 $(cat "$F")) | (sh -c 'echo $PPID >"$F"'; exec "$M" ${add.join(' ')})`], { env: { ...env, M: mainstay, F: join(folder(t), 'pid') } });
  assert.notEqual(cut.code, 0);
  const lines = JSON.parse(ok(await command(data, ['backup', 'list', '--target', target, '--json'])));
  assert.deepEqual(lines.map(({ source }) => source), ['stdin:app.sql']);
  const back = await command(data, ['backup', 'restore', '--from', target, '--stdin-name', 'app.sql', '--to', '-']);
  assert.equal(ok(back), dump);
});

test('a backup that is damaged, rolled back or not ours says what is wrong', { skip }, async (t) => {
  const data = join(folder(t), 'data');
  const target = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  await fill(server, 12);
  const key = recoverySheet(t, data);
  ok(await command(data, ['backup', 'now', '--target', target]));
  const restore = (into, extra = []) => command(into, ['backup', 'restore', '--from', target, '--data', into, '--key-file', key, ...extra]);

  const full = folder(t);
  writeFileSync(join(full, 'notes.txt'), 'mine');
  const refused = await restore(full);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /not empty: it holds `notes\.txt`/);

  const wrong = join(folder(t), 'wrong');
  writeFileSync(wrong, `${'0a'.repeat(32)}\n`);
  const into = join(folder(t), 'new');
  const locked = await command(into, ['backup', 'restore', '--from', target, '--data', into, '--key-file', wrong]);
  assert.notEqual(locked.code, 0);
  assert.match(locked.stderr, /key/);

  // One byte in the middle of the largest pack: only what uses it is lost, and it is named.
  const [largest] = packs(target).sort((a, b) => b.size - a.size);
  const bytes = readFileSync(largest.path);
  bytes[bytes.length >> 1] ^= 1;
  writeFileSync(largest.path, bytes);
  const verified = await command(data, ['backup', 'verify', '--target', target, '--read-data', '--json']);
  assert.notEqual(verified.code, 0);
  assert.equal(JSON.parse(verified.stdout).well, false);
  const partly = join(folder(t), 'partly');
  const damaged = await restore(partly, ['--json']);
  assert.notEqual(damaged.code, 0, 'a damaged backup is no success');
  const { lost } = JSON.parse(damaged.stdout);
  assert.ok(lost.length >= 1 && lost.length < 12 && lost.every((name) => name.startsWith(`${BUCKET}/o/`)), lost.join());
  const partial = await startMainstay({ data: partly });
  undo(t, () => partial.stop());
  const { objects, redis, close } = clients(partial);
  for (let number = 0; number < 12; number += 1) {
    const get = objects.send(new s3.GetObjectCommand({ Bucket: BUCKET, Key: `o/${number}` }));
    if (lost.includes(`${BUCKET}/o/${number}`)) await assert.rejects(get);
    else assert.ok(Buffer.from(await (await get).Body.transformToByteArray()).equals(content(`o${number}`, 700_000)));
  }
  assert.equal(await redis.get('small'), 'value');
  close();
});

test('a repository that went back is noticed', { skip }, async (t) => {
  const data = join(folder(t), 'data');
  const target = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  ok(await command(data, ['backup', 'now', '--target', target]));
  ok(await command(data, ['backup', 'now', '--target', target]));
  const snapshots = join(target, 'snapshots');
  rmSync(join(snapshots, readdirSync(snapshots).sort().at(-1)), { recursive: true });
  const noticed = await command(data, ['backup', 'now', '--target', target]);
  assert.notEqual(noticed.code, 0);
  assert.match(noticed.stderr, /rolled back|missing|went back/);
  rmSync(target, { recursive: true });
  const gone = await command(data, ['backup', 'now', '--target', target]);
  assert.notEqual(gone.code, 0, 'a target that vanished is not begun anew in silence');
});

test('a target that is full or gone leaves the former backups as they were', { skip }, async (t) => {
  const mount = await mountTmpfs(t, { size: '3m' });
  if (!mount) return;
  const data = join(folder(t), 'data');
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  ok(await command(data, ['backup', 'now', '--target', mount]));
  await fill(server, 12);
  const full = await command(data, ['backup', 'now', '--target', mount]);
  assert.notEqual(full.code, 0);
  assert.match(full.stderr, /full|space|room/i);
  ok(await command(data, ['backup', 'verify', '--target', mount, '--read-data']));
  const lines = JSON.parse(ok(await command(data, ['backup', 'list', '--target', mount, '--json'])));
  assert.equal(lines.length, 1);
  const { redis, close } = clients(server);
  assert.equal(await redis.get('small'), 'value', 'the server goes on');
  close();
});

test('without a server the folder is backed up at rest', { skip }, async (t) => {
  const data = join(folder(t), 'data');
  const target = folder(t);
  const server = await startMainstay({ data });
  undo(t, () => server.stop());
  await fill(server, 2);
  const wanted = await hashes(server);
  const key = recoverySheet(t, data);
  await server.stop();
  ok(await command(data, ['backup', 'now', '--target', target]));
  const copy = join(folder(t), 'copy');
  ok(await command(copy, ['backup', 'restore', '--from', target, '--data', copy, '--key-file', key]));
  const restored = await startMainstay({ data: copy });
  undo(t, () => restored.stop());
  assert.deepEqual(await hashes(restored), wanted);
  const { redis, close } = clients(restored);
  assert.equal(await redis.get('small'), 'value');
  close();
});

/** Every pack of a repository. */
function packs(target) {
  const all = readdirSync(join(target, 'packs'), { recursive: true, withFileTypes: true });
  return all.filter((entry) => entry.isFile()).map((entry) => {
    const path = join(entry.parentPath, entry.name);
    return { path, size: statSync(path).size };
  });
}
