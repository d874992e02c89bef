// Certificates from Let's Encrypt's own test authority (pebble), which refuses every third nonce here: ordered, checked by
// a client that trusts nothing else, still there after kill -9 and after a renewal that failed; for wildcards by a record in
// the DNS, which each provider writes.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';

import { onPile } from './support/backend.mjs';
import { nameServer } from './support/dns.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { freePort, output, run, start } from './support/process.mjs';
import { undo } from './support/scope.mjs';

/** The key an account is bound with where the authority asks for it. */
const BINDING = 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W';

const skip = onPile && 'certificates are ordered by Mainstay only';

/** What `url` answers, to somebody who trusts `ca`. */
function fetched(url, ca) {
  return new Promise((resolve, reject) => {
    const asked = request(url, { ca }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('end', () => resolve(Buffer.concat(chunks).toString()));
    });
    asked.on('error', reject).end();
  });
}

/** As `fetched`, from a server that begins to listen only after it said so. */
async function reached(url, ca) {
  for (;;) {
    try {
      return await fetched(url, ca);
    } catch (error) {
      if (error.code !== 'ECONNREFUSED') throw error;
      await new Promise((next) => setTimeout(next, 20));
    }
  }
}

/** The certificate shown for `servername`, verified against `ca`. */
function shown(port, servername, ca) {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, servername, ca }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

/** An authority in `dir` that looks for challenges on `http` and `https`. */
async function authority(t, dir, { http, https, bound, resolver }) {
  const path = (name) => join(dir, name);
  const openssl = (line) => output('openssl', line.split(' '), { cwd: dir });
  await openssl('req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=test -days 2');
  await openssl('req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout srv.key -out srv.csr -subj /CN=localhost');
  writeFileSync(path('srv.ext'), 'subjectAltName=IP:127.0.0.1\n');
  await openssl('x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out srv.pem -days 2 -extfile srv.ext');
  const [wfe, management, dns, manage] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const pebble = {
    listenAddress: `127.0.0.1:${wfe}`,
    managementListenAddress: `127.0.0.1:${management}`,
    certificate: path('srv.pem'),
    privateKey: path('srv.key'),
    httpPort: http,
    tlsPort: https,
    ocspResponderURL: '',
    externalAccountBindingRequired: bound,
    externalAccountMACKeys: { 'kid-1': BINDING },
    // Two labels: pebble 2.4 breaks off orders for names with fewer labels than an entry.
    domainBlocklist: ['blocked-domain.example'],
  };
  writeFileSync(path('pebble.json'), JSON.stringify({ pebble }));
  let named = resolver;
  if (named === undefined) {
    named = dns;
    await addresses(t, manage, dns);
  }
  const env = { PATH: process.env.PATH, PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: '30' };
  const running = await start('pebble', ['-config', path('pebble.json'), '-dnsserver', `127.0.0.1:${named}`], {
    env,
    ready: (line) => line.includes('ACME directory available'),
  });
  undo(t, () => running.stop());
  const trust = readFileSync(path('ca.pem'));
  const url = `https://127.0.0.1:${wfe}/dir`;
  await reached(url, trust);
  const root = await reached(`https://127.0.0.1:${management}/roots/0`, trust);
  return { url, root, trust: path('ca.pem'), stop: running.stop };
}

/** A name server on `dns` where every name has the address 127.0.0.1. */
async function addresses(t, manage, dns) {
  // Newer ones have another name for the flag, and DNS over HTTPS besides.
  const { stderr: flags } = await run('pebble-challtestsrv', ['-help']);
  const names = ['-management', `127.0.0.1:${manage}`, ...(flags.includes('-dnsserver') ? ['-doh', '', '-dnsserver'] : ['-dns01'])];
  names.push(`127.0.0.1:${dns}`, '-http01', '', '-https01', '', '-tlsalpn01', '', '-defaultIPv4', '127.0.0.1', '-defaultIPv6', '');
  const resolver = await start('pebble-challtestsrv', names, { ready: (line) => line.includes('Starting management server') });
  undo(t, () => resolver.stop());
}

