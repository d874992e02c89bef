// What ten thousand connections at once cost: encrypted ones at rest that the edge serves by itself, ones with a request
// under way at the app, and WebSockets. Ends with an error when any of them fails.

import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { Crowd, anonymousMib, probe } from '../clients/support/crowd.mjs';
import { folder } from '../clients/support/folder.mjs';
import { startMainstay } from '../clients/support/mainstay.mjs';
import { clients } from '../clients/support/paths.mjs';
import { start } from '../clients/support/process.mjs';
import { residentMib, table } from './measure.mjs';

const TERMINATED = Number(process.argv[2] ?? 10_000);
/** Each of these takes two descriptors of the server, of which there may be 20,000. */
const PROXIED = Math.floor(TERMINATED * 0.95);
const PROBES = 300;

const undone = [];
const work = folder({ after: (step) => undone.push(step) });
mkdirSync(join(work, 'files'));
writeFileSync(join(work, 'files/file'), 'x'.repeat(1024));
const app = await start('node', [join(clients, 'support/crowd-app.mjs'), String(PROXIED)], { ready: (line) => /^listening on (\d+)/.exec(line)?.[1] });
const config = join(work, 'mainstay.toml');
writeFileSync(
  config,
  `[edge]\napp = "127.0.0.1:${app.value}"\n[[edge.sites]]\npath = "/files"\nroot = "${join(work, 'files')}"\nstrip_path = true
[edge.limits]\nconnections = ${TERMINATED * 2}\n[edge.timeouts]\nhead = "10m"\nresponse = "10m"\n`,
);
const server = await startMainstay({ data: join(work, 'data'), flags: ['--config', config] });
const edge = { port: server.ports.https, ca: server.certificate };
const descriptors = () => readdirSync(`/proc/${server.pid}/fd`).length;
const peak = () => (Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))[1]) / 1024).toFixed(0);

const rows = [['', 'connections', 'errors', 'descriptors', 'RSS MiB', 'anonymous', 'KiB each', 'median ms', 'p99 ms']];
let before;
async function note(stage, crowd) {
  const { median, p99 } = await probe(edge, '/files/file', PROBES);
  const mib = anonymousMib(server.pid);
  before ??= mib;
  const count = crowd?.members.length ?? 0;
  const each = count > 0 ? (((mib - before) * 1024) / count).toFixed(1) : '';
  const figures = [count, crowd?.errors.length ?? 0, descriptors(), residentMib(server.pid).toFixed(0), mib.toFixed(0), each, median.toFixed(2), p99.toFixed(2)];
  rows.push([stage, ...figures.map(String)]);
  if (crowd?.errors.length) throw new Error(`${stage}: ${crowd.errors.length} errors, the first: ${crowd.errors[0]}`);
}

/** A crowd that does `steps` one after the other, then leaves. */
async function stage(count, steps, last) {
  const crowd = await Crowd.open(count, edge);
  for (const [name, does] of steps) {
    await does(crowd);
    await note(name, crowd);
  }
  crowd.close();
  await note(`${last}: closed`);
  // Not a test, so it may wait for what a server at rest gives back.
  await delay(20_000);
  await note(`${last}: 20 s later`);
}

try {
  await probe(edge, '/', PROBES);
  await note('start');
  await stage(
    TERMINATED,
    [
      ['at rest after a file', (crowd) => crowd.each((member) => member.get('/files/file'))],
      ['each another file', (crowd) => crowd.each((member) => member.get('/files/file'))],
    ],
    'terminated',
  );
  await stage(
    PROXIED,
    [
      ['a request of each at the app', (crowd) => crowd.each((member) => member.get('/wait'))],
      ['each another request', (crowd) => crowd.each((member) => member.get('/'))],
    ],
    'proxied',
  );
  await stage(
    PROXIED,
    [
      ['WebSockets', (crowd) => crowd.each((member) => member.upgrade('/'))],
      ['a message of each', (crowd) => crowd.each((member) => member.echo('hello'))],
    ],
    'WebSockets',
  );
} finally {
  table(rows);
  console.log(`peak RSS ${peak()} MiB`);
  await server.stop();
  await app.stop('SIGKILL');
  for (const step of undone) await step();
}
