// WebSockets through the edge and directly, frame by frame: whatever a client sends, good or bad, it gets the same bytes and
// the same end from the echo servers of `ws` (Node) and `websockets` (Python). The cases follow Autobahn's, by number.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { deflateRawSync } from 'node:zlib';

import { WebSocketServer } from 'ws';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { clients, python } from './support/paths.mjs';
import { start } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';
import { BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, converse, wsClose, wsFrame } from './support/websocket.mjs';

const skip = onPile && 'proves Mainstay, not nginx';
const file = wholeFile();
const MIB = 1 << 20;
const AT_ONCE = 8;
const LARGEST = 64 * MIB;
let server;
const ports = {};

/** An echo of Node on a free port. */
async function node(perMessageDeflate) {
  const echo = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate, maxPayload: LARGEST });
  echo.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('message', (message, binary) => socket.send(message, { binary }));
  });
  await once(echo, 'listening');
  undo(file, () => {
    echo.clients.forEach((socket) => socket.terminate());
    echo.close();
  });
  return echo.address().port;
}

/** An echo of Python. */
async function other(...words) {
  const port = (line) => /^listening on (\d+)/.exec(line)?.[1];
  const echo = await start(python, [join(clients, 'python/websocket_echo.py'), ...words], { ready: port });
  undo(file, () => echo.stop('SIGKILL'));
  return Number(echo.value);
}

before(async () => {
  if (skip) return;
  ports.ws = await node(false);
  ports['ws-deflate'] = await node({ threshold: 0 });
  ports.websockets = await other();
  ports['websockets-deflate'] = await other('deflate');
  const here = folder(file);
  const config = join(here, 'mainstay.toml');
  const sites = Object.entries(ports).map(([name, port]) => `[[edge.sites]]\nhosts = ["${name}.localhost"]\nupstream = "127.0.0.1:${port}"\n`);
  writeFileSync(config, `[edge]\nredirect_https = false\n${sites.join('')}`);
  server = await startMainstay({ data: join(here, 'data'), flags: ['--config', config] });
  undo(file, () => server.stop());
});

const bye = wsClose(1000);
const text = (payload, more) => wsFrame(TEXT, payload, more);
const binary = (payload, more) => wsFrame(BINARY, payload, more);
const part = { fin: false };
const next = (payload, more) => wsFrame(CONTINUATION, payload, more);
/** Bytes one by one, as so many writes. */
const drops = (bytes) => Array.from(bytes, (byte) => Buffer.from([byte]));
/** `bytes` in pieces of `size`. */
const pieces = (bytes, size) => Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) => bytes.subarray(at * size, (at + 1) * size));
/** A message of `size` bytes in fragments of `each`. */
function fragments(opcode, size, each) {
  const count = Math.ceil(size / each);
  const body = (at) => Buffer.alloc(Math.min(each, size - at * each), '*');
  return Array.from({ length: count }, (_, at) => wsFrame(at === 0 ? opcode : CONTINUATION, body(at), { fin: at === count - 1 }));
}

const CASES = {};

