// Places for bodies of objects elsewhere: another Mainstay, `rclone serve s3`, and a wire that can be cut or swallow everything.

import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';

import * as s3 from '@aws-sdk/client-s3';

import { folder } from './folder.mjs';
import { command, startMainstay } from './mainstay.mjs';
import { python } from './paths.mjs';
import { freePort, start } from './process.mjs';
import { undo } from './scope.mjs';

const BUCKET = 'bodies';
const PREFIX = 'of/one';

/** How Mainstay names a body there. */
export const NAME = /^of\/one\/[0-9a-f]{32}-[0-9a-f]{16}$/;

/** A client of an S3 service that asks once, whatever the answer: `send(name, input)`. */
export function speaker(t, { endpoint, id, secret, region = 'us-east-1' }) {
  const credentials = { accessKeyId: id, secretAccessKey: secret };
  const client = new s3.S3Client({ region, credentials, endpoint, forcePathStyle: true, maxAttempts: 1 });
  undo(t, () => client.destroy());
  const send = (name, input = {}) => client.send(new s3[`${name}Command`](input));
  return Object.assign(send, { client });
}

/** The same, of the S3 door of a server. */
export function speakTo(t, { env }) {
  return speaker(t, { endpoint: env.AWS_ENDPOINT_URL_S3, id: env.AWS_ACCESS_KEY_ID, secret: env.AWS_SECRET_ACCESS_KEY, region: env.AWS_REGION });
}

export const bytesOf = async ({ Body }) => Buffer.from(await Body.transformToByteArray());

/** What tests ask of a remote, whatever it is. */
function looked(t, remote) {
  const send = speaker(t, remote);
  return {
    ...remote,
    send,
    bucket: BUCKET,
    /** Everything that lies there: name and bytes, sorted. */
    async list() {
      const out = [];
      for (let ContinuationToken; ; ) {
        const page = await send('ListObjectsV2', { Bucket: BUCKET, ContinuationToken });
        out.push(...(page.Contents ?? []).map(({ Key, Size }) => [Key, Size]));
        ContinuationToken = page.NextContinuationToken;
        if (!ContinuationToken) return out.sort();
      }
    },
    /** How many uploads in parts were begun there and not ended. */
    async uploads() {
      // rclone calls none of them a NoSuchUpload.
      const none = (error) => (error.name === 'NoSuchUpload' ? {} : Promise.reject(error));
      return (await send('ListMultipartUploads', { Bucket: BUCKET }).catch(none)).Uploads?.length ?? 0;
    },
    read: async (Key) => bytesOf(await send('GetObject', { Bucket: BUCKET, Key })),
    /** Turns one bit over in the middle of what lies there under a name. */
    async flip(Key) {
      const Body = await this.read(Key);
      Body[Body.length >> 1] ^= 8;
      await send('PutObject', { Bucket: BUCKET, Key, Body });
    },
  };
}

/** Another Mainstay, which `kill()` and `revive()` end and bring back where it was. */
export async function mainstayRemote(t) {
  const data = join(folder(t), 'data');
  let server = await startMainstay({ data });
  undo(t, () => server.stop());
  const { env, ports } = server;
  const remote = looked(t, { endpoint: env.AWS_ENDPOINT_URL_S3, id: env.AWS_ACCESS_KEY_ID, secret: env.AWS_SECRET_ACCESS_KEY });
  await remote.send('CreateBucket', { Bucket: BUCKET });
  return Object.assign(remote, {
    kill: () => server.kill(),
    revive: async () => (server = await startMainstay({ data, extra: { MAINSTAY_S3__LISTEN: `127.0.0.1:${ports.s3}` }, quick: true })),
  });
}

/** rclone's S3 server over a folder. */
export async function rcloneRemote(t) {
  const place = folder(t);
  mkdirSync(join(place, BUCKET));
  const port = await freePort();
  const [id, secret] = ['rclone-key', 'rclone-secret-of-a-test'];
  const server = await start(join(python, '..', 'rclone'), ['serve', 's3', '--addr', `127.0.0.1:${port}`, '--auth-key', `${id},${secret}`, '-v', place], {
    env: { ...process.env, RCLONE_CONFIG: join(folder(t), 'rclone.conf') },
    ready: (line) => line.includes('Starting s3 server') || line.includes('Serving'),
    name: 'rclone',
  });
  undo(t, () => server.stop());
  return looked(t, { endpoint: `http://127.0.0.1:${port}`, id, secret });
}

/** A wire to `endpoint`: whole, `swallow()`ing all that is sent, or whole again by `mend()`. */
export async function wireTo(t, endpoint) {
  const { port } = new URL(endpoint);
  const open = new Set();
  let swallows = false;
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => {}).once('close', () => open.delete(socket));
    if (swallows) return void socket.resume();
    const other = connect(Number(port), '127.0.0.1').on('error', () => socket.destroy());
    socket.once('close', () => other.destroy());
    other.once('close', () => socket.destroy());
    socket.pipe(other).pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (after) => {
    swallows = after;
    for (const socket of open) socket.destroy();
  };
  undo(t, () => {
    server.close();
    cut(false);
  });
  return { endpoint: `http://127.0.0.1:${server.address().port}`, swallow: () => cut(true), mend: () => cut(false) };
}

/** Settings with `remote` as the backend `cold`: what goes to `command` and `startMainstay` as `extra`. */
export function coldAt(t, remote, { backend = {}, objects = {} } = {}) {
  const here = folder(t);
  const secret = join(here, 'secret');
  writeFileSync(secret, `${remote.secret}\n`);
  const lines = (table) => Object.entries(table).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join('');
  const cold = {
    name: 'cold',
    endpoint: remote.endpoint,
    bucket: BUCKET,
    prefix: PREFIX,
    access_key_id: remote.id,
    secret_access_key_file: secret,
    ...backend,
  };
  const file = join(here, 'mainstay.toml');
  writeFileSync(file, `[objects]\n${lines({ move_rate: '0B', ...objects })}[[objects.backends]]\n${lines(cold)}`);
  return { MAINSTAY_CONFIG: file };
}

/** The files of bodies in a data folder. */
export function bodiesIn(data) {
  const root = join(data, 'objects/blobs');
  return readdirSync(root, { recursive: true }).map((name) => join(root, name)).filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
}

/** Runs a command that must succeed; its standard output. */
export async function told(data, words, extra) {
  const { code, stdout, stderr } = await command(data, words, extra);
  if (code !== 0) throw new Error(`${words.join(' ')}: ${code}\n${stdout}${stderr}`);
  return stdout;
}

/** How the move of a bucket stands. */
export const moveOf = async (data, bucket, extra) => JSON.parse(await told(data, ['objects', 'move', bucket, '--json'], extra));

/** Asks again and again until it is so. */
export async function eventually(isSo) {
  for (;;) {
    const value = await isSo();
    if (value) return value;
    await new Promise(setImmediate);
  }
}

/** Sweeps until nothing is at the remote but `count` bodies. */
export function sweptTo(data, extra, remote, count) {
  return eventually(async () => {
    await told(data, ['objects', 'sweep'], extra);
    return (await remote.list()).length === count;
  });
}