for (const [challenge, bound] of [['http-01', false], ['tls-alpn-01', true]]) {
  test(`a certificate by ${challenge} ${bound ? 'for a bound account ' : ''}is ordered, verifies, and outlives kill -9`, { skip }, async (t) => {
    const dir = folder(t);
    const [http, https] = [await freePort(), await freePort()];
    const ca = await authority(t, dir, { http, https, bound });
    writeFileSync(join(dir, 'eab.key'), `${BINDING}\n`);
    const config = join(dir, 'mainstay.toml');
    writeFileSync(
      config,
      `[edge]
domain = "example.org"
[edge.acme]
agree_terms = true
email = "admin@example.org"
names = ["blocked-domain.example"]
skip = ["s3.example.org"]
challenges = ["${challenge}"]
[[edge.acme.authorities]]
directory = "${ca.url}"
trust_file = "${ca.trust}"
${bound ? `eab_key_id = "kid-1"\neab_key_file = "${join(dir, 'eab.key')}"` : ''}
`,
    );
    const data = join(dir, 'data');
    const extra = {
      MAINSTAY_CONFIG: config,
      MAINSTAY_EDGE__HTTP: `127.0.0.1:${http}`,
      MAINSTAY_EDGE__HTTPS: `127.0.0.1:${https}`,
    };
    const server = await startMainstay({ data, extra });
    undo(t, () => server.stop());
    const certs = async () => JSON.parse((await command(data, ['certs', '--json'], extra)).stdout);
    const standing = async (name) => (await certs()).find((one) => one.name === name);
    const until = async (name, wanted) => {
      for (;;) {
        const view = await standing(name);
        assert.ok(view.failures === 0 || wanted(view), view.error);
        if (wanted(view)) return view;
        await new Promise((next) => setTimeout(next, 50));
      }
    };
    const obtained = (view) => view.origin === 'authority';
    for (const name of ['example.org', 'console.example.org']) await until(name, obtained);
    const blocked = await until('blocked-domain.example', (view) => view.failures > 0);
    assert.match(blocked.error, /rejectedIdentifier/);
    assert.equal(blocked.origin, 'self-signed');

    const serial = await shown(https, 'example.org', ca.root);
    await shown(https, 'console.example.org', ca.root);
    await assert.rejects(shown(https, 'blocked-domain.example', ca.root));
    await server.kill();
    const again = await startMainstay({ data, extra });
    undo(t, () => again.stop());
    assert.equal(await shown(https, 'example.org', ca.root), serial);
    assert.equal((await standing('example.org')).failures, 0);

    await ca.stop();
    assert.match((await command(data, ['certs', 'renew', 'example.org'], extra)).stdout, /is being ordered/);
    const failed = await until('example.org', (view) => view.failures > 0 && !view.ordering);
    assert.equal(failed.origin, 'authority');
    assert.match(failed.error, /refused/i);
    assert.ok(failed.next_attempt_ms > failed.last_attempt_ms);
    assert.equal(await shown(https, 'example.org', ca.root), serial);
    assert.match((await command(data, ['certs'], extra)).stdout, /^example\.org +from an authority.*\n +1 failed, next /m);
  });
}

/** A running server that proves `*.example.org` as `provider` (TOML) says. Ports 80 and 443 are nobody's here. */
async function proving(t, dir, ca, provider) {
  const config = join(dir, 'mainstay.toml');
  writeFileSync(
    config,
    `[edge]
domain = "example.org"
[[edge.sites]]
hosts = ["*.example.org"]
upstream = "127.0.0.1:9"
[edge.acme]
agree_terms = true
challenges = []
[[edge.acme.authorities]]
directory = "${ca.url}"
trust_file = "${ca.trust}"
[[edge.acme.dns]]
domains = ["example.org"]
${provider}
`,
  );
  const data = join(dir, 'data');
  const https = await freePort();
  const extra = { MAINSTAY_CONFIG: config, MAINSTAY_EDGE__HTTP: '', MAINSTAY_EDGE__HTTPS: `127.0.0.1:${https}` };
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const run = (...words) => command(data, words, extra);
  const kill = () => server.kill();
  const standing = async (name) => JSON.parse((await run('certs', '--json')).stdout).find((one) => one.name === name);
  const until = async (name, wanted) => {
    for (;;) {
      const view = await standing(name);
      if (wanted(view)) return view;
      assert.equal(view.failures, 0, view.error);
      await new Promise((next) => setTimeout(next, 50));
    }
  };
  return { https, extra, run, kill, standing, until };
}