for (const size of [0, 125, 126, 127, 128, 65_535, 65_536]) {
  CASES[`1.1 text of ${size} bytes`] = [text('*'.repeat(size)), 1, bye];
  CASES[`1.2 binary of ${size} bytes`] = [binary(Buffer.alloc(size, 0xfe)), 1, bye];
}
CASES['1.1 text in pieces of 997 bytes'] = [...pieces(text('*'.repeat(65_536)), 997), 1, bye];
CASES['1.1 text in single bytes'] = [...drops(text('Hello')), 1, bye];
Object.assign(CASES, {
  '2.1 ping of nothing': [wsFrame(PING), 1, bye],
  '2.2 ping with text': [wsFrame(PING, 'Hello, world!'), 1, bye],
  '2.3 ping with bytes': [wsFrame(PING, Buffer.from('00fffefdfcfb00ff', 'hex')), 1, bye],
  '2.4 ping of 125 bytes': [wsFrame(PING, Buffer.alloc(125, 0xfe)), 1, bye],
  '2.5 ping of 126 bytes': [wsFrame(PING, Buffer.alloc(126, 0xfe))],
  '2.6 ping in single bytes': [...drops(wsFrame(PING, 'Hello')), 1, bye],
  '2.7 pong nobody asked for': [wsFrame(PONG), bye],
  '2.8 pong with text': [wsFrame(PONG, 'unsolicited'), bye],
  '2.9 pong, then ping': [wsFrame(PONG, 'unsolicited'), wsFrame(PING, 'ours'), 1, bye],
  '2.10 ten pings': [...Array.from({ length: 10 }, (_, at) => wsFrame(PING, `ping ${at}`)), 10, bye],
  '2.11 ten pings in single bytes': [...Array.from({ length: 10 }, (_, at) => drops(wsFrame(PING, `ping ${at}`))).flat(), 10, bye],
  '3.1 reserved bit 1': [text('x', { rsv: 4 })],
  '3.2 reserved bit 2 behind a message': [text('good'), 1, text('x', { rsv: 2 })],
  '3.3 reserved bits 2 and 3': [text('good'), 1, text('x', { rsv: 3 })],
  '3.5 reserved bits of binary': [binary('x', { rsv: 5 })],
  '3.6 reserved bits of ping': [wsFrame(PING, 'x', { rsv: 6 })],
  '3.7 reserved bits of close': [wsFrame(CLOSE, '', { rsv: 7 })],
});
for (const opcode of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) CASES[`4 opcode ${opcode}`] = [text('good'), 1, wsFrame(opcode, opcode % 2 ? 'x' : '')];
Object.assign(CASES, {
  '5.1 ping in fragments': [wsFrame(PING, 'a', part), next('b')],
  '5.2 pong in fragments': [wsFrame(PONG, 'a', part), next('b')],
  '5.3 text in two': [text('one', part), next('two'), 1, bye],
  '5.4 text in two, in single bytes': [...drops(Buffer.concat([text('one', part), next('two')])), 1, bye],
  '5.6 a ping between fragments': [text('one', part), wsFrame(PING, 'ping'), 1, next('two'), 2, bye],
  '5.8 a ping between fragments, in single bytes': [...drops(Buffer.concat([text('one', part), wsFrame(PING, 'ping')])), 1, next('two'), 2, bye],
  '5.9 a continuation of nothing': [next('x')],
  '5.12 a first fragment of nothing': [next('x', part), text('y')],
  '5.15 a continuation behind a whole message': [text('one', part), next('two'), 1, next('three', part), next('four')],
  '5.18 text within text': [text('one', part), text('two')],
  '5.19 pings between many fragments': [text('1', part), next('2', part), wsFrame(PING, 'a'), 1, next('3', part), next('4', part), wsFrame(PING, 'b'), 2, next('5'), 3, bye],
  '6.1 fragments of nothing': [text('', part), next('', part), next(''), 1, bye],
  '6.1 fragments of nothing around one': [text('', part), next('middle', part), next(''), 1, bye],
});

