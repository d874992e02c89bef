// Quotas where they are set and met without an SDK: browsers' POST forms, and the console's settings of a bucket, whose
// part on the lifecycle is held against what programs have set.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as s3 from '@aws-sdk/client-s3';
import { Client as Minio } from 'minio';

import { onPile } from './support/backend.mjs';
import { startChromium } from './support/chromium.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const ACCOUNT = { email: 'ada@example.com', password: 'correct horse battery staple' };
const EVIL = `"><script>document.title='owned'</script><img src=x onerror="document.title='owned'">`;

async function start(t) {
  const extra = { MAINSTAY_ADMIN_EMAIL: ACCOUNT.email, MAINSTAY_ADMIN_PASSWORD: ACCOUNT.password };
  const data = folder(t);
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const { env } = server;
  const minio = new Minio({
    endPoint: env.MINIO_ENDPOINT,
    port: Number(env.MINIO_PORT),
    useSSL: false,
    accessKey: env.MINIO_ACCESS_KEY,
    secretKey: env.MINIO_SECRET_KEY,
  });
  await minio.makeBucket('held', env.AWS_REGION);
  const buckets = async (...words) => {
    const { code, stdout, stderr } = await command(data, ['buckets', ...words]);
    assert.equal(code, 0, stdout + stderr);
    return stdout;
  };
  const held = async () => JSON.parse(await buckets('--json')).find(({ name }) => name === 'held');
  return { server, minio, buckets, held };
}

/** A form that stores below `in/`, and how many bytes of a file it sends as `key`. */
async function form(minio) {
  const policy = minio.newPostPolicy();
  policy.setBucket('held');
  policy.setKeyStartsWith('in/');
  policy.setExpires(new Date(Date.now() + 600_000));
  const { postURL, formData } = await minio.presignedPostPolicy(policy);
  return async (key, bytes) => {
    const form = new FormData();
    for (const [name, value] of Object.entries({ ...formData, key })) form.append(name, value);
    form.append('file', new Blob([Buffer.alloc(bytes, key)]), 'name.bin');
    const answer = await fetch(postURL, { method: 'POST', body: form, redirect: 'manual' });
    return { status: answer.status, code: /<Code>(\w+)<\/Code>/.exec(await answer.text())?.[1] };
  };
}

async function settings(t, server, options = { javaScriptEnabled: false }) {
  const page = await (await startChromium(t, server, options)).newPage();
  const origin = `http://127.0.0.1:${server.ports.console}`;
  await page.goto(`${origin}/login`);
  await page.getByLabel('E-mail address').fill(ACCOUNT.email);
  await page.getByLabel('Password').fill(ACCOUNT.password);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.goto(`${origin}/buckets/held/settings`);
  return page;
}

test('a POST form stores no more than the quota leaves', { skip }, async (t) => {
  const { minio, buckets, held } = await start(t);
  await buckets('set', 'held', '--quota-bytes', '100KiB', '--quota-objects', '3');
  const post = await form(minio);
  const full = { status: 400, code: 'XMinioAdminBucketQuotaExceeded' };
  assert.deepEqual(await post('in/a', 60_000), { status: 204, code: undefined });
  assert.deepEqual(await post('in/b', 60_000), full);
  assert.deepEqual(await post('in/huge', 3_000_000), full);
  // In place of what is there, the difference counts.
  assert.equal((await post('in/a', 100_000)).status, 204);
  assert.deepEqual(await post('in/a', 110_000), full);
  assert.equal((await minio.statObject('held', 'in/a')).size, 100_000);

  for (const key of ['in/b', 'in/c']) assert.equal((await post(key, 100)).status, 204);
  assert.deepEqual(await post('in/d', 1), full);
  let { objects, bytes } = await held();
  assert.deepEqual([objects, bytes], [3, 100_200]);
  // At once, too, only as much as there is room for.
  await minio.removeObjects('held', ['in/a', 'in/b', 'in/c']);
  const all = await Promise.all(Array.from({ length: 12 }, (_, nth) => post(`in/${nth}`, 30_000)));
  assert.deepEqual(all.filter(({ status }) => status === 204).length, 3);
  assert.ok(all.every(({ status, code }) => status === 204 || code === full.code));
  ({ objects, bytes } = await held());
  assert.deepEqual([objects, bytes], [3, 90_000]);
});

