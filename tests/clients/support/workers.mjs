// Who writes during a ledger round, and how each proves afterwards that nothing acknowledged is missing.
//
// A worker has `step(number)`, which does operation `number` and throws when the server is gone, and
// `check(acknowledged, tried)`: operations below `acknowledged` must have happened, those from `tried` on must not have,
// and at most one lies between.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

import * as s3 from '@aws-sdk/client-s3';
import { Redis } from 'ioredis5';

import { content } from './ledger.mjs';

const BATCH_DELETES = 5;

/** Pipelines and transactions on one Redis connection. */
export function redisWorker(name, connect) {
  const redis = new Redis(connect().env.REDIS_URL, { retryStrategy: null, maxRetriesPerRequest: 0, enableOfflineQueue: true });
  redis.on('error', () => {});
  const inTransaction = (number) => number % 2 === 1;
  const deletes = (number) => (number % BATCH_DELETES === BATCH_DELETES - 1 ? number - 2 : undefined);
  const value = (number) => content(`${name}:${number}`, (number * 97) % 700).toString('base64');

  return {
    async step(number) {
      const batch = inTransaction(number) ? redis.multi() : redis.pipeline();
      batch.set(`${name}:${number}`, value(number)).incr(`${name}:count`).rpush(`${name}:list`, number);
      batch.hset(`${name}:hash`, `f${number % 7}`, number).zadd(`${name}:zset`, number, `m${number}`);
      if (deletes(number) !== undefined) batch.del(`${name}:${deletes(number)}`);
      for (const [error] of await batch.exec()) if (error) throw error;
    },

    async check(acknowledged, tried) {
      const reader = new Redis(connect().env.REDIS_URL, { retryStrategy: null });
      try {
        await checkRedis(reader, { name, acknowledged, tried, value, deletes, inTransaction });
      } finally {
        reader.disconnect();
      }
    },

    close: () => redis.disconnect(),
  };
}

async function checkRedis(reader, { name, acknowledged, tried, value, deletes, inTransaction }) {
  const numbers = Array.from({ length: tried }, (_, number) => number);
  const found = await Promise.all(numbers.map((number) => reader.get(`${name}:${number}`)));
  const gone = new Set(numbers.slice(0, acknowledged).map(deletes));
  const inFlight = acknowledged < tried ? deletes(acknowledged) : undefined;
  for (const number of numbers.slice(0, acknowledged)) {
    if (gone.has(number)) assert.equal(found[number], null, `${name}:${number} was deleted`);
    else if (number !== inFlight) assert.equal(found[number], value(number), `${name}:${number}`);
  }
  const count = Number(await reader.get(`${name}:count`));
  assert.ok(count >= acknowledged && count <= tried, `${name}: ${count} of ${acknowledged} to ${tried}`);
  const list = await reader.lrange(`${name}:list`, 0, -1);
  assert.deepEqual(list, numbers.slice(0, list.length).map(String));
  assert.ok(list.length >= acknowledged && list.length <= tried, `${name}: list of ${list.length}`);
  const members = await reader.zrange(`${name}:zset`, 0, -1);
  assert.deepEqual(members, numbers.slice(0, members.length).map((number) => `m${number}`));
  assert.ok(members.length >= acknowledged);
  const hash = await reader.hgetall(`${name}:hash`);
  const last = Math.max(-1, ...Object.values(hash).map(Number));
  assert.ok(last >= acknowledged - 1 && last < tried, `${name}: hash ends at ${last}`);
  if (acknowledged < tried && inTransaction(acknowledged)) {
    const effects = [count, list.length, members.length, last + 1];
    assert.equal(new Set(effects).size, 1, `${name}: a transaction applied in part: ${effects}`);
  }
}

const SIZES = [0, 1, 4096, 40_000, 65_536, 65_537, 300_000, 1 << 20];
const PART = 5 << 20;

