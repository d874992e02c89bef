// Clients that hold a connection by doing next to nothing: a byte now and then of a handshake, a head, a body, or of what
// they read. Each is let go of within the wait that is set, which is 30 seconds at most unless it is changed.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { before, test } from 'node:test';
import { connect as connectTls } from 'node:tls';

import { attacked } from './support/attacked.mjs';
import { onPile } from './support/backend.mjs';
import { Http2 } from './support/browse.mjs';
import { folder } from './support/folder.mjs';
import { END_HEADERS, END_STREAM, Frames, PREFACE, block, frame, headers, request, settings, word } from './support/frames.mjs';
import { command } from './support/mainstay.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const skip = onPile && 'waits differ';
const file = wholeFile();
const LIMIT_MS = 1000;
/** How late a busy machine may be. */
const LATE_MS = 5000;
/** A client does something this often. */
const DROP_MS = 50;
const BIG = Buffer.alloc(64 << 20);
/** Told when the app's answer to a target is broken off: it learns of it only when the edge lets go. */
const brokenOff = new Map();
let server;
let tls;

const app = createServer((one, answer) => {
  one.on('error', () => {});
  answer.on('error', () => {});
  one.resume();
  answer.on('close', () => brokenOff.get(one.url)?.());
  if (one.url.startsWith('/big')) answer.end(BIG);
  else one.on('end', () => answer.end(one.url));
});

before(async () => {
  if (skip) return;
  const waits = ['tls_handshake', 'head', 'body', 'write'].map((name) => `${name} = "${LIMIT_MS}ms"\n`).join('');
  ({ server, tls } = await attacked(file, app, waits));
});

