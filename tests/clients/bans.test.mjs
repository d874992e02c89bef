// Jails of the edge and the bans they make, as curl and the command line meet them: through a proxy that is believed, over a
// crash, and lifted by each way there is. And what is counted of a site.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { output } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'the edge is Mainstay only';

/** An app that knows no password and one place. */
async function app(t) {
  const server = createServer((request, response) => {
    response.statusCode = request.method === 'POST' ? 401 : request.url === '/' ? 200 : 404;
    response.end('app');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo(t, () => {
    server.close();
    server.closeAllConnections();
  });
  return server.address().port;
}

/** Asks as the client that the proxy on loopback names. */
async function asks(server, client, path, ...more) {
  const words = ['-sS', '-o', '/dev/null', '-w', '%{http_code}', '--max-time', '20', '-H', `X-Forwarded-For: ${client}`];
  return Number(await output('curl', [...words, ...more, `http://127.0.0.1:${server.ports.http}${path}`]));
}

const metrics = async (server) => (await fetch(`http://127.0.0.1:${server.ports.console}/metrics`)).text();

test('who fails too often is banned, also after a crash, until somebody lifts it', { skip }, async (t) => {
  const [data, here, port] = [folder(t), folder(t), await app(t)];
  const file = join(here, 'mainstay.toml');
  const head = '[edge]\nredirect_https = false\ntrusted_proxies = ["127.0.0.1"]\n';
  writeFileSync(
    file,
    `${head}[edge.bans]\non = ["login", "scan", "doors"]\n[[edge.sites]]\nhosts = ["127.0.0.1"]\nupstream = "127.0.0.1:${port}"\n`,
  );
  let server = await startMainstay({ data, flags: ['--config', file] });
  undo(t, () => server.stop());

  for (let attempt = 0; attempt < 5; attempt += 1) assert.equal(await asks(server, '203.0.113.7', '/login', '-X', 'POST'), 401);
  assert.equal(await asks(server, '203.0.113.7', '/'), 403);
  assert.equal(await asks(server, '203.0.113.8', '/'), 200);
  for (const path of ['/.env', '/.git/config', '/wp-login.php']) await asks(server, '2001:db8:1:2::3', path);
  assert.equal(await asks(server, '2001:db8:1:2:ffff::1', '/'), 403);
  // One of Mainstay's own doors, by its host.
  const s3 = ['-H', 'Host: s3.localhost'];
  for (let attempt = 0; attempt < 20; attempt += 1) assert.equal(await asks(server, '198.51.100.9', '/bucket', ...s3), 403);
  assert.match((await command(data, ['bans'])).stdout, /^198\.51\.100\.9 +doors /m);

  const added = await command(data, ['bans', 'add', '192.0.2.0/24', '--for', '2h', '--reason', 'by hand']);
  assert.match(added.stdout, /^192\.0\.2\.0\/24 +by hand +until .+ by hand\n$/);
  const refused = await command(data, ['bans', 'add', '127.0.0.1']);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /never banned/);

  await server.kill();
  server = await startMainstay({ data, flags: ['--config', file] });
  const listed = (await command(data, ['bans', '--json'])).stdout;
  const addresses = JSON.parse(listed).map(({ address }) => address);
  assert.ok(addresses.includes('192.0.2.0/24'), 'what was acknowledged is there');
  assert.equal(await asks(server, '192.0.2.77', '/'), 403);
  for (const address of addresses) assert.equal((await command(data, ['bans', 'remove', address])).code, 0);
  assert.equal(await asks(server, '192.0.2.77', '/'), 200);
  assert.equal(await asks(server, '203.0.113.7', '/'), 200);
  assert.equal((await command(data, ['bans'])).stdout, '');
});

test('a site is counted by status and time, and leaves the metrics with the settings', { skip }, async (t) => {
  const [data, here, port] = [folder(t), folder(t), await app(t)];
  const file = join(here, 'mainstay.toml');
  const site = (path) => `[[edge.sites]]\npath = "${path}"\nupstream = "127.0.0.1:${port}"\n`;
  writeFileSync(file, `[edge]\nredirect_https = false\n${site('/')}${site('/old')}`);
  const server = await startMainstay({ data, flags: ['--config', file] });
  undo(t, () => server.stop());
  for (const path of ['/', '/', '/none', '/old']) await asks(server, '203.0.113.7', path);
  const before = await metrics(server);
  assert.match(before, /^mainstay_edge_site_requests_total\{site="\*\/",status="2xx"\} 2$/m);
  assert.match(before, /^mainstay_edge_site_requests_total\{site="\*\/",status="4xx"\} 1$/m);
  assert.match(before, /^mainstay_edge_site_bytes_total\{site="\*\/"\} 9$/m);
  assert.match(before, /^mainstay_edge_site_seconds_count\{site="\*\/"\} 3$/m);
  assert.match(before, /^mainstay_edge_site_upstream_seconds_count\{site="\*\/old"\} 1$/m);
  writeFileSync(file, `[edge]\nredirect_https = false\n${site('/')}`);
  assert.equal((await command(data, ['--config', file, 'reload'])).code, 0);
  const after = await metrics(server);
  assert.doesNotMatch(after, /site="\*\/old"/);
  assert.match(after, /^mainstay_edge_site_requests_total\{site="\*\/",status="2xx"\} 2$/m);
});

test('config check tells what a request would meet', { skip }, async (t) => {
  const [data, here] = [folder(t), folder(t)];
  const file = join(here, 'mainstay.toml');
  writeFileSync(file, '[[edge.sites]]\nupstreams = ["127.0.0.1:3", "127.0.0.1:4"]\nbalance = "round-robin"\ndeny = ["192.0.2.0/24"]\n');
  const asked = await command(data, ['--config', file, 'config', 'check', 'https://example.com/x', '--from', '192.0.2.7']);
  assert.equal(asked.code, 0, asked.stderr);
  for (const line of ['site: */', 'addresses: this one is not served, answered 403', 'app: 127.0.0.1:3', 'balance: round-robin']) {
    assert.ok(asked.stdout.split('\n').includes(line), `${line} in ${asked.stdout}`);
  }
});
