// The Redis door over TLS: stock clients with `rediss://`, certificates by name, what is no handshake, the cap on clients.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect as plain } from 'node:net';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { connect } from 'node:tls';

import { Redis as Redis6 } from 'ioredis';
import { Redis as Redis5 } from 'ioredis5';
import { createClient } from 'redis';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { mainstay, python } from './support/paths.mjs';
import { freePort, output, run, start } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const skip = onPile && 'the TLS door is Mainstay’s own';
const TLS = { MAINSTAY_REDIS__TLS_LISTEN: '127.0.0.1:0' };
const OFF = { MAINSTAY_EDGE__HTTP: '', MAINSTAY_EDGE__HTTPS: '' };

let server;
const file = wholeFile();
/** Of a server: the TLS door's address and port, the password, and what to trust. */
function door({ env, data }) {
  const url = new URL(env.REDIS_TLS_URL);
  const trusted = join(data, 'edge/self-signed.pem');
  return { url: url.href, port: Number(url.port), password: url.password, trusted, ca: readFileSync(trusted, 'utf8') };
}

before(async () => {
  if (skip) return;
  server = await startMainstay({ data: folder(file), extra: TLS });
  undo(file, () => server.stop());
});

for (const [name, Redis] of Object.entries({ 'ioredis 5': Redis5, 'ioredis 6': Redis6 })) {
  test(`${name} does over TLS what it does without`, { skip }, async (t) => {
    const { url, ca } = door(server);
    const redis = new Redis(url, { tls: { ca }, retryStrategy: null });
    const listener = redis.duplicate();
    undo(t, () => [redis, listener].forEach((client) => client.disconnect()));
    await once(redis, 'ready');
    await redis.flushall();

    const large = Buffer.alloc(5 << 20, 'abcdefg');
    assert.equal(await redis.set('large', large), 'OK');
    assert.ok((await redis.getBuffer('large')).equals(large));
    const counted = await Promise.all(Array.from({ length: 5000 }, () => redis.incr('n')));
    assert.deepEqual(counted, Array.from({ length: 5000 }, (_, at) => at + 1));
    assert.deepEqual(await redis.multi().incr('n').get('n').exec(), [[null, 5001], [null, '5001']]);
    const all = await Promise.all(Array.from({ length: 20 }, () => redis.getBuffer('large')));
    assert.ok(all.every((bytes) => bytes.equals(large)), 'replies that wait for room in the socket');

    await listener.subscribe('news');
    const message = once(listener, 'message');
    assert.equal(await redis.publish('news', 'hello'), 1);
    assert.deepEqual(await message, ['news', 'hello']);
    await listener.unsubscribe('news');
    const popped = listener.blpop('queue', 10);
    await redis.rpush('queue', 'job');
    assert.deepEqual(await popped, ['queue', 'job']);
  });
}

test('node-redis, redis-py and redis-cli come in, and none without the password or the trust', { skip }, async (t) => {
  const { url, ca, port, password, trusted } = door(server);
  const client = createClient({ url, socket: { ca, reconnectStrategy: false } });
  client.on('error', () => {});
  undo(t, () => client.destroy());
  await client.connect();
  assert.equal(await client.set('node', 'redis'), 'OK');

  const script = `
import redis, sys
url, trusted = sys.argv[1:]
for protocol in (2, 3):
    client = redis.Redis.from_url(url, ssl_ca_certs=trusted, protocol=protocol, decode_responses=True)
    assert client.get("node") == "redis"
    pipe = client.pipeline()
    for n in range(3000):
        pipe.rpush("list", "x" * n)
    pipe.execute()
    assert [len(part) for part in client.lrange("list", 0, -1)] == list(range(3000))
    client.delete("list")
try:
    redis.Redis.from_url(url).ping()
    sys.exit("a certificate nobody vouches for was taken")
except redis.ConnectionError as error:
    assert "certificate verify failed" in str(error), error
`;
  await output(python, ['-c', script, url, trusted]);

  const cli = (words, extra = {}) =>
    run('redis-cli', ['--tls', '--cacert', trusted, '-p', String(port), ...words], { env: { ...process.env, REDISCLI_AUTH: password, ...extra } });
  assert.equal((await cli(['GET', 'node'])).stdout, 'redis\n');
  assert.match((await cli(['CONFIG', 'GET', 'tls-port'])).stdout, /^tls-port\n\d+\n$/);
  assert.match((await cli(['GET', 'node'], { REDISCLI_AUTH: '' })).stdout, /NOAUTH/);
  assert.ok(server.status.doors.some((door) => door.setting === 'redis.tls_listen' && door.address.endsWith(`:${port}`)));
});

