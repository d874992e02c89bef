// Five hundred connections at once, each with a request under way, at rest or as a WebSocket: none fails, somebody else is
// served meanwhile, and afterwards the memory is given back. `tests/bench/connections` does the same with ten thousand.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

import { onPile } from './support/backend.mjs';
import { Crowd, anonymousMib, probe } from './support/crowd.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { clients } from './support/paths.mjs';
import { start } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const COUNT = 500;
/** Most memory for a connection, in MiB: a debug build takes some times what a release takes. */
const MOST_EACH = 0.25;

test('five hundred connections at once', { skip: onPile && 'proves Mainstay, not nginx' }, async (t) => {
  const app = await start('node', [join(clients, 'support/crowd-app.mjs'), String(COUNT)], { ready: (line) => /^listening on (\d+)/.exec(line)?.[1] });
  undo(t, () => app.stop('SIGKILL'));
  const here = folder(t);
  mkdirSync(join(here, 'files'));
  writeFileSync(join(here, 'files/file'), 'x'.repeat(1024));
  const config = join(here, 'mainstay.toml');
  writeFileSync(config, `[edge]\napp = "127.0.0.1:${app.value}"\n[[edge.sites]]\npath = "/files"\nroot = "${join(here, 'files')}"\nstrip_path = true\n`);
  const server = await startMainstay({ data: join(here, 'data'), flags: ['--config', config] });
  undo(t, () => server.stop());
  const edge = { port: server.ports.https, ca: server.certificate };
  await probe(edge, '/', 100);
  const before = anonymousMib(server.pid);

  const work = {
    'a file': async (crowd) => crowd.each((member) => member.get('/files/file')),
    'the app, all at once': async (crowd) => crowd.each((member) => member.get('/wait')),
    'the app, again': async (crowd) => crowd.each((member) => member.get('/')),
    'WebSockets': async (crowd) => {
      await crowd.each((member) => member.upgrade('/'));
      for (const text of ['one', 'two']) await crowd.each((member) => member.echo(text));
    },
  };
  const crowd = await Crowd.open(COUNT, edge);
  undo(t, () => crowd.close());
  for (const [name, does] of Object.entries(work)) {
    await does(crowd);
    assert.deepEqual(crowd.errors, [], name);
    await probe(edge, '/files/file', 20);
    const each = (anonymousMib(server.pid) - before) / COUNT;
    assert.ok(each < MOST_EACH, `${name}: ${each.toFixed(3)} MiB for a connection`);
  }
  const most = anonymousMib(server.pid);
  crowd.close();
  while (anonymousMib(server.pid) > before + (most - before) / 2 + 8) await delay(100);
  await probe(edge, '/', 20);
});
