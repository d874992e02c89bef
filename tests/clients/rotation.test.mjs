// Other keys under the same data: the master key changed while clients read and write, killed in the middle.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { content } from './support/ledger.mjs';
import { command, settings, startMainstay } from './support/mainstay.mjs';
import { mainstay } from './support/paths.mjs';
import { run } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';

function connect({ env }) {
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  const client = new s3.S3Client({
    region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true, maxAttempts: 1,
  });
  return (name, input) => client.send(new s3[`${name}Command`](input));
}

const breath = () => new Promise((resolve) => { setImmediate(resolve); });

/** Runs a command that must succeed; its output. */
async function done(data, words, extra) {
  const { code, stdout, stderr } = await command(data, words, extra);
  assert.equal(code, 0, stderr);
  return stdout;
}

const keyStatus = async (data) => JSON.parse(await done(data, ['key', 'status', '--json']));

/** Waits until nothing refers to an older master key; how it stands then. */
async function settled(data) {
  for (;;) {
    const status = await keyStatus(data);
    if (status.older.length === 0) return status;
    await breath();
  }
}

/** Objects that were stored and acknowledged, each of its own content. */
class Kept {
  sizes = new Map();

  async fill(send, Bucket, count) {
    await send('CreateBucket', { Bucket });
    for (let at = 0; at < count; at += 1) await this.put(send, Bucket, `${at}`, [40, 8192, 8193, 200_000][at % 4]);
  }

  async put(send, Bucket, Key, size) {
    await send('PutObject', { Bucket, Key, Body: content(`${Bucket}/${Key}`, size) });
    this.sizes.set(`${Bucket}/${Key}`, size);
  }

  async check(send) {
    for (const [name, size] of this.sizes) {
      const [Bucket, Key] = name.split('/');
      const { Body } = await send('GetObject', { Bucket, Key });
      assert.ok(Buffer.from(await Body.transformToByteArray()).equals(content(name, size)), name);
    }
  }
}

/** Writes, reads and makes buckets until the server is gone or `over()` says so; what was acknowledged is in `kept`. */
async function work(send, kept, name, over) {
  for (let at = 0; !over(); at += 1) {
    try {
      if (at % 20 === 0) await send('CreateBucket', { Bucket: `${name}-${at}` });
      await kept.put(send, 'photos', `${name}-${at}`, at % 3 === 0 ? 100_000 : 700);
      const { Body } = await send('GetObject', { Bucket: 'photos', Key: `${at % 20}` });
      assert.equal((await Body.transformToByteArray()).length, kept.sizes.get(`photos/${at % 20}`));
    } catch (error) {
      // The connection broke: the server was killed. An answer that is an error is a fault of ours.
      if (error.$metadata?.httpStatusCode) throw error;
      return;
    }
  }
}

const master = (data) => readFileSync(join(data, 'keys/master.key'), 'utf8').trim();
const other = () => randomBytes(32).toString('hex');

test('the master key is changed under load, killed in between, and the old one opens nothing', { skip }, async (t) => {
  const [data, target] = [folder(t), folder(t)];
  const extra = { MAINSTAY_BACKUP__TARGET: target, MAINSTAY_BACKUP__EVERY: '1000d' };
  const kept = new Kept();
  let server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  let send = connect(server);
  await kept.fill(send, 'photos', 40);
  for (let at = 0; at < 30; at += 1) await send('CreateBucket', { Bucket: `empty-${at}` });
  await done(data, ['backup', 'now']);
  const first = master(data);
  const { env } = server;

  for (let round = 0; round < 3; round += 1) {
    const before = master(data);
    const working = [1, 2, 3].map((at) => work(send, kept, `r${round}w${at}`, () => false));
    let rotated = await command(data, ['key', 'rotate']);
    // The first backup after a start may be under way.
    while (/backup is under way/.test(rotated.stderr)) rotated = await command(data, ['key', 'rotate']);
    assert.equal(rotated.code, 0, rotated.stderr);
    assert.ok(rotated.stdout.includes(before), 'the key before is told');
    assert.notEqual(master(data), before);
    await server.kill();
    await Promise.all(working);
    server = await startMainstay({ data, extra });
    send = connect(server);
    assert.deepEqual([server.env.AWS_SECRET_ACCESS_KEY, server.env.REDIS_URL.split('@')[0]],
      [env.AWS_SECRET_ACCESS_KEY, env.REDIS_URL.split('@')[0]]);
    let over = false;
    const more = work(send, kept, `r${round}after`, () => over);
    const status = await settled(data);
    over = true;
    await more;
    assert.equal(status.damaged, 0);
    await kept.check(send);
    assert.match(readFileSync(join(data, 'keys/ring'), 'utf8'), /"version": 1/);
    assert.ok(!existsSync(join(data, 'keys/master.key.next')));
  }
  assert.match(await done(data, ['objects', 'check']), /./);
  await done(data, ['backup', 'now']);

  // A backup made by now needs the key of now; those before need the one they were made with.
  const [now, then] = ['now.key', 'then.key'].map((name) => join(folder(t), name));
  writeFileSync(now, master(data));
  writeFileSync(then, first);
  const restored = folder(t);
  await done(join(restored, 'now'), ['backup', 'restore', '--from', target, '--key-file', now]);
  const again = await startMainstay({ data: join(restored, 'now'), extra: { MAINSTAY_MASTER_KEY_FILE: now } });
  undo(t, () => again.stop());
  await kept.check(connect(again));
  const snapshots = JSON.parse(await done(data, ['backup', 'list', '--json'], extra));
  const oldest = snapshots.filter(({ source }) => source === 'mainstay').map(({ name }) => name).sort()[0];
  const words = ['backup', 'restore', '--from', target, '--snapshot', oldest, '--key-file'];
  const refused = await command(join(restored, 'wrong'), [...words, now]);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /wrong master key/);
  await done(join(restored, 'then'), [...words, then]);

  // The key before opens nothing any more.
  await server.stop();
  const wrong = await run(mainstay, ['serve'], { env: settings(data, { MAINSTAY_MASTER_KEY: first }) });
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /wrong master key/);
});