/** Objects of many sizes, in one piece and in parts, overwritten and deleted, on the S3 door. */
export function s3Worker(name, connect, bucket) {
  const open = () => {
    const { env } = connect();
    const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
    return new s3.S3Client({ endpoint: env.AWS_ENDPOINT_URL_S3, region: env.AWS_REGION, credentials, forcePathStyle: true, maxAttempts: 1 });
  };
  const client = open();
  const inParts = (number) => number % 10 === 7;
  const deletes = (number) => (number % 5 === 4 ? number - 3 : undefined);
  const body = (number) => content(`${name}/${number}`, inParts(number) ? PART + 100_000 : SIZES[number % SIZES.length]);
  const at = (number) => ({ Bucket: bucket, Key: `${name}/${number}` });

  async function upload(number) {
    const { UploadId } = await client.send(new s3.CreateMultipartUploadCommand(at(number)));
    const whole = body(number);
    const pieces = [whole.subarray(0, PART), whole.subarray(PART)];
    const Parts = await Promise.all(
      pieces.map(async (Body, index) => {
        const part = { ...at(number), UploadId, PartNumber: index + 1, Body };
        return { PartNumber: index + 1, ETag: (await client.send(new s3.UploadPartCommand(part))).ETag };
      }),
    );
    await client.send(new s3.CompleteMultipartUploadCommand({ ...at(number), UploadId, MultipartUpload: { Parts } }));
  }

  async function read(reader, place) {
    try {
      const { Body } = await reader.send(new s3.GetObjectCommand(place));
      return digest(await Body.transformToByteArray());
    } catch (error) {
      if (error.name === 'NoSuchKey') return undefined;
      throw error;
    }
  }

  return {
    async step(number) {
      if (inParts(number)) await upload(number);
      else await client.send(new s3.PutObjectCommand({ ...at(number), Body: body(number) }));
      await client.send(new s3.PutObjectCommand({ Bucket: bucket, Key: `${name}/hot`, Body: content(`hot ${number}`, 70_000) }));
      if (deletes(number) !== undefined) await client.send(new s3.DeleteObjectCommand(at(deletes(number))));
    },

    async check(acknowledged, tried) {
      const reader = open();
      const numbers = Array.from({ length: tried }, (_, number) => number);
      const sure = numbers.slice(0, acknowledged);
      const gone = new Set(sure.map(deletes));
      const inFlight = acknowledged < tried ? deletes(acknowledged) : undefined;
      const kept = sure.filter((number) => !gone.has(number) && number !== inFlight);
      for (const number of kept) {
        assert.equal(await read(reader, at(number)), digest(body(number)), `${name}/${number}`);
      }
      const listed = [];
      for await (const page of s3.paginateListObjectsV2({ client: reader }, { Bucket: bucket, Prefix: `${name}/` })) {
        listed.push(...(page.Contents ?? []).map(({ Key }) => Key.slice(name.length + 1)).filter((key) => key !== 'hot').map(Number));
      }
      for (const number of kept) assert.ok(listed.includes(number), `${name}/${number} is not listed`);
      for (const number of listed) assert.ok(number < tried && !gone.has(number), `${name}/${number} should not be there`);
      const hot = await read(reader, { Bucket: bucket, Key: `${name}/hot` });
      const possible = [acknowledged - 1, tried - 1].map((number) => digest(content(`hot ${number}`, 70_000)));
      if (acknowledged > 0) assert.ok(possible.includes(hot), `${name}/hot is neither the last one nor the one under way`);
      reader.destroy();
    },

    close: () => client.destroy(),
  };
}

/** The notes app through the edge: it changes one note over and over and stores small files. */
export function edgeWorker(name, browser) {
  const fail = ({ status, text }) => {
    if (status >= 300) throw new Error(`HTTP ${status}: ${text()}`);
  };
  let id;
  const file = (number) => `/backups/${name}-${number}`;
  const storesFile = (number) => number % 3 === 0;

  return {
    async prepare() {
      const made = await browser.json('POST', '/notes', { title: 'before', text: '' });
      fail(made);
      id = made.json().id;
    },

    async step(number) {
      fail(await browser.json('PUT', `/notes/${id}`, { title: `${name} ${number}`, text: 'x'.repeat(number % 500) }));
      if (storesFile(number)) fail(await browser.request('PUT', `/small${file(number)}`, { body: content(`${name}-${number}`, 20_000) }));
    },

    async check(acknowledged, tried, again) {
      const note = (await again.request('GET', `/notes/${id}`)).json();
      const possible = [acknowledged - 1, tried - 1].map((number) => (number < 0 ? 'before' : `${name} ${number}`));
      assert.ok(possible.includes(note.title), `note ${id} says ${note.title}, not one of ${possible}`);
      assert.ok(note.edits >= acknowledged && note.edits <= tried, `${note.edits} edits`);
      for (let number = 0; number < acknowledged; number += 1) {
        if (!storesFile(number)) continue;
        const got = await again.request('GET', `/files${file(number)}`);
        assert.equal(got.status, 200, file(number));
        assert.equal(digest(got.bytes), digest(content(`${name}-${number}`, 20_000)), file(number));
      }
    },

    close: () => {},
  };
}

function digest(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}
