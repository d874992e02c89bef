// What no client should send: each door answers with its protocol's own error and goes on serving everybody else.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { Redis } from 'ioredis5';

import { onPile, startBackend } from './support/backend.mjs';
import { Http2 } from './support/browse.mjs';
import { folder } from './support/folder.mjs';
import { exchange, wholeAnswer } from './support/raw.mjs';
import { undo, wholeFile } from './support/scope.mjs';
import { send, sign } from './support/sigv4.mjs';

let backend;
let witness;
const file = wholeFile();
const ownAnswers = { skip: onPile && 'the answers of nginx and rclone differ' };

before(async () => {
  backend = await startBackend({ data: folder(file), app: '127.0.0.1:9' });
  undo(file, () => backend.stop());
  // Connected before the first bad byte; it must never notice.
  witness = new Redis(backend.env.REDIS_URL, { retryStrategy: null });
  witness.on('error', () => {});
  undo(file, () => witness.disconnect());
  await witness.set('witness', 'here');
  await send(backend.env, { method: 'PUT', path: '/bad-input' });
  await send(backend.env, { method: 'PUT', path: '/bad-input/there', body: 'there' });
});

/** Every door still does its work, for connections old and new. */
async function stillServing(t) {
  assert.equal(await witness.get('witness'), 'here');
  const { status, text } = await send(backend.env, { method: 'GET', path: '/bad-input/there' });
  assert.deepEqual([status, text], [200, 'there']);
  const client = await new Http2(backend).connect();
  undo(t, () => client.close());
  assert.equal((await client.request('GET', '/')).status, 502, 'the edge says that no app answers');
}