test('a master key from outside is changed by giving the one before as well', { skip }, async (t) => {
  const data = folder(t);
  const [first, second] = [other(), other()];
  const kept = new Kept();
  let server = await startMainstay({ data, extra: { MAINSTAY_MASTER_KEY: first } });
  undo(t, () => server.stop());
  await kept.fill(connect(server), 'photos', 12);
  const asked = await command(data, ['key', 'rotate']);
  assert.equal(asked.code, 1);
  assert.match(asked.stderr, /MAINSTAY_MASTER_KEY_PREVIOUS_FILE/);
  await server.kill();

  const path = join(folder(t), 'previous.key');
  writeFileSync(path, `${first}\n`);
  const neither = { MAINSTAY_MASTER_KEY: second, MAINSTAY_MASTER_KEY_PREVIOUS: other() };
  for (const extra of [{ MAINSTAY_MASTER_KEY: second }, neither]) {
    const refused = await run(mainstay, ['serve'], { env: settings(data, extra) });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /wrong master key/);
  }
  const both = { MAINSTAY_MASTER_KEY: second, MAINSTAY_MASTER_KEY_PREVIOUS_FILE: path };
  server = await startMainstay({ data, extra: both });
  await server.kill();
  server = await startMainstay({ data, extra: both });
  await kept.check(connect(server));
  assert.equal((await settled(data)).given, 'MAINSTAY_MASTER_KEY');
  await server.stop();
  server = await startMainstay({ data, extra: { MAINSTAY_MASTER_KEY: second } });
  await kept.check(connect(server));
  await server.stop();
  const refused = await run(mainstay, ['serve'], { env: settings(data, { MAINSTAY_MASTER_KEY: first }) });
  assert.match(refused.stderr, /wrong master key/);
});

/** Gives `photos` another key; a backup that is under way comes first. */
async function rotateBucket(data) {
  let asked = await command(data, ['buckets', 'rotate-key', 'photos']);
  while (/backup is under way/.test(asked.stderr)) asked = await command(data, ['buckets', 'rotate-key', 'photos']);
  assert.equal(asked.code, 0, asked.stderr);
}

/** Waits until the key before of `photos` is destroyed. */
async function destroyed(data) {
  for (;;) {
    const photos = JSON.parse(await done(data, ['buckets', '--json'])).find(({ name }) => name === 'photos');
    if (!photos.key_change) return;
    assert.equal(photos.key_change.damaged, 0);
    await breath();
  }
}

test('the key of a bucket is changed under load, killed in between, and the old one is gone', { skip }, async (t) => {
  const [data, target] = [folder(t), folder(t)];
  const extra = { MAINSTAY_BACKUP__TARGET: target, MAINSTAY_BACKUP__EVERY: '1000d', MAINSTAY_OBJECTS__EXPORT_EVERY: '200ms' };
  const kept = new Kept();
  let server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  let send = connect(server);
  await kept.fill(send, 'photos', 60);
  const [id] = readdirSync(join(data, 'objects/keys'));
  const wrapped = () => readFileSync(join(data, 'objects/keys', id));
  await done(data, ['backup', 'now']);

  for (let round = 0; round < 3; round += 1) {
    const before = wrapped();
    assert.equal(before.length, 60);
    const working = [1, 2, 3].map((at) => work(send, kept, `r${round}w${at}`, () => false));
    await rotateBucket(data);
    await server.kill();
    await Promise.all(working);
    server = await startMainstay({ data, extra });
    send = connect(server);
    let over = false;
    const more = work(send, kept, `r${round}after`, () => over);
    await destroyed(data);
    over = true;
    await more;
    const after = wrapped();
    assert.equal(after.length, 60);
    assert.ok(!after.equals(before), 'it has another key');
    await kept.check(send);
  }
  await done(data, ['objects', 'check']);

  // What the backup had already hangs on a key that is gone: it was read again.
  await done(data, ['backup', 'now']);
  const restored = join(folder(t), 'restored');
  const key = join(folder(t), 'master.key');
  writeFileSync(key, master(data));
  await done(restored, ['backup', 'restore', '--from', target, '--key-file', key]);
  const again = await startMainstay({ data: restored, extra: { MAINSTAY_MASTER_KEY_FILE: key } });
  undo(t, () => again.stop());
  await kept.check(connect(again));
});
