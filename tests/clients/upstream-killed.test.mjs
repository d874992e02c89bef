// An app killed with -9 in the middle of its work: what may be sent again is, what may not be is one clean 502, and the only
// copy there is is asked again the moment it is back.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { Http1 } from './support/browse.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { clients } from './support/paths.mjs';
import { start } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not nginx';

/** A running app: `port`, `count(line)` of what it was asked, `kill()`. */
async function mortal(t, port = 0) {
  const app = await start('node', [join(clients, 'support/mortal-app.mjs'), String(port)], { ready: (line) => /^listening on (\d+)/.exec(line)?.[1] });
  undo(t, () => app.stop('SIGKILL'));
  const count = (line) => app.lines.filter((one) => one === line).length;
  return { port: Number(app.value), pid: app.pid, count, kill: () => app.stop('SIGKILL') };
}

/** Waits until that is so. */
async function until(wanted) {
  while (!wanted()) await new Promise((next) => setTimeout(next, 5));
}

async function edge(t, site) {
  const here = folder(t);
  const config = join(here, 'mainstay.toml');
  writeFileSync(config, `[edge]\n[[edge.sites]]\n${site}\n`);
  const server = await startMainstay({ data: join(here, 'data'), flags: ['--config', config] });
  undo(t, () => server.stop());
  const client = new Http1(server);
  undo(t, () => client.close());
  return client;
}

/** A 502 of the edge's own that is whole and tells nothing of the app. */
function isClean(answer) {
  assert.equal(answer.status, 502);
  assert.doesNotMatch(answer.text(), /127\.0\.0\.1|reset|hyper|ECONN/i);
}

test('with another copy, no request that may be sent again notices', { skip }, async (t) => {
  const [one, two] = [await mortal(t), await mortal(t)];
  const client = await edge(t, `upstreams = ["127.0.0.1:${one.port}", "127.0.0.1:${two.port}"]\nbalance = "round-robin"`);
  const pids = new Set();
  let [over, answers] = [false, 0];
  const lane = async () => {
    while (!over || answers < 200) {
      const answer = await client.request('GET', '/');
      assert.equal(answer.status, 200, answer.text());
      pids.add(Number(answer.text()));
      answers += 1;
    }
  };
  const lanes = Promise.all(Array.from({ length: 8 }, lane));
  await until(() => pids.size === 2);
  await one.kill();
  await until(() => answers >= 100);
  over = true;
  await lanes;
});

test('a request without a body under way goes to the other copy, one with a body is a 502 and not sent twice', { skip }, async (t) => {
  const [one, two] = [await mortal(t), await mortal(t)];
  const client = await edge(t, `upstreams = ["127.0.0.1:${one.port}", "127.0.0.1:${two.port}"]\nbalance = "round-robin"`);
  const held = client.request('POST', '/hold/post', { body: 'once' });
  await until(() => one.count('POST /hold/post') || two.count('POST /hold/post'));
  const [dead, alive] = one.count('POST /hold/post') ? [one, two] : [two, one];
  await dead.kill();
  isClean(await held);
  assert.equal(alive.count('POST /hold/post'), 0);
  for (let at = 0; at < 20; at += 1) {
    const answer = await client.request('POST', `/after/${at}`, { body: 'x' });
    assert.deepEqual([answer.status, answer.text()], [200, String(alive.pid)]);
  }
});

test('the only copy: one clean 502, a broken answer is broken off, and it is asked as soon as it is back', { skip }, async (t) => {
  let app = await mortal(t);
  const client = await edge(t, `upstream = "127.0.0.1:${app.port}"`);
  for (let round = 0; round < 3; round += 1) {
    assert.equal((await client.request('GET', '/')).text(), String(app.pid));
    const [held, posted] = [client.request('GET', `/hold/${round}`), client.request('POST', `/hold/${round}`, { body: 'x' })];
    // Its head is there.
    const half = await client.open('GET', `/half/${round}`);
    const broken = assert.rejects(half.stream.toArray(), /aborted/);
    await until(() => [`GET /hold/${round}`, `POST /hold/${round}`].every((line) => app.count(line)));
    await app.kill();
    isClean(await held);
    isClean(await posted);
    await broken;
    for (let at = 0; at < 30; at += 1) isClean(await client.request('GET', '/'));
    app = await mortal(t, app.port);
    assert.deepEqual([app.count(`GET /hold/${round}`), app.count(`POST /hold/${round}`)], [0, 0]);
    const answer = await client.request('GET', '/');
    assert.deepEqual([answer.status, answer.text()], [200, String(app.pid)]);
  }
});