const bulk = (...words) => `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;

const RESP_CASES = {
  'a request that is no array of bulk strings': ['*1\r\n:1\r\n', /expected '\$', got ':'/],
  'a count that is no number': ['*x\r\n', /invalid multibulk length/],
  'a count beyond every limit': ['*1234567890123\r\n', /invalid multibulk length/],
  'a length that is no number': ['*1\r\n$x\r\n', /invalid bulk length/],
  'a negative length': ['*1\r\n$-1\r\n', /invalid bulk length/],
  'a length beyond every limit': ['*1\r\n$99999999999\r\n', /invalid bulk length/],
  'a line without end': ['x'.repeat(100_000), /too big inline request/],
  'a count without end': [`*${'1'.repeat(100_000)}`, /too big mbulk count string|invalid multibulk length/],
  'quotes that never close': ['SET "a b\r\n', /unbalanced quotes in request/],
};

for (const [name, [bytes, answer]] of Object.entries(RESP_CASES)) {
  test(`RESP: ${name}`, async (t) => {
    const { password } = new URL(backend.env.REDIS_URL);
    const { text, closed } = await exchange(backend.ports.redis, bulk('AUTH', password) + bytes);
    assert.match(text, /^\+OK\r\n-ERR Protocol error: /);
    assert.match(text, answer);
    assert.ok(closed, 'the connection ends after a protocol error');
    await stillServing(t);
  });
}

test('RESP: before AUTH nobody makes the server hold much', async (t) => {
  const { text } = await exchange(backend.ports.redis, '*1000\r\n');
  assert.match(text, /unauthenticated multibulk length/);
  const { text: second } = await exchange(backend.ports.redis, '*1\r\n$1000000\r\n');
  assert.match(second, /unauthenticated bulk length/);
  const { text: third } = await exchange(backend.ports.redis, bulk('GET', 'witness'), { enough: (text) => text.endsWith('\r\n') });
  assert.match(third, /^-NOAUTH /);
  await stillServing(t);
});

test('RESP: a request cut off in the middle leaves nothing', async (t) => {
  const { password } = new URL(backend.env.REDIS_URL);
  await exchange(backend.ports.redis, `${bulk('AUTH', password)}${bulk('SET', 'cut', 'off').slice(0, -3)}`, { end: true });
  assert.equal(await witness.exists('cut'), 0);
  await stillServing(t);
});

const DELETE = '<Delete><Object><Key>there</Key></Object></Delete>';
const code = ({ status, text }) => [status, /<Code>(\w+)<\/Code>/.exec(text)?.[1]];

const XML_CASES = {
  'not closed': '<Delete><Object>',
  'not XML': '{"Delete": []}',
  'another document': '<CreateBucketConfiguration/>',
  'a document type with entities': `<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>${DELETE.replace('there', '&b;')}`,
  'nested without end': '<Delete>'.repeat(5000),
  'not UTF-8': Buffer.from([0x3c, 0xff, 0xfe, 0x3e]),
};

for (const [name, body] of Object.entries(XML_CASES)) {
  test(`S3: XML that is ${name}`, ownAnswers, async (t) => {
    const answer = await send(backend.env, { method: 'POST', path: '/bad-input', query: { delete: '' }, body });
    assert.deepEqual(code(answer), [400, 'MalformedXML']);
    await stillServing(t);
  });
}

const GET = { method: 'GET', path: '/bad-input/there' };
const HOUR_MS = 3_600_000;
const SIGNATURE_CASES = {
  'is none': [GET, ({ authorization, ...rest }) => rest, [403, 'AccessDenied']],
  'is garbage': [GET, (headers) => ({ ...headers, authorization: 'AWS4-HMAC-SHA256 nonsense' }), [400, 'AuthorizationHeaderMalformed']],
  'is of another request': [GET, (headers) => ({ ...headers, authorization: headers.authorization.replace(/.$/, (c) => (c === '0' ? '1' : '0')) }), [403, 'SignatureDoesNotMatch']],
  'leaves an x-amz header out': [GET, (headers) => ({ ...headers, 'x-amz-acl': 'public-read' }), [403, 'AccessDenied']],
  'is of yesterday': [{ ...GET, date: new Date(Date.now() - 24 * HOUR_MS) }, undefined, [403, 'RequestTimeTooSkewed']],
  'covers another body': [{ method: 'PUT', path: '/bad-input/forged', body: 'a', payload: 'b'.repeat(64) }, undefined, [400, 'XAmzContentSHA256Mismatch']],
};

for (const [name, [request, change, expected]] of Object.entries(SIGNATURE_CASES)) {
  test(`S3: a signature that ${name}`, ownAnswers, async (t) => {
    assert.deepEqual(code(await send(backend.env, request, change)), expected);
    assert.equal((await send(backend.env, { method: 'GET', path: '/bad-input/forged' })).status, 404);
    await stillServing(t);
  });
}

const CHUNK_CASES = {
  'a size that is no number': 'zz\r\nhello\r\n0\r\n\r\n',
  'a size beyond the body': 'ff\r\nhello\r\n0\r\n\r\n',
  'no end': '5\r\nhello\r\n',
  'more than was announced': '6\r\nhello!\r\n0\r\n\r\n',
  'a trailer that is not true': '5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n',
  'no line between size and data': `5${'5'.repeat(100_000)}`,
};

for (const [name, body] of Object.entries(CHUNK_CASES)) {
  test(`S3: signed-trailer chunks with ${name}`, ownAnswers, async (t) => {
    const request = {
      method: 'PUT',
      path: '/bad-input/chunked',
      headers: { 'content-encoding': 'aws-chunked', 'x-amz-decoded-content-length': '5', 'x-amz-trailer': 'x-amz-checksum-crc32' },
      payload: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
      body,
    };
    const { status, text } = await send(backend.env, request);
    assert.equal(status, 400, text);
    assert.match(text, /<Code>(InvalidRequest|IncompleteBody|BadDigest|InvalidChunkSizeError|MalformedTrailerError|XAmzContentChecksumMismatch)<\/Code>/);
    assert.equal((await send(backend.env, { method: 'GET', path: '/bad-input/chunked' })).status, 404);
    await stillServing(t);
  });
}

test('S3: a body cut off in the middle leaves nothing', async (t) => {
  const headers = sign(backend.env, { method: 'PUT', path: '/bad-input/cut', body: 'x'.repeat(1000) });
  const lines = Object.entries({ ...headers, 'content-length': 1000 }).map(([name, value]) => `${name}: ${value}\r\n`);
  await exchange(backend.ports.s3, `PUT /bad-input/cut HTTP/1.1\r\n${lines.join('')}\r\n${'x'.repeat(500)}`, { end: true });
  assert.equal((await send(backend.env, { method: 'GET', path: '/bad-input/cut' })).status, 404);
  await stillServing(t);
});

const HEAD_CASES = {
  'no HTTP': 'hello\r\n\r\n',
  'no host': 'GET / HTTP/1.1\r\n\r\n',
  'two hosts': 'GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n',
  'a host that is none': 'GET / HTTP/1.1\r\nHost: local host\r\n\r\n',
  'two lengths': 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx',
  'a length that is no number': 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n',
  'an unknown transfer coding': 'POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
  'a space before the colon': 'GET / HTTP/1.1\r\nHost: localhost\r\nName : x\r\n\r\n',
  'a control byte in a value': 'GET / HTTP/1.1\r\nHost: localhost\r\nName: a\0b\r\n\r\n',
  'a version to come': 'GET / HTTP/9.9\r\nHost: localhost\r\n\r\n',
  'a head without end': `GET / HTTP/1.1\r\nHost: localhost\r\nName: ${'x'.repeat(2_000_000)}`,
  'thousands of headers': `GET / HTTP/1.1\r\nHost: localhost\r\n${'a: b\r\n'.repeat(5000)}\r\n`,
};
const DOORS = ['edge', 's3', 'console'];

for (const [name, bytes] of Object.entries(HEAD_CASES)) {
  test(`HTTP: ${name} is refused on every door`, ownAnswers, async (t) => {
    for (const door of DOORS) {
      const tls = door === 'edge' ? { ca: backend.certificate, servername: 'localhost' } : undefined;
      const port = door === 'edge' ? backend.ports.https : backend.ports[door];
      const { text, closed } = await exchange(port, bytes, { tls, enough: wholeAnswer });
      assert.ok(closed || wholeAnswer(text), door);
      if (text) assert.match(text, /^HTTP\/1\.[01] (4\d\d|50[15]) /, door);
    }
    await stillServing(t);
  });
}

const TLS_CASES = {
  'plain HTTP': 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'noise': Buffer.from(Array.from({ length: 600 }, (_, at) => (at * 167 + 13) % 256)),
  'a record of a hello that lies about its length': Buffer.from('16030100ff01000000', 'hex'),
  'an alert first': Buffer.from('15030300020228', 'hex'),
};

for (const [name, bytes] of Object.entries(TLS_CASES)) {
  test(`TLS: ${name} ends the connection`, async (t) => {
    const { closed } = await exchange(backend.ports.https, bytes, { end: true });
    assert.ok(closed);
    await stillServing(t);
  });
}

test('TLS: versions before 1.2 are refused', async (t) => {
  const old = { ca: backend.certificate, servername: 'localhost', minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' };
  const { text, closed } = await exchange(backend.ports.https, 'GET / HTTP/1.1\r\n\r\n', { tls: old });
  assert.deepEqual([text, closed], ['', true]);
  await stillServing(t);
});

test('hundreds of connections that say nothing do not keep others out', async (t) => {
  const { connect } = await import('node:net');
  const sockets = [];
  undo(t, () => sockets.forEach((socket) => socket.destroy()));
  for (const port of [backend.ports.redis, backend.ports.s3, backend.ports.https]) {
    for (let at = 0; at < 300; at += 1) {
      const socket = connect(port, '127.0.0.1').on('error', () => {});
      sockets.push(socket);
      await new Promise((resolve) => socket.once('connect', resolve));
    }
  }
  await stillServing(t);
});
