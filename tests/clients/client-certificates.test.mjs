// Sites that ask clients for a certificate, asked with curl and openssl's certificates: who gets in, what the app is told,
// and that no other name in the handshake is a way around.

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { freePort, output } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const skip = onPile && 'Mainstay alone is set up to ask for certificates';
const file = wholeFile();
let dir;
let https;
let http;
let reload;
let settings;
let requests = 0;

/** What curl is answered at `url`, whose host is here, with the certificate `who` and further words. */
async function asked(url, who, ...words) {
  const { hostname, port } = new URL(url);
  const shown = who ? ['--cert', join(dir, `${who}.pem`), '--key', join(dir, `${who}.key`)] : [];
  const line = ['--silent', '--show-error', '--insecure', '--resolve', `${hostname}:${port}:127.0.0.1`, ...shown];
  const text = await output('curl', [...line, '--write-out', '\n%{http_code}', ...words, url]);
  const cut = text.lastIndexOf('\n');
  const body = text.slice(0, cut);
  return { status: Number(text.slice(cut + 1)), body, headers: body.startsWith('{"seen"') ? JSON.parse(body).seen : {} };
}

const ca = (name) => join(dir, `${name}.pem`);

before(async () => {
  if (skip) return;
  dir = folder(file);
  const openssl = (line) => output('openssl', line.split(' '), { cwd: dir });
  const key = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';
  writeFileSync(join(dir, 'client.ext'), 'extendedKeyUsage=clientAuth\n');
  for (const name of ['people', 'others']) await openssl(`req -x509 ${key} -keyout ${name}.key -out ${name}.pem -subj /CN=${name} -days 2`);
  for (const [name, by] of [['ada', 'people'], ['mallory', 'others'], ['late', 'people']]) {
    await openssl(`req ${key} -keyout ${name}.key -out ${name}.csr -subj /O=Works/CN=${name}`);
    if (name !== 'late') await openssl(`x509 -req -in ${name}.csr -CA ${by}.pem -CAkey ${by}.key -CAcreateserial -out ${name}.pem -days 2 -extfile client.ext`);
  }
  // `x509` gives out nothing that is over already.
  const lines = ['[ca]', 'default_ca=d', '[d]', `new_certs_dir=${dir}`, `database=${dir}/index`, `serial=${dir}/serial`];
  lines.push('default_md=sha256', 'policy=p', '[p]', 'organizationName=optional', 'commonName=supplied', '');
  writeFileSync(join(dir, 'ca.cnf'), lines.join('\n'));
  writeFileSync(join(dir, 'index'), '');
  writeFileSync(join(dir, 'serial'), '01\n');
  const dates = '-startdate 20200101000000Z -enddate 20200102000000Z -extfile client.ext';
  await openssl(`ca -batch -notext -config ca.cnf -cert people.pem -keyfile people.key -in late.csr -out late.pem ${dates}`);
  const app = createServer((asked, answer) => {
    requests += 1;
    answer.end(JSON.stringify({ seen: asked.headers }));
  });
  await new Promise((ready) => app.listen(0, '127.0.0.1', ready));
  undo(file, () => app.close());
  const upstream = `127.0.0.1:${app.address().port}`;
  const site = (host, more) => `[[edge.sites]]\nhosts = ["${host}"]\nupstream = "${upstream}"\n${more}\n`;
  const config = join(dir, 'mainstay.toml');
  settings = (of, crl) =>
    writeFileSync(
      config,
      `[edge]\ndomain = "example.org"\nredirect_https = false\n${site('open.example.org', '')}` +
        site('secret.example.org', of ? `client_ca_file = "${ca(of)}"\n${crl ? `client_crl_file = "${crl}"` : ''}` : '') +
        site('asks.example.org', `client_ca_file = "${ca('people')}"\nclient_cert = "request"`),
    );
  settings('people');
  [http, https] = [await freePort(), await freePort()];
  const data = join(dir, 'data');
  const extra = { MAINSTAY_CONFIG: config, MAINSTAY_EDGE__HTTP: `127.0.0.1:${http}`, MAINSTAY_EDGE__HTTPS: `127.0.0.1:${https}` };
  const server = await startMainstay({ data, extra });
  undo(file, () => server.stop());
  reload = () => command(data, ['reload'], extra);
});

test('who shows a certificate of the authority gets in, and the app is told whose it is', { skip }, async () => {
  const url = `https://secret.example.org:${https}/`;
  for (const words of [['--tlsv1.3'], ['--tls-max', '1.2']]) {
    const { status, headers } = await asked(url, 'ada', ...words);
    assert.equal(status, 200);
    const ada = new X509Certificate(readFileSync(ca('ada')));
    assert.equal(headers['x-client-cert-verified'], 'success');
    assert.equal(headers['x-client-cert-subject'], 'O=Works, CN=ada');
    assert.equal(headers['x-client-cert-sha256'], ada.fingerprint256.replaceAll(':', '').toLowerCase());
    assert.equal(headers['client-cert'], `:${ada.raw.toString('base64')}:`);
  }
});