/** Both names have a certificate; the wildcard's is good for one label and shown for it. */
async function proven({ https, standing, until }, ca) {
  for (const name of ['*.example.org', 'example.org']) await until(name, (view) => view.origin === 'authority');
  assert.equal(await standing('console.example.org'), undefined);
  const wild = await shown(https, 'shop.example.org', ca.root);
  assert.equal(await shown(https, 'console.example.org', ca.root), wild);
  assert.notEqual(await shown(https, 'example.org', ca.root), wild);
  await assert.rejects(shown(https, 'a.b.example.org', ca.root));
}

/** Waits until `gone` says so: records are taken away after the order. */
async function until(gone) {
  while (!gone()) await new Promise((next) => setTimeout(next, 20));
}

const RECORD = '_acme-challenge.example.org';

for (const algorithm of ['hmac-sha256', 'hmac-sha512']) {
  test(`a wildcard is proven by updates that a name server checks (${algorithm})`, { skip }, async (t) => {
    const dir = folder(t);
    const key = { name: 'acme.example.org', algorithm, secret: Buffer.from('a key of both sides') };
    const dns = await nameServer(t, { zone: 'example.org', key });
    const ca = await authority(t, dir, { http: await freePort(), https: await freePort(), bound: false, resolver: dns.port });
    writeFileSync(join(dir, 'tsig.key'), Buffer.from('another key').toString('base64'));
    const server = await proving(
      t,
      dir,
      ca,
      `provider = "rfc2136"
server = "127.0.0.1:${dns.port}"
key_name = "acme.example.org."
key_algorithm = "${algorithm}"
key_file = "${join(dir, 'tsig.key')}"
nameservers = ["127.0.0.1:${dns.port}"]`,
    );
    const refused = await server.until('*.example.org', (view) => view.failures > 0);
    assert.match(refused.error, /refuses the key acme\.example\.org.*BADSIG/);
    assert.ok(dns.refused.length > 0);
    assert.equal(dns.texts.size, 0);

    writeFileSync(join(dir, 'tsig.key'), `${key.secret.toString('base64')}\n`);
    await server.run('reload');
    await server.until('example.org', (view) => view.failures > 0 && !view.ordering);
    for (const name of ['*.example.org', 'example.org']) await server.run('certs', 'renew', name);
    await proven({ ...server, until: (name, wanted) => patient(server, name, wanted) }, ca);
    await until(() => dns.texts.get(RECORD).size === 0);
  });
}

test('a record is written where its CNAME leads, and one left by a killed server goes with the next start', { skip }, async (t) => {
  const dir = folder(t);
  const key = { name: 'acme.auth.example', algorithm: 'hmac-sha256', secret: Buffer.from('a key of both sides') };
  const [delegated, seen] = ['shop.auth.example', { hidden: true }];
  const aliases = { [RECORD]: delegated };
  const dns = await nameServer(t, { zone: ['example.org', 'auth.example'], key, aliases, hides: () => seen.hidden });
  const ca = await authority(t, dir, { http: await freePort(), https: await freePort(), bound: false, resolver: dns.port });
  writeFileSync(join(dir, 'tsig.key'), `${key.secret.toString('base64')}\n`);
  const provider = `provider = "rfc2136"
server = "127.0.0.1:${dns.port}"
key_name = "acme.auth.example."
key_file = "${join(dir, 'tsig.key')}"
nameservers = ["127.0.0.1:${dns.port}"]`;
  // Waits for the record to be seen, which it is not.
  const first = await proving(t, dir, ca, provider);
  await until(() => dns.texts.get(delegated)?.size > 0);
  await first.kill();
  assert.ok(dns.texts.get(delegated).size > 0);

  // The next one orders nothing, and tidies up all the same.
  const config = join(dir, 'mainstay.toml');
  writeFileSync(config, readFileSync(config, 'utf8').replace('agree_terms = true', 'agree_terms = false'));
  const idle = await startMainstay({ data: join(dir, 'data'), extra: first.extra });
  undo(t, () => idle.stop());
  await until(() => dns.texts.get(delegated).size === 0);
  await idle.stop();

  seen.hidden = false;
  writeFileSync(config, readFileSync(config, 'utf8').replace('agree_terms = false', 'agree_terms = true'));
  const last = await startMainstay({ data: join(dir, 'data'), extra: first.extra });
  undo(t, () => last.stop());
  await proven({ ...first, until: (name, wanted) => patient(first, name, wanted) }, ca);
  await until(() => dns.texts.get(delegated).size === 0);
  assert.equal(dns.texts.get(RECORD), undefined);
});