test('a quota set in the console holds, and is taken away there', { skip }, async (t) => {
  const { server, minio, held } = await start(t);
  const page = await settings(t, server);
  const quota = page.getByRole('region', { name: 'Quota' });
  for (const name of ['Open to everybody', 'Quota', 'Files']) {
    assert.equal(await page.getByRole('form', { name, exact: true }).count(), 1, name);
  }
  const set = async (bytes, objects) => {
    await quota.getByLabel('Most bytes').fill(bytes);
    await quota.getByLabel('Most objects').fill(objects);
    await quota.getByRole('button', { name: 'Set the quota' }).click();
    return page.innerText('main');
  };
  const put = (key, bytes) => minio.putObject('held', key, Buffer.alloc(bytes));
  const full = (promise) => assert.rejects(promise, { code: 'XMinioAdminBucketQuotaExceeded' });
  assert.match(await set('1 KiB', '2'), /The quota is set\./);
  assert.equal(await quota.getByLabel('Most bytes').inputValue(), '1024');
  assert.equal(await quota.getByLabel('Most objects').inputValue(), '2');
  await put('a', 1000);
  await full(put('b', 100));
  await put('b', 10);
  await full(put('c', 0));
  await page.reload();
  assert.match(await page.innerText('main'), /It holds 1010 B in 2 objects/);

  assert.match(await set('some', '2'), /some|size|bytes/i);
  assert.match(await set('1 KiB', '-1'), /A number of objects is a whole number\./);
  assert.match(await set('1 KiB', '1.5'), /A number of objects is a whole number\./);
  await page.reload();
  assert.equal(await quota.getByLabel('Most objects').inputValue(), '2', 'a wrong form changes nothing');
  await full(put('c', 0));

  // Less than is there: what is there stays and may be replaced, nothing more comes.
  assert.match(await set('', '1'), /The quota is set\./);
  await full(put('c', 1));
  await put('a', 900);
  assert.match(await set('', ''), /The bucket may hold anything\./);
  await put('c', 5000);
  const { objects, bytes } = await held();
  assert.deepEqual([objects, bytes], [3, 5910]);
});

test('what ends by itself is told in words, whatever a rule is called', { skip }, async (t) => {
  const { server, minio } = await start(t);
  const { env } = server;
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  const client = new s3.S3Client({ region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true });
  const page = await settings(t, server);
  const lifecycle = () => page.locator('section', { has: page.locator('#lifecycle') }).innerText();
  assert.match(await lifecycle(), /Nothing\. Programs set rules/);
  const Rules = [
    { ID: 'tmp', Status: 'Enabled', Filter: { Prefix: 'tmp/' }, Expiration: { Days: 7 }, AbortIncompleteMultipartUpload: { DaysAfterInitiation: 2 } },
    { ID: EVIL, Status: 'Disabled', Filter: { Prefix: EVIL }, Expiration: { Date: new Date('2030-01-01T00:00:00Z') } },
    {
      ID: 'old',
      Status: 'Enabled',
      Filter: { And: { Prefix: '', Tags: [{ Key: 'kind', Value: 'log' }], ObjectSizeGreaterThan: 1024, ObjectSizeLessThan: 1048576 } },
      NoncurrentVersionExpiration: { NoncurrentDays: 3, NewerNoncurrentVersions: 5 },
    },
    { ID: 'marks', Status: 'Enabled', Filter: { Prefix: '' }, Expiration: { ExpiredObjectDeleteMarker: true }, NoncurrentVersionExpiration: { NoncurrentDays: 9 } },
  ];
  await client.send(new s3.PutBucketLifecycleConfigurationCommand({ Bucket: 'held', LifecycleConfiguration: { Rules } }));
  await page.reload();
  const rows = await page.locator('section', { has: page.locator('#lifecycle') }).locator('tbody tr').allInnerTexts();
  assert.equal(rows.length, 4);
  const row = (text) => rows.find((row) => row.includes(text)) ?? assert.fail(`${text} is not in ${rows}`);
  assert.match(row('tmp/'), /keys that begin with tmp\/[^]*objects 7 days after they were stored[^]*unfinished uploads after 2 days/);
  assert.doesNotMatch(row('tmp/'), /\boff\b/);
  assert.match(row('onerror'), /\boff\b[^]*objects from 2030-01-01[^]* on/);
  assert.ok(row('onerror').includes(EVIL));
  assert.match(row('old'), /all keys, tagged kind=log, larger than 1 KiB, smaller than 1 MiB[^]*older versions after 3 days, all but the newest 5/);
  assert.match(row('marks'), /delete markers that hide nothing[^]*older versions after 9 days/);
  assert.notEqual(await page.title(), 'owned');
  await minio.removeBucketLifecycle('held');
  await page.reload();
  assert.match(await lifecycle(), /Nothing\. Programs set rules/);
});