test('without one, or with one of somebody else or of yesterday, nobody reaches the app', { skip }, async () => {
  const url = `https://secret.example.org:${https}/`;
  const before = requests;
  for (const [who, text] of [[undefined, /none was sent/], ['mallory', /not one that this site takes/], ['late', /not one that this site takes/]]) {
    const { status, body } = await asked(url, who);
    assert.equal(status, 400, `${who}: ${body}`);
    assert.match(body, text);
  }
  const plain = await asked(`http://secret.example.org:${http}/`);
  assert.equal(plain.status, 400);
  assert.equal(requests, before);
});

test('where it is only asked for, the app is told how it is', { skip }, async () => {
  const url = `https://asks.example.org:${https}/`;
  for (const [who, how] of [[undefined, 'none'], ['mallory', 'failed'], ['ada', 'success']]) {
    const { status, headers } = await asked(url, who, '--header', 'X-Client-Cert-Subject: CN=root', '--header', 'Client-Cert: :AAAA:');
    assert.equal(status, 200);
    assert.equal(headers['x-client-cert-verified'], how);
    assert.equal(headers['x-client-cert-subject'], how === 'success' ? 'O=Works, CN=ada' : undefined);
    assert.notEqual(headers['client-cert'], ':AAAA:');
  }
  assert.equal((await asked(`http://asks.example.org:${http}/`)).headers['x-client-cert-verified'], 'none');
});

test('what a client writes itself reaches no app, also of a site that asks for nothing', { skip }, async () => {
  const words = ['Client-Cert: :AAAA:', 'X-Client-Cert-Verified: success', 'X-Client-Cert-Subject: CN=root', 'X_Client_Cert_Subject: CN=root'];
  const { headers } = await asked(`https://open.example.org:${https}/`, undefined, ...words.flatMap((word) => ['--header', word]));
  assert.deepEqual(Object.keys(headers).filter((name) => name.includes('client')), []);
});

test('another name in the handshake is no way around', { skip }, async () => {
  const before = requests;
  for (const [named, host, who] of [
    ['open', 'secret', undefined],
    ['open', 'secret', 'ada'],
    ['secret', 'open', 'ada'],
    ['asks', 'secret', 'ada'],
    ['asks', 'console', undefined],
  ]) {
    for (const version of ['--http1.1', '--http2']) {
      const words = [version, '--header', `Host: ${host}.example.org:${https}`];
      const { status } = await asked(`https://${named}.example.org:${https}/`, who, ...words);
      assert.equal(status, 421, `${named} for ${host}`);
    }
  }
  assert.equal(requests, before);
  // Two sites that ask for nothing share a connection as ever.
  const words = ['--header', `Host: open.example.org:${https}`];
  assert.equal((await asked(`https://elsewhere.example.org:${https}/`, undefined, ...words)).status, 200);
});

test('a reload is in force for the next request', { skip }, async () => {
  const url = `https://secret.example.org:${https}/`;
  settings('others');
  await reload();
  assert.equal((await asked(url, 'ada')).status, 400);
  assert.equal((await asked(url, 'mallory')).status, 200);
  settings(undefined);
  await reload();
  assert.equal((await asked(url)).status, 200);
  settings('people');
  await reload();
  assert.equal((await asked(url, 'ada')).status, 200);
});

test('who is on a revocation list gets in no more, and a list past its time lets nobody in', { skip }, async () => {
  const url = `https://secret.example.org:${https}/`;
  const openssl = (line) => output('openssl', line.split(' '), { cwd: dir });
  writeFileSync(join(dir, 'ca.cnf'), readFileSync(join(dir, 'ca.cnf'), 'utf8').replace('[p]', `crlnumber=${dir}/crlnumber\n[p]`));
  writeFileSync(join(dir, 'crlnumber'), '01\n');
  const list = (name, days) =>
    openssl(`ca -batch -config ca.cnf -cert people.pem -keyfile people.key -gencrl -out ${name} ${days}`);
  await openssl('req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout eve.key -out eve.csr -subj /CN=eve');
  await openssl('ca -batch -notext -config ca.cnf -cert people.pem -keyfile people.key -in eve.csr -out eve.pem -days 2 -extfile client.ext');
  await list('before.crl', '-crldays 2');
  await openssl('ca -batch -config ca.cnf -cert people.pem -keyfile people.key -revoke eve.pem');
  await list('after.crl', '-crldays 2');
  await list('old.crl', '-crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z');
  for (const [crl, ada, eve] of [['before.crl', 200, 200], ['after.crl', 200, 400], ['old.crl', 400, 400]]) {
    settings('people', join(dir, crl));
    const { code, stderr } = await reload();
    assert.equal(code, 0, stderr);
    assert.equal((await asked(url, 'ada')).status, ada, `ada, ${crl}`);
    assert.equal((await asked(url, 'eve')).status, eve, `eve, ${crl}`);
  }
  settings('people', join(dir, 'nowhere.crl'));
  const refused = await reload();
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /client_crl_file.*there is no such file/);
  settings('people');
  await reload();
  assert.equal((await asked(url, 'eve')).status, 200);
});