/** Ends when `socket` is closed by the other side. */
async function closed(socket) {
  socket.resume();
  socket.on('error', () => {});
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

test('what is no handshake is let go, and places are shared with the other listeners', { skip }, async (t) => {
  const extra = { ...TLS, MAINSTAY_REDIS__TLS_HANDSHAKE: '300ms', MAINSTAY_REDIS__MAX_CLIENTS: '3' };
  const small = await startMainstay({ data: folder(t), extra });
  undo(t, () => small.stop());
  const { url, ca, port } = door(small);
  const silent = plain(port, '127.0.0.1');
  const spoken = plain(port, '127.0.0.1');
  spoken.write('PING\r\n');
  const half = plain(port, '127.0.0.1');
  half.write(Buffer.from('16030100', 'hex'));
  await Promise.all([silent, spoken, half].map(closed));

  const first = new Redis6(small.env.REDIS_URL, { retryStrategy: null });
  const rest = Array.from({ length: 2 }, () => new Redis6(url, { tls: { ca }, retryStrategy: null }));
  undo(t, () => [first, ...rest].forEach((client) => client.disconnect()));
  for (const client of [first, ...rest]) assert.equal(await client.ping(), 'PONG');
  const more = connect({ port, host: '127.0.0.1', ca });
  await closed(more);
  const fourth = plain(small.ports.redis, '127.0.0.1');
  assert.match(String((await once(fourth, 'data'))[0]), /^-ERR max number of clients reached/);
  rest[0].disconnect();
  let again;
  do {
    again = new Redis6(url, { tls: { ca }, retryStrategy: null, lazyConnect: true });
    again.on('error', () => {});
    undo(t, () => again.disconnect());
  } while ((await again.connect().then(() => again.ping(), () => null)) !== 'PONG');
});

test('a client that leaves in the middle, or goes on without end, takes nobody with it', { skip }, async (t) => {
  const { url, ca, port, password } = door(server);
  const redis = new Redis6(url, { tls: { ca }, retryStrategy: null });
  undo(t, () => redis.disconnect());
  await redis.set('big', Buffer.alloc(1 << 20, 'x'));
  for (let at = 0; at < 20; at += 1) {
    const leaving = connect({ port, host: '127.0.0.1', ca });
    await once(leaving, 'secureConnect');
    leaving.write(`AUTH ${password}\r\n${'GET big\r\n'.repeat(20)}`);
    await once(leaving, 'data');
    leaving.destroy();
  }
  // The end of the connection without the end of the session, as killed programs leave it.
  const cut = connect({ port, host: '127.0.0.1', ca });
  await once(cut, 'secureConnect');
  cut._handle.close();
  let left;
  do left = (await redis.client('LIST')).trim().split('\n').length;
  while (left > 1);
  assert.equal(await redis.strlen('big'), 1 << 20);
});

test('certificates in files are shown by name, also while the edge is off', { skip }, async (t) => {
  const dir = folder(t);
  const openssl = (line) => output('openssl', line.split(' '), { cwd: dir });
  await openssl('req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=test -days 2');
  await openssl('req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -out own.csr -subj /CN=redis.example');
  writeFileSync(join(dir, 'own.ext'), 'subjectAltName=DNS:redis.example,DNS:main.example');
  await openssl('x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out own.pem -days 2 -extfile own.ext');
  const config = join(dir, 'mainstay.toml');
  writeFileSync(
    config,
    `[edge]\ndomain = "main.example"\n[[edge.certificates]]\ncertificate = "${join(dir, 'own.pem')}"\nkey = "${join(dir, 'own.key')}"\n`,
  );
  const off = await startMainstay({ data: folder(t), extra: { ...TLS, ...OFF }, flags: ['--config', config] });
  undo(t, () => off.stop());
  const { port, password, ca: own } = door(off);
  const ca = readFileSync(join(dir, 'ca.pem'), 'utf8');
  const named = new Redis6({ host: '127.0.0.1', port, password, tls: { ca, servername: 'redis.example' }, retryStrategy: null });
  undo(t, () => named.disconnect());
  assert.equal(await named.ping(), 'PONG');
  const shown = (servername) =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, servername, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().subject.CN);
        socket.destroy();
      });
      socket.on('error', reject);
    });
  assert.equal(await shown('redis.example'), 'redis.example');
  assert.equal(await shown(''), 'redis.example', 'who names no server gets the certificate of edge.domain');
  assert.equal(await shown('elsewhere.example'), 'main.example');
  assert.ok(own.includes('BEGIN CERTIFICATE'));
  // redis-cli names no server by itself; the authority it trusts has signed what it is shown.
  const cli = ['--tls', '--cacert', join(dir, 'ca.pem'), '-p', String(port), 'PING'];
  assert.equal(await output('redis-cli', cli, { env: { ...process.env, REDISCLI_AUTH: password } }), 'PONG\n');
});