const GOOD = ['Hello-µ@ßöäüàá-UTF-8!!', 'κόσμε', '\u0000', '\u0080', '\u0800', '\u{10000}', '\u007f', '\u07ff', '\uffff', '\u{10ffff}', '\ud7ff', '\ue000', '\ufffd', '\ufffe'];
for (const [at, good] of GOOD.entries()) {
  CASES[`6.2 UTF-8 ${at}`] = [text(good), 1, bye];
  CASES[`6.2 UTF-8 ${at}, a byte a fragment`] = [...Array.from(Buffer.from(good), (byte, place) => wsFrame(place === 0 ? TEXT : CONTINUATION, [byte], part)), next(''), 1, bye];
}
const BAD = ['cebae1bdb9cf83cebcceb5eda080656469746564', 'f88088808080', 'fc84808080 80', 'f7bfbfbf', 'fbbfbfbfbf', 'fdbfbfbfbfbf', 'f4908080', '80', 'bf', '8080', '80bf80bf80bf', 'c0', 'c020c120', 'e020', 'f020', 'f820', 'fc20', 'c0af', 'e080af', 'f08080af', 'c1bf', 'e09fbf', 'f08fbfbf', 'c080', 'e08080', 'eda080', 'edafbf', 'edb080', 'edbfbf', 'eda080edb080', 'edafbfedbfbf', 'fe', 'ff', 'fefeffff', 'ce', 'cebae1', 'cebae1bdb9cf'];
for (const bad of BAD) CASES[`6.3 no UTF-8: ${bad}`] = [text(Buffer.from(bad.replaceAll(' ', ''), 'hex'))];
CASES['6.4 no UTF-8 in the last fragment'] = [text('good', part), next(Buffer.from('f4908080', 'hex'))];
Object.assign(CASES, {
  '7.1 a message, then close': [text('Hello'), 1, bye],
  '7.1 close twice': [bye, bye],
  '7.1 ping behind close': [bye, wsFrame(PING)],
  '7.1 text behind close': [bye, text('x')],
  '7.1 a fragment, close, the rest': [text('x', part), bye, next('y')],
  '7.3 close of nothing': [wsClose()],
  '7.3 close of one byte': [wsFrame(CLOSE, 'a')],
  '7.3 close with a reason': [wsClose(1000, 'Hello World!')],
  '7.3 close with the longest reason': [wsClose(1000, '*'.repeat(123))],
  '7.3 close with a longer one': [wsClose(1000, '*'.repeat(124))],
  '7.5 close with a reason that is no UTF-8': [wsClose(1000, Buffer.from('cebae1bdb9cf83eda080', 'hex'))],
});
for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]) CASES[`7.7 close with ${code}`] = [wsClose(code)];
for (const code of [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]) CASES[`7.9 close with ${code}`] = [wsClose(code)];
Object.assign(CASES, {
  '10.1 65,536 bytes in fragments of 1,300': [...fragments(TEXT, 65_536, 1300), 1, bye],
  'a frame that is not masked': [text('x', { mask: null })],
  'lengths longer than they must be': [text('x', { length: 16 }), text('y', { length: 64 }), 2, bye],
  'a length beyond every limit': [Buffer.from('82ffffffffffffffffff01020304', 'hex')],
  'noise': [Buffer.from(Array.from({ length: 600 }, (_, at) => (at * 167 + 13) % 256))],
  'HTTP behind the handshake': [Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
});

const LARGE = {
  '9.1 text of 16 MiB': [text('*'.repeat(16 * MIB)), 1, bye],
  '9.2 binary of 16 MiB': [binary(Buffer.alloc(16 * MIB, 0xfe)), 1, bye],
  '9.3 4 MiB in fragments of 64 KiB': [...fragments(TEXT, 4 * MIB, 65_536), 1, bye],
  '9.4 4 MiB in fragments of 1 KiB': [...fragments(BINARY, 4 * MIB, 1024), 1, bye],
  '9.5 1 MiB in pieces of 512 bytes': [...pieces(text('*'.repeat(MIB)), 512), 1, bye],
  '9.7 5,000 small messages': [...Array.from({ length: 5000 }, (_, at) => text(String(at).padStart(16))), 5000, bye],
};

const DEFLATE = {};
const OFFERS = ['permessage-deflate', 'permessage-deflate; client_no_context_takeover; server_no_context_takeover', 'permessage-deflate; client_max_window_bits; server_max_window_bits=9', 'permessage-deflate; server_max_window_bits=15', 'x-webkit-deflate-frame'];
const packed = (payload) => deflateRawSync(payload, { finishFlush: 2 }).subarray(0, -4);
for (const offer of OFFERS) {
  for (const size of [0, 16, 1024, 131_072]) {
    const message = Buffer.from(JSON.stringify({ text: 'Lorem ipsum dolor '.repeat(size) }).slice(0, size));
    DEFLATE[`12 ${size} bytes, ${offer}`] = [offer, ...Array.from({ length: 10 }, (_, at) => [wsFrame(TEXT, packed(message), { rsv: 4 }), at + 1]).flat(), bye];
  }
  DEFLATE[`13 in fragments, ${offer}`] = [offer, wsFrame(TEXT, packed('Hello').subarray(0, 3), { rsv: 4, fin: false }), next(packed('Hello').subarray(3)), 1, bye];
}
DEFLATE['13 what does not inflate'] = [OFFERS[0], wsFrame(TEXT, 'no deflate stream', { rsv: 4 })];
DEFLATE['13 a compressed ping'] = [OFFERS[0], wsFrame(PING, 'x', { rsv: 4 })];
DEFLATE['13 a compressed continuation'] = [OFFERS[0], text('x', part), next('y', { rsv: 4 })];
DEFLATE['13 not compressed although agreed'] = [OFFERS[0], text('Hello'), 1, bye];

/** A conversation, short enough to be compared and read. */
const told = ({ head, frames, rest }) => ({
  head,
  frames: frames.map(({ opcode, fin, rsv, payload }) => {
    const body = payload.length > 40 ? `${payload.length} bytes, ${createHash('sha256').update(payload).digest('hex')}` : payload.toString('hex');
    return `${opcode} ${fin ? 'whole' : 'part'} ${rsv} ${body}`;
  }),
  rest: rest.length,
});

/** `steps` with the echo `name`, directly and both ways through the edge, come to the same. */
async function same(name, steps, extensions) {
  const host = `${name}.localhost`;
  const ask = (port, more) => converse(port, steps, { host, extensions, ...more });
  const direct = told(await ask(ports[name]));
  assert.match(direct.head[0], / 101 /);
  assert.deepEqual(told(await ask(server.ports.https, { tls: { ca: server.certificate, servername: 'localhost' } })), direct);
  assert.deepEqual(told(await ask(server.ports.http)), direct);
}

for (const name of ['ws', 'websockets']) {
  test(`framing, with ${name}`, { skip, concurrency: AT_ONCE }, async (t) => {
    await Promise.all(Object.entries(CASES).map(([title, steps]) => t.test(title, () => same(name, steps))));
  });
  test(`large and many messages, with ${name}`, { skip }, async (t) => {
    for (const [title, steps] of Object.entries(LARGE)) await t.test(title, () => same(name, steps));
  });
  test(`compressed messages, with ${name}`, { skip, concurrency: AT_ONCE }, async (t) => {
    await Promise.all(Object.entries(DEFLATE).map(([title, [offer, ...steps]]) => t.test(title, () => same(`${name}-deflate`, steps, offer))));
  });
}
