// The internal authority: names at home get certificates that clients take once they trust its root, which stays the same
// over kill -9 and is good for no other name.

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { freePort, output } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'Mainstay alone has an internal authority';

/** The certificate shown for `servername`, verified against `ca`. */
function shown(port, servername, ca) {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, servername, ca }, () => {
      resolve(new X509Certificate(socket.getPeerCertificate().raw));
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

/** What plain HTTP answers to `path` for `host`. */
function plain(port, host, path) {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, headers: { host } }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('end', () => resolve({ status: answer.statusCode, type: answer.headers['content-type'], text: Buffer.concat(chunks).toString() }));
    }).on('error', reject);
  });
}

test('names at home are trusted through one root, which outlives kill -9', { skip }, async (t) => {
  const dir = folder(t);
  const data = join(dir, 'data');
  const [http, https] = [await freePort(), await freePort()];
  const config = join(dir, 'mainstay.toml');
  const settings = (names) => writeFileSync(config, `[edge]\ndomain = "home.arpa"\n[edge.internal_ca]\nnames = ${JSON.stringify(names)}\n`);
  settings([]);
  const extra = {
    MAINSTAY_CONFIG: config,
    MAINSTAY_EDGE__HTTP: `127.0.0.1:${http}`,
    MAINSTAY_EDGE__HTTPS: `127.0.0.1:${https}`,
  };
  const server = await startMainstay({ data, extra });
  undo(t, () => server.stop());
  const path = '/.well-known/mainstay/ca.crt';
  assert.equal((await plain(http, 'home.arpa', path)).status, 301);

  settings(['*.home.arpa', 'box.internal']);
  await command(data, ['reload'], extra);
  const given = await plain(http, 'nas.home.arpa', path);
  assert.deepEqual([given.status, given.type], [200, 'application/x-x509-ca-cert']);
  const root = new X509Certificate(given.text);
  const years = (new Date(root.validTo) - new Date(root.validFrom)) / (365.25 * 86_400_000);
  assert.ok(root.ca && years > 9.9 && years < 10.1, `${years}`);
  assert.equal((await command(data, ['ca', 'export'], extra)).stdout, given.text);
  assert.ok((await command(data, ['ca', 'show'], extra)).stdout.includes(root.fingerprint256));
  const file = join(dir, 'root.crt');
  await command(data, ['ca', 'export', '--out', file], extra);
  assert.equal(readFileSync(file, 'utf8'), given.text);

  const leaf = await shown(https, 'nas.home.arpa', given.text);
  assert.ok(new Date(leaf.validTo) - Date.now() < 9 * 86_400_000);
  await shown(https, 'box.internal', given.text);
  for (const other of ['home.arpa', 'a.box.internal', 'example.org']) await assert.rejects(shown(https, other, given.text));
  const curl = ['--silent', '--show-error', '--cacert', file, '--resolve', `console.home.arpa:${https}:127.0.0.1`, '--output', '/dev/null'];
  await output('curl', [...curl, '--write-out', '%{ssl_verify_result}', `https://console.home.arpa:${https}/`]);
  writeFileSync(join(dir, 'leaf.pem'), leaf.toString());
  await output('openssl', ['verify', '-x509_strict', '-CAfile', file, join(dir, 'leaf.pem')]);
  const listed = JSON.parse((await command(data, ['certs', '--json'], extra)).stdout);
  assert.deepEqual(listed.map((one) => [one.name, one.origin]), [['*.home.arpa', 'internal'], ['box.internal', 'internal']]);

  await server.kill();
  const again = await startMainstay({ data, extra });
  undo(t, () => again.stop());
  await shown(https, 'nas.home.arpa', given.text);
});
