// Runs Autobahn's fuzzing client against an echo and against the edge in front of it, and compares case by case.

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { folder } from '../clients/support/folder.mjs';
import { startMainstay } from '../clients/support/mainstay.mjs';
import { start } from '../clients/support/process.mjs';

// The clients' packages are installed over there.
const { WebSocketServer } = createRequire(new URL('../clients/package.json', import.meta.url))('ws');

const chosen = process.argv.slice(2);
const cases = chosen.length > 0 ? chosen : ['*'];
const without = chosen.length > 0 ? [] : ['12.*', '13.*'];
const undone = [];
const work = folder({ after: (step) => undone.push(step) });

const echo = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: true, maxPayload: 64 << 20 });
echo.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (message, binary) => socket.send(message, { binary }));
});
await once(echo, 'listening');
const config = join(work, 'mainstay.toml');
writeFileSync(config, `[edge]\nredirect_https = false\napp = "127.0.0.1:${echo.address().port}"\n`);
const server = await startMainstay({ data: join(work, 'data'), flags: ['--config', config] });

const servers = [
  { agent: 'direct', url: `ws://127.0.0.1:${echo.address().port}` },
  { agent: 'edge', url: `ws://127.0.0.1:${server.ports.http}` },
];
const spec = { outdir: join(work, 'reports'), servers, cases, 'exclude-cases': without, 'exclude-agent-cases': {} };
writeFileSync(join(work, 'spec.json'), JSON.stringify(spec));
const words = ['-c', 'from autobahntestsuite.wstest import run; run()', '-m', 'fuzzingclient', '-s', join(work, 'spec.json')];
const suite = await start(process.env.PYTHON2, words, { cwd: work });
const { code, lines } = await suite.exited;
try {
  if (code !== 0) throw new Error(lines.join('\n'));
  const { direct, edge } = JSON.parse(readFileSync(join(work, 'reports/index.json')));
  const outcome = ({ behavior, behaviorClose, remoteCloseCode } = {}) => `${behavior}, closed ${behaviorClose} with ${remoteCloseCode}`;
  const differing = Object.keys(direct).filter((name) => outcome(direct[name]) !== outcome(edge[name]));
  for (const name of differing) console.log(`${name}: directly ${outcome(direct[name])}; through the edge ${outcome(edge[name])}`);
  console.log(`${Object.keys(direct).length} cases, ${differing.length} differ`);
  process.exitCode = differing.length > 0 ? 1 : 0;
} finally {
  await server.stop();
  echo.clients.forEach((socket) => socket.terminate());
  echo.close();
  for (const step of undone) await step();
}