test('a stop says goodbye, and a start with the same folder takes everybody back', { skip }, async (t) => {
  const data = folder(t);
  const one = await startMainstay({ data, extra: TLS });
  const { url, ca } = door(one);
  const redis = new Redis6(url, { tls: { ca }, retryStrategy: null });
  undo(t, () => redis.disconnect());
  await redis.set('kept', 'yes');
  const ended = once(redis, 'close');
  await one.stop();
  await ended;
  const two = await startMainstay({ data, extra: TLS });
  undo(t, () => two.stop());
  const again = new Redis6(door(two).url, { tls: { ca }, retryStrategy: null });
  undo(t, () => again.disconnect());
  assert.equal(await again.get('kept'), 'yes');
});

test('an import reads a Redis over TLS, and trusts only whom it is told to', { skip }, async (t) => {
  const dir = folder(t);
  const openssl = (line) => output('openssl', line.split(' '), { cwd: dir });
  await openssl(
    'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout redis.key -out redis.pem -subj /CN=localhost -days 2 -addext subjectAltName=IP:127.0.0.1,DNS:localhost -addext basicConstraints=critical,CA:FALSE',
  );
  const port = String(await freePort());
  const words = ['--port', '0', '--tls-port', port, '--bind', '127.0.0.1', '--save', '', '--dir', dir, '--requirepass', 'pw'];
  const tls = ['--tls-cert-file', 'redis.pem', '--tls-key-file', 'redis.key', '--tls-auth-clients', 'no', '--tls-ca-cert-file', 'redis.pem'];
  const ready = (line) => line.includes('Ready to accept connections');
  const source = await start('redis-server', [...words, ...tls], { cwd: dir, ready });
  undo(t, () => source.stop());
  const ca = readFileSync(join(dir, 'redis.pem'), 'utf8');
  const from = new Redis6({ host: '127.0.0.1', port: Number(port), password: 'pw', tls: { ca }, retryStrategy: null });
  undo(t, () => from.disconnect());
  await from.mset({ a: '1', b: 'two' });
  await from.rpush('list', 'x'.repeat(100_000), 'y');

  const data = folder(t);
  const target = await startMainstay({ data });
  undo(t, () => target.stop());
  const env = { ...process.env, REDISCLI_AUTH: 'pw' };
  const imported = (...flags) => run(mainstay, ['--data', data, 'import', 'redis', `rediss://127.0.0.1:${port}`, ...flags], { env });
  const refused = await imported();
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /certificate/i);
  const done = await imported('--cacert', join(dir, 'redis.pem'), '--json');
  assert.equal(done.code, 0, done.stderr);
  const to = new Redis6(target.env.REDIS_URL, { retryStrategy: null });
  undo(t, () => to.disconnect());
  assert.deepEqual(await to.mget('a', 'b'), ['1', 'two']);
  assert.deepEqual(await to.lrange('list', 0, -1), ['x'.repeat(100_000), 'y']);
});
