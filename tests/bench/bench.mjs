// Interleaved rounds of every load against Mainstay and the program it replaces; medians in a table.

import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { folder } from '../clients/support/folder.mjs';
import { startMainstay } from '../clients/support/mainstay.mjs';
import { mainstay } from '../clients/support/paths.mjs';
import { startPile } from '../clients/support/pile.mjs';
import { freePort, start } from '../clients/support/process.mjs';
import { undo } from '../clients/support/scope.mjs';
import { send } from '../clients/support/sigv4.mjs';
import { http1Load, http2Load, objectLoad, redisLoad } from './loads.mjs';
import { measure, median, number, residentMib, table } from './measure.mjs';

const rounds = Number(process.argv[2] ?? 3);
const steps = [];
const scope = { after: (step) => steps.push(step) };

try {
  await bench();
} finally {
  for (const step of steps) await step();
}

async function bench() {
  await footprint();
  const app = await startApp();
  // HTTP without the way to HTTPS needs HTTPS off, on both sides.
  const ours = await startMainstay({ data: folder(scope), app });
  undo(scope, () => ours.stop());
  const plain = await startMainstay({ data: folder(scope), app, extra: { MAINSTAY_EDGE__HTTPS: '' } });
  undo(scope, () => plain.stop());
  const pile = await startPile({ data: folder(scope), app });
  undo(scope, () => pile.stop());
  const [redisPid, rclonePid, nginxPid] = pile.pids;
  for (const { env } of [ours, pile]) await send(env, { method: 'PUT', path: '/bench' });

  const both = (name, load, theirPid) => ({ name, ours: [ours.pid, () => load(ours)], theirs: [theirPid, () => load(pile)] });
  const small = { size: 4096, count: 2000, width: 16 };
  const large = { size: 64 << 20, count: 6, width: 2 };
  const rows = [
    both('Redis SET, one at a time', ({ env }) => redisLoad(env, 'set', 1), redisPid),
    both('Redis GET, one at a time', ({ env }) => redisLoad(env, 'get', 1), redisPid),
    both('Redis SET, 16 at a time', ({ env }) => redisLoad(env, 'set', 16), redisPid),
    both('Redis GET, 16 at a time', ({ env }) => redisLoad(env, 'get', 16), redisPid),
    both('S3 PUT 4 KiB', ({ env }) => objectLoad(env, 'PUT', small), rclonePid),
    both('S3 GET 4 KiB', ({ env }) => objectLoad(env, 'GET', small), rclonePid),
    both('S3 PUT 64 MiB', ({ env }) => objectLoad(env, 'PUT', large), rclonePid),
    both('S3 GET 64 MiB', ({ env }) => objectLoad(env, 'GET', large), rclonePid),
    {
      name: 'proxy HTTP/1.1',
      ours: [plain.pid, () => http1Load(`http://127.0.0.1:${plain.ports.http}/`)],
      theirs: [nginxPid, () => http1Load(`http://127.0.0.1:${pile.ports.plain}/`)],
    },
    both('proxy HTTP/1.1 TLS', ({ ports }) => http1Load(`https://127.0.0.1:${ports.https}/`), nginxPid),
    both('proxy HTTP/2 TLS', ({ ports }) => http2Load(`https://localhost:${ports.https}/`), nginxPid),
  ];
  await compare(rows);
}

async function compare(rows) {
  const found = rows.map(() => ({ ours: [], theirs: [] }));
  for (let round = 0; round < rounds; round += 1) {
    for (const [at, row] of rows.entries()) {
      const order = round % 2 === 0 ? ['ours', 'theirs'] : ['theirs', 'ours'];
      for (const side of order) {
        const [pid, load] = row[side];
        found[at][side].push(await measure(pid, load()));
      }
      console.error(`round ${round + 1} of ${rounds}: ${row.name}`);
    }
  }
  const middle = (list, what) => median(list.map((one) => one[what]));
  const head = ['', 'a second', 'peer', 'CPU µs each', 'peer', 'ratio', 'MiB', 'peer'];
  const lines = rows.map(({ name }, at) => {
    const { ours, theirs } = found[at];
    const pair = (what) => [middle(ours, what), middle(theirs, what)];
    const cost = pair('cost');
    const ratio = (cost[0] / cost[1]).toFixed(2);
    return [name, ...pair('rate').map(number), ...cost.map(number), ratio, ...pair('memory').map(number)];
  });
  table([head, ...lines]);
}

/** Start to ready, memory at rest, size of the binary. */
async function footprint() {
  const times = [];
  let memory;
  for (let at = 0; at < 5; at += 1) {
    const data = folder(scope);
    const server = await startMainstay({ data });
    await server.stop();
    const began = process.hrtime.bigint();
    const again = await startMainstay({ data, quick: true });
    times.push(Number(process.hrtime.bigint() - began) / 1e6);
    memory = residentMib(again.pid);
    await again.stop();
  }
  table([
    ['binary', `${number(statSync(mainstay).size / 2 ** 20)} MiB`],
    ['start to ready', `${number(median(times))} ms`],
    ['memory at rest', `${number(memory)} MiB`],
  ]);
  console.log();
}

/** A one-worker nginx that answers 1 KiB, for both proxies. */
async function startApp() {
  const data = folder(scope);
  const port = await freePort();
  // nginx's workers give up root's rights, and must still reach the file.
  chmodSync(data, 0o755);
  mkdirSync(join(data, 'www'));
  writeFileSync(join(data, 'www/index.html'), 'x'.repeat(1024));
  const config = join(data, 'nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${data}/${name};`);
  writeFileSync(
    config,
    `daemon off; pid ${data}/pid; worker_processes 1; error_log stderr notice; events { worker_connections 2048; }
     http { access_log off; keepalive_requests 1000000; ${temporary.join(' ')} server { listen 127.0.0.1:${port}; root ${data}/www; } }`,
  );
  const app = await start('nginx', ['-c', config, '-p', data, '-e', 'stderr'], { ready: (line) => line.includes('start worker process') });
  undo(scope, () => app.stop());
  return `127.0.0.1:${port}`;
}