/** As `until`, for a name that failed before. */
async function patient({ standing }, name, wanted) {
  for (;;) {
    const view = await standing(name);
    if (wanted(view)) return;
    assert.ok(view.failures <= 1, view.error);
    await new Promise((next) => setTimeout(next, 50));
  }
}

test('a wildcard is proven through acme-dns', { skip }, async (t) => {
  const dir = folder(t);
  const texts = [];
  const dns = await nameServer(t, { zone: 'example.org', elsewhere: (name) => (name === RECORD ? texts.slice(-2) : []) });
  const api = createServer((asked, answer) => {
    const chunks = [];
    asked.on('data', (chunk) => chunks.push(chunk));
    asked.on('end', () => {
      const { subdomain, txt } = JSON.parse(Buffer.concat(chunks));
      const known = asked.headers['x-api-user'] === 'user' && asked.headers['x-api-key'] === 'pass';
      if (asked.method !== 'POST' || asked.url !== '/update' || !known || subdomain !== 'sub') {
        answer.writeHead(401).end('{"error":"forbidden"}');
        return;
      }
      texts.push(txt);
      answer.end(JSON.stringify({ txt }));
    });
  });
  await new Promise((ready) => api.listen(0, '127.0.0.1', ready));
  undo(t, () => api.close());
  const ca = await authority(t, dir, { http: await freePort(), https: await freePort(), bound: false, resolver: dns.port });
  const account = { username: 'user', password: 'pass', fulldomain: 'sub.auth.example', subdomain: 'sub', allowfrom: [] };
  writeFileSync(join(dir, 'account.json'), JSON.stringify(account));
  const server = await proving(
    t,
    dir,
    ca,
    `provider = "acme-dns"
server = "http://127.0.0.1:${api.address().port}"
account_file = "${join(dir, 'account.json')}"
nameservers = ["127.0.0.1:${dns.port}"]`,
  );
  await proven(server, ca);
  assert.ok(texts.length >= 2);
});

test('a wildcard is proven by a program', { skip }, async (t) => {
  const dir = folder(t);
  const records = join(dir, 'records');
  mkdirSync(records);
  const elsewhere = (name) => (existsSync(join(records, name)) ? readdirSync(join(records, name)) : []);
  const dns = await nameServer(t, { zone: 'example.org', elsewhere });
  writeFileSync(
    join(dir, 'hook'),
    `#!/bin/sh
set -eu
cd "$1"
case "$2" in
present) mkdir -p "$3"; : > "$3/$4" ;;
cleanup) rm "$3/$4" ;;
esac
`,
    { mode: 0o700 },
  );
  const ca = await authority(t, dir, { http: await freePort(), https: await freePort(), bound: false, resolver: dns.port });
  const server = await proving(
    t,
    dir,
    ca,
    `provider = "exec"
command = ["${join(dir, 'hook')}", "${records}"]
nameservers = ["127.0.0.1:${dns.port}"]`,
  );
  await proven(server, ca);
  await until(() => readdirSync(join(records, RECORD)).length === 0);
});
