// Loads for an S3 door, and what the disk under it can do.

import { createHash } from 'node:crypto';
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';

import { queryText, sign } from '../clients/support/sigv4.mjs';

/** Writes of 4 KiB with `fdatasync`, one after the other, in a second. */
export function syncs(data) {
  const file = openSync(join(data, 'sync'), 'w');
  const [page, began] = [Buffer.alloc(4096), process.hrtime.bigint()];
  let count = 0;
  for (; process.hrtime.bigint() - began < 1_000_000_000n; count += 1) {
    writeSync(file, page, 0, page.length, (count % 256) * page.length);
    fdatasyncSync(file);
  }
  closeSync(file);
  return count;
}

/** Sends `requests`, `width` at a time: milliseconds each took. Signed before, so that the client costs less. */
export async function sendAll(env, requests, width) {
  const agent = new Agent({ keepAlive: true, maxSockets: width, noDelay: true });
  const times = [];
  const one = ({ method, path, query = {}, body = '', headers, size = 0 }) =>
    new Promise((resolve, reject) => {
      const began = process.hrtime.bigint();
      const text = queryText(query);
      const options = { host: env.MINIO_ENDPOINT, port: env.MINIO_PORT, method, path: `${path}${text && `?${text}`}`, agent };
      const sent = request({ ...options, headers: { ...headers, 'content-length': body.length } }, (answer) => {
        let received = 0;
        answer.on('data', (chunk) => (received += chunk.length));
        answer.on('end', () => {
          times.push(Number(process.hrtime.bigint() - began) / 1e6);
          if (answer.statusCode === 200 && received >= size) resolve();
          else reject(new Error(`${method} ${path}: ${answer.statusCode}, ${received} bytes`));
        });
      });
      sent.on('error', reject);
      sent.end(body);
    });
  let next = 0;
  const worker = async () => {
    while (next < requests.length) await one(requests[next++]);
  };
  await Promise.all(Array.from({ length: width }, worker));
  agent.destroy();
  return times.sort((a, b) => a - b);
}

/** `count` signed requests for objects of `size` bytes under `names`. */
export function objects(env, method, { size, count, names }) {
  const body = method === 'PUT' ? Buffer.alloc(size, 'mainstay') : '';
  const payload = createHash('sha256').update(body).digest('hex');
  return Array.from({ length: count }, (_, at) => {
    const path = names(at);
    return { method, path, body, size: method === 'GET' ? size : 0, headers: sign(env, { method, path, payload }) };
  });
}