test('no wait is longer than 30 seconds by itself', { skip }, async (t) => {
  const { stdout } = await command(folder(t), ['config', 'reference']);
  const [, timeouts] = /\n\[edge\.timeouts\]\n([^]*?)(?:\n\[|$)/.exec(stdout);
  for (const name of ['tls_handshake', 'head', 'body', 'write']) {
    const [, value] = new RegExp(`^#?${name} = "(\\d+)s"$`, 'm').exec(timeouts);
    assert.ok(Number(value) <= 30, `${name} = ${value}s`);
  }
});

/** Does `drop` now and then until the connection is closed; how long that took. */
async function held(socket, drop) {
  const began = Date.now();
  const drops = setInterval(() => socket.destroyed || drop?.(), DROP_MS);
  await new Promise((resolve) => {
    const limit = setTimeout(resolve, 10 * LIMIT_MS + LATE_MS);
    for (const name of ['close', 'end', 'error']) {
      socket.on(name, () => {
        clearTimeout(limit);
        resolve();
      });
    }
  });
  clearInterval(drops);
  socket.destroy();
  return Date.now() - began;
}

function plain() {
  const socket = connect(server.ports.http, '127.0.0.1').on('error', () => {});
  return new Promise((resolve) => socket.once('connect', () => resolve(socket)));
}

function secure() {
  const socket = connectTls({ port: server.ports.https, host: '127.0.0.1', ALPNProtocols: ['http/1.1'], ...tls }).on('error', () => {});
  return new Promise((resolve) => socket.once('secureConnect', () => resolve(socket)));
}

const HOST = 'Host: localhost\r\n';
/** Writes the bytes of `text` one after the other, the last of them again and again. */
function bytewise(socket, text) {
  let at = 0;
  return () => socket.write(text[Math.min(at++, text.length - 1)]);
}

/** Asks for a large answer and does `drop` now and then, but does not read: how long the answer was held. */
async function unread(socket, target, drop) {
  const over = new Promise((resolve) => brokenOff.set(target, resolve));
  socket.pause().write(`GET ${target} HTTP/1.1\r\n${HOST}\r\n`);
  const began = Date.now();
  const drops = setInterval(() => drop?.(), DROP_MS);
  const limit = new Promise((resolve) => setTimeout(resolve, 10 * LIMIT_MS + LATE_MS).unref());
  await Promise.race([over, limit]);
  clearInterval(drops);
  socket.destroy();
  return Date.now() - began;
}

const POST = { method: 'POST' };
const CASES = {
  'nothing at all': async () => held(await plain()),
  'nothing after the handshake': async () => held(await secure()),
  'nothing after a request': async () => {
    const socket = await plain();
    socket.write(`GET /kept HTTP/1.1\r\n${HOST}\r\n`);
    return held(socket.resume());
  },
  'a handshake in single bytes': async () => {
    const socket = connect(server.ports.https, '127.0.0.1').on('error', () => {});
    return held(socket, bytewise(socket, `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03${'x'.repeat(600)}`));
  },
  'a head in single bytes': async () => {
    const socket = await plain();
    return held(socket.resume(), bytewise(socket, `GET / HTTP/1.1\r\n${HOST}X: ${'y'.repeat(1000)}`));
  },
  'a head in single bytes, encrypted': async () => {
    const socket = await secure();
    return held(socket.resume(), bytewise(socket, `GET / HTTP/1.1\r\n${HOST}X: ${'y'.repeat(1000)}`));
  },
  'a head in single lines': async () => {
    const socket = await plain();
    socket.write(`GET / HTTP/1.1\r\n${HOST}`);
    return held(socket.resume(), () => socket.write('X: y\r\n'));
  },
  'a body in single bytes': async () => {
    const socket = await plain();
    socket.write(`POST / HTTP/1.1\r\n${HOST}Content-Length: 100000\r\n\r\n`);
    return held(socket.resume(), () => socket.write('x'));
  },
  'a chunked body in chunks of one byte': async () => {
    const socket = await secure();
    socket.write(`POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`);
    return held(socket.resume(), () => socket.write('1\r\nx\r\n'));
  },
  'an answer nobody reads': async () => unread(await plain(), '/big?unread'),
  'an answer nobody reads, encrypted': async () => unread(await secure(), '/big?unread-encrypted'),
  'an answer read in sips': async () => {
    const socket = await plain();
    return unread(socket, '/big?sips', () => socket.read(1));
  },
  'HTTP/2, nothing after the preface': async () => held((await Frames.ready(server.ports.https, tls)).socket),
  'HTTP/2, the preface in single bytes': async () => {
    const { socket } = await Frames.open(server.ports.https, tls);
    return held(socket, bytewise(socket, PREFACE.toString()));
  },
  'HTTP/2, PING and nothing else': async () => {
    const connection = await Frames.ready(server.ports.https, tls);
    return held(connection.socket, () => connection.send(frame('PING', 0, 0, Buffer.alloc(8))));
  },
  'HTTP/2, a head in drops': async () => {
    const connection = await Frames.ready(server.ports.https, tls);
    connection.send(headers(1, request(), END_STREAM));
    return held(connection.socket, () => connection.send(frame('CONTINUATION', 0, 1, block([['x', 'y']]))));
  },
};

/** Streams that must end although their connection may stay: how long `id` was open. */
async function streamHeld(connection, id, drop) {
  const began = Date.now();
  const drops = setInterval(() => connection.send(drop()), DROP_MS);
  const over = (one) => one.stream === id && (one.error || one.status >= 400);
  await connection.until((one) => over(one) || one.type === 'GOAWAY');
  clearInterval(drops);
  return Date.now() - began;
}

const STREAMS = {
  'HTTP/2, a body in single bytes': async (connection) => {
    connection.send(headers(1, request('/', [], POST), END_HEADERS));
    return streamHeld(connection, 1, () => frame('DATA', 0, 1, '78'));
  },
  'HTTP/2, an answer for which the window never opens': async (connection) => {
    connection.send(headers(1, request('/big')));
    return streamHeld(connection, 1, () => frame('PING', 0, 0, Buffer.alloc(8)));
  },
  'HTTP/2, an answer for which the window opens by single bytes': async (connection) => {
    connection.send(headers(1, request('/big')));
    return streamHeld(connection, 1, () => Buffer.concat([frame('WINDOW_UPDATE', 0, 1, word(1)), frame('WINDOW_UPDATE', 0, 0, word(1))]));
  },
  'HTTP/2, one answer of two is taken': async (connection) => {
    connection.send(headers(1, request('/big?held')), headers(3, request('/big?taken')));
    const pair = (length) => [frame('WINDOW_UPDATE', 0, 3, word(length)), frame('WINDOW_UPDATE', 0, 0, word(length))];
    const took = await streamHeld(connection, 1, () => Buffer.concat(pair(20_000)));
    assert.ok(!connection.closed, 'the other stream goes on');
    return took;
  },
};

test('whoever is slow is let go of, and others are served meanwhile', { skip, concurrency: true }, async (t) => {
  const honest = await new Http2(server).connect();
  undo(t, () => honest.close());
  let over = false;
  const slow = Object.entries(CASES).map(([name, hold]) =>
    t.test(name, async () => {
      const took = await hold();
      assert.ok(took < LIMIT_MS + LATE_MS, `let go of after ${took} ms`);
    }),
  );
  const streams = Object.entries(STREAMS).map(([name, hold]) =>
    t.test(name, async () => {
      const connection = await Frames.ready(server.ports.https, tls, settings([4, 1000]));
      const took = await hold(connection).finally(() => connection.close());
      assert.ok(took < LIMIT_MS + LATE_MS, `let go of after ${took} ms`);
    }),
  );
  const asking = (async () => {
    while (!over) assert.equal((await honest.request('GET', '/honest')).text(), '/honest');
  })();
  await Promise.all([...slow, ...streams]).finally(() => (over = true));
  await asking;
});
