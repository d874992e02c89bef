// The loads: each drives one door of one program and gives the number of operations it did.

import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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

/** wrk, HTTP/1.1, 64 connections: `{ count, p99 }`, the latter in milliseconds. */
export function timedHttp1(url, ...headers) {
  const fields = ['Host: localhost', ...headers].flatMap((field) => ['-H', field]);
  return async () => {
    const text = await output('wrk', ['-t', '1', '-c', '64', '-d', `${SECONDS}s`, '--latency', ...fields, url]);
    if (/Non-2xx|Socket errors/.test(text)) throw new Error(text);
    const [, value, unit] = /99%\s+([\d.]+)(us|ms|s)\b/.exec(text);
    return { count: Number(/(\d+) requests in/.exec(text)[1]), p99: Number(value) * { us: 0.001, ms: 1, s: 1000 }[unit] };
  };
}

/** The same, but the number of requests only. */
export function http1Load(url) {
  return async () => (await timedHttp1(url)()).count;
}

/** h2load, HTTP/2 over TLS, 16 connections with 8 streams: `{ count, p99 }`. */
export function timedHttp2(url) {
  return async () => {
    const data = mkdtempSync(join(tmpdir(), 'mainstay-bench-'));
    try {
      const log = join(data, 'log');
      const text = await output('h2load', ['-t', '1', '-c', '16', '-m', '8', '-D', String(SECONDS), `--log-file=${log}`, url]);
      const [, done, failed] = /(\d+) done, \d+ succeeded, (\d+) failed/.exec(text);
      const [, good] = /status codes: (\d+) 2xx/.exec(text);
      if (failed !== '0' || Math.abs(good - done) > 128) throw new Error(text);
      // A line: when it began, its status, the microseconds it took.
      const times = readFileSync(log, 'utf8').trimEnd().split('\n').map((line) => Number(line.split('\t')[2])).sort((a, b) => a - b);
      return { count: Number(good), p99: times[Math.floor(times.length * 0.99)] / 1000 };
    } finally {
      rmSync(data, { recursive: true, force: true });
    }
  };
}

/** The same, but the number of requests only. */
export function http2Load(url) {
  return async () => (await timedHttp2(url)()).count;
}
