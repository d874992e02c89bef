// How many uploads of 4 KiB are acknowledged a second where a sync of the disk takes long: strace delays each by as much,
// for Mainstay and for the writer of lone syncs it is held against. `LATE` is a program that runs another one so.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { folder } from '../clients/support/folder.mjs';
import { startMainstay } from '../clients/support/mainstay.mjs';
import { send } from '../clients/support/sigv4.mjs';
import { undo } from '../clients/support/scope.mjs';
import { number, table } from './measure.mjs';
import { objects, sendAll, syncs } from './s3.mjs';

const [program, counting] = process.argv.slice(2);
if (program === 'lone') {
  console.log(syncs(counting));
} else {
  const steps = [];
  try {
    await bench({ after: (step) => steps.push(step) }, process.argv.slice(2));
  } finally {
    for (const step of steps.reverse()) await step();
  }
}

async function bench(scope, given) {
  const lines = [['a sync takes', 'lone, a second', '16 at a time', 'of lone', '64 at a time', 'of lone']];
  for (const delay of given.length > 0 ? given.map(Number) : [1000, 3000, 8000]) {
    const [data, extra] = [folder(scope), { SYNC_LATE: String(delay) }];
    const { stdout } = spawnSync(process.env.LATE, [process.execPath, fileURLToPath(import.meta.url), 'lone', data], { env: { ...process.env, ...extra }, encoding: 'utf8' });
    const lone = Number(stdout);
    const server = await startMainstay({ data, extra });
    undo(scope, () => server.stop());
    await send(server.env, { method: 'PUT', path: '/bench' });
    const rates = [];
    for (const width of [16, 64]) {
      const requests = objects(server.env, 'PUT', { size: 4096, count: 3000, names: (at) => `/bench/${at % 64}` });
      const began = process.hrtime.bigint();
      await sendAll(server.env, requests, width);
      rates.push(3000 / (Number(process.hrtime.bigint() - began) / 1e9));
    }
    const columns = rates.flatMap((rate) => [number(rate), (rate / lone).toFixed(1)]);
    lines.push([`${(1000 / lone).toFixed(1)} ms`, number(lone), ...columns]);
  }
  table(lines);
}
