// The loads: each drives one door of one program and gives the number of operations it did.

import { createHash } from 'node:crypto';
import { Agent, request } from 'node:http';

import { output } from '../clients/support/process.mjs';
import { sign } from '../clients/support/sigv4.mjs';

/** redis-benchmark with `pipeline` commands at a time. */
export function redisLoad(env, command, pipeline) {
  const { hostname, port, password } = new URL(env.REDIS_URL);
  const count = pipeline === 1 ? 100_000 : 400_000;
  const words = ['-h', hostname, '-p', port, '-c', 50, '-n', count, '-P', pipeline, '-d', 100, '-r', 100_000, '-q', '-t', command, '-a', password];
  return async () => {
    await output('redis-benchmark', words.map(String));
    return count;
  };
}

/** `count` PUTs or GETs of objects of `size` bytes, `width` at a time. */
export function objectLoad(env, method, { size, count, width }) {
  const body = method === 'PUT' ? Buffer.alloc(size, 'mainstay') : '';
  const payload = createHash('sha256').update(body).digest('hex');
  const agent = new Agent({ keepAlive: true, maxSockets: width });
  const one = (at) =>
    new Promise((resolve, reject) => {
      const path = `/bench/${size}/${at % 64}`;
      const headers = sign(env, { method, path, payload });
      const options = { host: env.MINIO_ENDPOINT, port: env.MINIO_PORT, method, path, agent };
      if (method === 'PUT') headers['content-length'] = size;
      const sent = request({ ...options, headers }, (answer) => {
        let received = 0;
        answer.on('data', (chunk) => (received += chunk.length));
        answer.on('end', () => {
          const good = answer.statusCode === 200 && (method === 'PUT' || received === size);
          if (good) resolve();
          else reject(new Error(`${method} ${path}: ${answer.statusCode}, ${received} bytes`));
        });
      });
      sent.on('error', reject);
      sent.end(body);
    });
  return async () => {
    let next = 0;
    const worker = async () => {
      while (next < count) await one(next++);
    };
    await Promise.all(Array.from({ length: width }, worker));
    agent.destroy();
    return count;
  };
}

const SECONDS = 4;

/** wrk, HTTP/1.1, 64 connections. */
export function http1Load(url) {
  return async () => {
    const text = await output('wrk', ['-t', '1', '-c', '64', '-d', `${SECONDS}s`, '-H', 'Host: localhost', url]);
    if (/Non-2xx|Socket errors/.test(text)) throw new Error(text);
    return Number(/(\d+) requests in/.exec(text)[1]);
  };
}

/** h2load, HTTP/2 over TLS, 16 connections with 8 streams. */
export function http2Load(url) {
  return async () => {
    const text = await output('h2load', ['-t', '1', '-c', '16', '-m', '8', '-D', String(SECONDS), url]);
    const [, done, failed] = /(\d+) done, \d+ succeeded, (\d+) failed/.exec(text);
    const [, good] = /status codes: (\d+) 2xx/.exec(text);
    if (failed !== '0' || Math.abs(good - done) > 128) throw new Error(text);
    return Number(good);
  };
}
