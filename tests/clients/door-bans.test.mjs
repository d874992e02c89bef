// The jail of failed log-ins: wrong credentials at each door count, whoever is caught is shut out of every listener that is
// not loopback's, and the list says where the last failure was.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { output } from './support/process.mjs';
import { undo } from './support/scope.mjs';
import { sign } from './support/sigv4.mjs';

const own = Object.values(networkInterfaces()).flat().find((one) => !one.internal && one.family === 'IPv4');
const skip = onPile && 'bans are Mainstay only';
const WAIT_MS = 20_000;

const bans = async (data) => JSON.parse((await command(data, ['bans', '--json'])).stdout);

/** What a listener says to `lines` until it has said `count` lines or closes: the text, and whether it closed. */
function said(host, port, lines, count = Infinity) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, host);
    const limit = setTimeout(() => socket.destroy(new Error('no answer')), WAIT_MS);
    let text = '';
    let end = false;
    const done = () => {
      clearTimeout(limit);
      socket.destroy();
      resolve({ text, closed: end });
    };
    socket.on('connect', () => socket.write(lines));
    socket.on('data', (chunk) => {
      text += chunk;
      if (text.split('\r\n').length > count) done();
    });
    socket.on('end', () => {
      end = true;
      done();
    });
    socket.on('error', (error) => {
      // A peer that is shut out may hear of it while it writes.
      if (!['ECONNRESET', 'EPIPE'].includes(error.code)) return reject(error);
      end = true;
      done();
    });
  });
}

test('who gives wrong credentials at a door too often is shut out of all of them', { skip: skip || (!own && 'this machine has no address but loopback') }, async (t) => {
  const [data, here] = [folder(t), folder(t)];
  const host = own.address;
  const file = join(here, 'mainstay.toml');
  const jail = '[[edge.bans.jails]]\nname = "logins"\nof = "logins"\nmax_retry = 3\n';
  writeFileSync(file, `[edge.bans]\non = ["logins"]\nignore = []\n${jail}`);
  const account = { MAINSTAY_ADMIN_EMAIL: 'ada@example.com', MAINSTAY_ADMIN_PASSWORD: 'correct horse battery staple' };
  const doors = Object.fromEntries(['CONSOLE', 'S3', 'REDIS'].map((door) => [`MAINSTAY_${door}__LISTEN`, `${host}:0`]));
  const server = await startMainstay({ data, extra: { ...doors, ...account }, flags: ['--config', file] });
  undo(t, () => server.stop());
  const { ports, env } = server;
  const console_ = `http://${host}:${ports.console}`;
  const stranger = { ...env, AWS_ACCESS_KEY_ID: 'AKIANOBODY', MINIO_ENDPOINT: host, MINIO_PORT: ports.s3 };
  const signed = () => {
    const { host: _host, ...headers } = sign(stranger, { method: 'GET', path: '/' });
    return headers;
  };
  // The connections of HTTP end, since they could be kept from one door to the next, and an old one is answered 403.
  const once = { connection: 'close' };
  const page = await fetch(`${console_}/login`, { headers: once });
  const cookie = page.headers.getSetCookie().map((line) => line.split(';')[0]).join('; ');
  const csrf = /name="csrf" value="([^"]+)"/.exec(await page.text())[1];
  const form = () => new URLSearchParams({ csrf, email: 'ada@example.com', password: 'wrong' });

  // Each gives wrong credentials once.
  const attempts = {
    redis: async () => assert.match((await said(host, ports.redis, 'AUTH wrong\r\n', 1)).text, /^-WRONGPASS/),
    s3: async () => assert.equal((await fetch(`http://${host}:${ports.s3}/`, { headers: { ...signed(), ...once } })).status, 403),
    console: async () => {
      const headers = { cookie, origin: console_, ...once };
      assert.equal((await fetch(`${console_}/login`, { method: 'POST', headers, body: form() })).status, 401);
    },
    api: async () => {
      const answer = await fetch(`${console_}/v1/status`, { headers: { authorization: 'Bearer wrong', ...once } });
      assert.equal(answer.status, 401);
    },
    'redis-http': async () => {
      const answer = await fetch(`${console_}/redis/ping`, { headers: { authorization: 'Bearer wrong', ...once } });
      assert.equal(answer.status, 401);
    },
  };
  for (const [door, attempt] of Object.entries(attempts)) {
    for (let failed = 0; failed < 3; failed += 1) {
      assert.deepEqual(await bans(data), [], `${door}: banned after ${failed}`);
      await attempt();
    }
    const [{ address, ban }] = await bans(data);
    assert.deepEqual([address, ban.origin, ban.reason], [host, { Jail: 'logins' }, `3 failed log-ins, the last at the door ${door}`]);
    assert.deepEqual(await said(host, ports.redis, 'PING\r\n'), { text: '', closed: true });
    // Loopback comes in.
    assert.match((await said('127.0.0.1', ports.smtp, 'QUIT\r\n', 2)).text, /^220 /);
    for (const port of [ports.s3, ports.console]) await assert.rejects(fetch(`http://${host}:${port}/`, { headers: once }));
    assert.equal((await command(data, ['bans', 'remove', host])).code, 0);
    assert.match((await said(host, ports.redis, 'PING\r\n', 1)).text, /^-NOAUTH/);
  }

  // Failures at different doors add up, and right credentials are no failure.
  await attempts.redis();
  await attempts.s3();
  const { text } = await said(host, ports.redis, `AUTH ${new URL(env.REDIS_URL).password}\r\n`, 1);
  assert.match(text, /^\+OK/);
  await attempts.api();
  assert.equal((await bans(data))[0].ban.reason, '3 failed log-ins, the last at the door api');
  assert.match((await command(data, ['bans'])).stdout, /^[0-9.]+ +logins +until .* the last at the door api\n$/);
});

test('behind a proxy that is believed it is its client who is banned, and loopback never is', { skip }, async (t) => {
  const [data, here] = [folder(t), folder(t)];
  const file = join(here, 'mainstay.toml');
  const jail = '[[edge.bans.jails]]\nname = "own"\nof = "logins"\ndoors = ["api", "redis"]\nmax_retry = 2\n';
  writeFileSync(file, `[edge]\ntrusted_proxies = ["127.0.0.1"]\n[edge.bans]\n${jail}`);
  const server = await startMainstay({ data, flags: ['--config', file] });
  undo(t, () => server.stop());
  const asks = async (client) => {
    const words = ['-sS', '-k', '-o', '/dev/null', '-w', '%{http_code}', '--max-time', '20', '-H', `X-Forwarded-For: ${client}`];
    const at = `console.localhost:${server.ports.https}`;
    const to = ['--resolve', `${at}:127.0.0.1`, '-H', 'Authorization: Bearer wrong', `https://${at}/v1/status`];
    return Number(await output('curl', [...words, ...to]));
  };
  for (const status of [401, 401, 403]) assert.equal(await asks('203.0.113.7'), status);
  assert.equal(await asks('203.0.113.8'), 401);
  for (let failed = 0; failed < 4; failed += 1) {
    assert.match((await said('127.0.0.1', server.ports.redis, 'AUTH wrong\r\n', 1)).text, /^-WRONGPASS/);
  }
  assert.match((await said('127.0.0.1', server.ports.redis, 'PING\r\n', 1)).text, /^-NOAUTH/);
  assert.match((await command(data, ['bans'])).stdout, /^203\.0\.113\.7 +own +until .*2 failed log-ins, the last at the door api\n$/);
});
