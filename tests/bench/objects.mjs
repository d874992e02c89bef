// The S3 door beside `rclone serve s3`: uploads and downloads of three sizes, one and sixteen at a time, in interleaved
// rounds; a listing of 100,000 keys; and what an operation costs as a bucket grows.

import { readFileSync, writeFileSync } from 'node:fs';

import { folder } from '../clients/support/folder.mjs';
import { startMainstay } from '../clients/support/mainstay.mjs';
import { startPile } from '../clients/support/pile.mjs';
import { undo } from '../clients/support/scope.mjs';
import { send } from '../clients/support/sigv4.mjs';
import { measure, median, number, table } from './measure.mjs';
import { objects, sendAll, syncs } from './s3.mjs';

const rounds = Number(process.argv[2] ?? 3);
/** Objects in a bucket up to which the cost of an operation is followed. */
const most = Number(process.argv[3] ?? 100_000);
const LISTED = 100_000;
const SIZES = [['4 KiB', 4 << 10, 3000], ['1 MiB', 1 << 20, 200], ['64 MiB', 64 << 20, 16]];

/** Most resident memory since `fresh`, in MiB. */
const peak = {
  fresh: (pid) => writeFileSync(`/proc/${pid}/clear_refs`, '5'),
  mib: (pid) => Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024,
};

const steps = [];
const scope = { after: (step) => steps.push(step) };

try {
  await bench();
} finally {
  for (const step of steps.reverse()) await step();
}

async function bench() {
  const data = folder(scope);
  const ours = await startMainstay({ data });
  undo(scope, () => ours.stop());
  const pile = await startPile({ data: folder(scope) });
  undo(scope, () => pile.stop());
  const servers = [{ env: ours.env, pid: ours.pid }, { env: pile.env, pid: pile.pids[1] }];
  for (const { env } of servers) {
    for (const bucket of ['/bench', '/listed', '/grown']) await send(env, { method: 'PUT', path: bucket });
  }
  console.log(`one fdatasync after the other here: ${number(syncs(data))} a second\n`);
  await transfers(servers);
  await listings(servers);
  await growth(servers[0]);
}

async function transfers(servers) {
  const rows = SIZES.flatMap(([title, size, count]) =>
    ['PUT', 'GET'].flatMap((method) => [1, 16].map((width) => ({ name: `${method} ${title}, ${width} at a time`, method, size, width, count: width === 1 ? Math.ceil(count / 4) : count }))),
  );
  const lines = [['', 'a second', 'rclone', 'ratio', 'MB/s', 'CPU µs each', 'rclone', 'ratio', 'p99 ms', 'rclone', 'peak MiB', 'rclone']];
  for (const row of rows) {
    const found = new Map(servers.map((server) => [server, []]));
    for (let round = 0; round < rounds; round += 1) {
      for (const server of round % 2 === 0 ? servers : [...servers].reverse()) {
        // More keys than are under way: rclone refuses two uploads of one key.
        const names = (at) => `/bench/${row.size}/${at % 64}`;
        const requests = objects(server.env, row.method, { ...row, names });
        peak.fresh(server.pid);
        let times;
        const taken = await measure(server.pid, async () => {
          times = await sendAll(server.env, requests, row.width);
          return times.length;
        });
        found.get(server).push({ ...taken, p99: times[Math.floor(times.length * 0.99)], peak: peak.mib(server.pid) });
      }
    }
    const pair = (what) => servers.map((server) => median(found.get(server).map((one) => one[what])));
    const [rate, cost, p99, memory] = [pair('rate'), pair('cost'), pair('p99'), pair('peak')];
    const ratio = ([a, b]) => (a / b).toFixed(2);
    const speed = number((rate[0] * row.size) / 1e6);
    lines.push([row.name, ...rate.map(number), ratio(rate), speed, ...cost.map(number), ratio(cost), ...p99.map((ms) => ms.toFixed(2)), ...memory.map(number)]);
    console.error(lines.at(-1).join('  '));
  }
  table(lines);
  console.log();
}

/** Puts objects of 100 bytes into `bucket`, from number `from` to `to`. */
async function fill({ env }, bucket, from, to) {
  for (let at = from; at < to; at += 10_000) {
    const count = Math.min(10_000, to - at);
    await sendAll(env, objects(env, 'PUT', { size: 100, count, names: (n) => name(bucket, at + n) }), 16);
  }
}

function name(bucket, at) {
  return `/${bucket}/folder-${at % 100}/object-${String(at).padStart(7, '0')}`;
}

async function listings(servers) {
  const lines = [['', 'Mainstay', 'rclone']];
  const [times, costs] = [[], []];
  for (const server of servers) {
    await fill(server, 'listed', 0, LISTED);
    const taken = [];
    for (let round = 0; round < rounds; round += 1) {
      taken.push(await measure(server.pid, () => listed(server)));
    }
    times.push(`${(LISTED / median(taken.map((one) => one.rate))).toFixed(2)} s`);
    costs.push(`${((median(taken.map((one) => one.cost)) * LISTED) / 1e6).toFixed(2)} s`);
  }
  table([...lines, [`LIST of ${number(LISTED)} keys`, ...times], ['its processor time', ...costs]]);
  console.log();
}

/** Lists a bucket page by page; the number of keys. */
async function listed({ env }) {
  let keys = 0;
  let token;
  do {
    const query = { 'list-type': '2', ...(token && { 'continuation-token': token }) };
    const { status, text } = await send(env, { method: 'GET', path: '/listed', query });
    if (status !== 200) throw new Error(`listing: ${status} ${text}`);
    keys += text.split('<Key>').length - 1;
    token = /<NextContinuationToken>([^<]+)/.exec(text)?.[1];
  } while (token);
  if (keys !== LISTED) throw new Error(`${keys} of ${LISTED} keys listed`);
  return keys;
}

/** What an upload and a download of 100 bytes cost while the bucket grows. */
async function growth(server) {
  const lines = [['objects in the bucket', 'PUT, CPU µs', 'a second', 'GET, CPU µs', 'a second']];
  const sample = 5000;
  let there = 0;
  for (let goal = 1000; goal <= most; goal *= 10) {
    await fill(server, 'grown', there, goal);
    there = goal;
    const put = await measure(server.pid, async () => {
      await fill(server, 'grown', there, there + sample);
      return sample;
    });
    there += sample;
    const anywhere = (n) => name('grown', (n * 7919) % goal);
    const requests = objects(server.env, 'GET', { size: 100, count: sample, names: anywhere });
    const get = await measure(server.pid, async () => (await sendAll(server.env, requests, 16)).length);
    lines.push([number(goal), number(put.cost), number(put.rate), number(get.cost), number(get.rate)]);
  }
  table(lines);
}
