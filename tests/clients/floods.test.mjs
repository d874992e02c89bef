// Clients that send as much as they can of what costs a server more than it costs them: somebody honest is answered all the
// while, and memory stays within bounds.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { before, test } from 'node:test';

import { attacked } from './support/attacked.mjs';
import { onPile } from './support/backend.mjs';
import { Http2 } from './support/browse.mjs';
import { END_HEADERS, END_STREAM, Frames, block, frame, headers, request, settings, text, word } from './support/frames.mjs';
import { exchange, wholeAnswer } from './support/raw.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const skip = onPile && 'limits differ';
const file = wholeFile();
const ATTACKERS = 4;
/** Most that each of them sends. */
const MOST = 1 << 20;
/** Most memory that all of them together may cost, in MiB; a debug build has larger futures. */
const MOST_MIB = 96;
const BIG = Buffer.alloc(4 << 20);
let server;
let tls;
let asked = 0;

const app = createServer((one, answer) => {
  one.on('error', () => {});
  asked += 1;
  answer.on('error', () => {}).end(one.url === '/big' ? BIG : one.url);
});

before(async () => {
  if (skip) return;
  ({ server, tls } = await attacked(file, app, 'write = "3s"\n'));
});

/** Memory of the server that no file backs, in MiB. */
function anonymous() {
  const [, kib] = /^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'));
  return Number(kib) / 1024;
}

/** Sends what `next()` gives until that is nothing, `MOST` bytes are sent or the connection is closed. */
async function pour(connection, next) {
  const { socket } = connection;
  for (let sent = 0; sent < MOST && !connection.closed; ) {
    const bytes = next();
    if (!bytes) break;
    sent += bytes.length;
    if (socket.write(bytes)) continue;
    await new Promise((resolve) => {
      connection.wake = () => connection.closed && resolve();
      socket.once('drain', resolve);
    });
  }
}

/**
 * `ATTACKERS` connections pour what `flood()` gives each of them; a `deaf` one takes no answers. Meanwhile somebody honest
 * asks over one connection and over new ones.
 * @returns how each connection came out.
 */
async function under(t, flood, { deaf = false, first = settings() } = {}) {
  const honest = await new Http2(server).connect();
  undo(t, () => honest.close());
  const before = anonymous();
  let over = false;
  const attacks = Promise.all(
    Array.from({ length: ATTACKERS }, async () => {
      const connection = await Frames.ready(server.ports.https, tls, first);
      undo(t, () => connection.close());
      if (deaf) connection.socket.pause();
      await pour(connection, flood());
      // Judged by what came, once the server has read everything or closed.
      if (!deaf && !connection.closed) await connection.read().catch(() => {});
      return connection;
    }),
  ).finally(() => (over = true));
  let [answers, most] = [0, before];
  while (!over || answers < 2) {
    assert.equal((await honest.request('GET', '/honest')).text(), '/honest');
    const { text: fresh } = await exchange(server.ports.http, 'GET /new HTTP/1.1\r\nHost: localhost\r\n\r\n', { enough: wholeAnswer });
    assert.match(fresh, /^HTTP\/1\.1 200 /);
    answers += 1;
    most = Math.max(most, anonymous());
  }
  const connections = await attacks;
  assert.ok(most - before < MOST_MIB, `${(most - before).toFixed(0)} MiB more`);
  return connections.map((connection) => connection.told());
}

const CALM = /GOAWAY ENHANCE_YOUR_CALM|closed/;
/** `count` times what `one` gives, which is told the number of a stream. */
const each = (one, count = Infinity) => () => {
  let at = 0;
  return () => (at < count ? one(2 * at++ + 1) : undefined);
};

test('rapid reset: streams opened and reset at once', { skip }, async (t) => {
  const before = asked;
  const came = await under(t, each((id) => Buffer.concat([headers(id, request('/reset')), frame('RST_STREAM', 0, id, word(8))]), 20_000));
  t.diagnostic(`${asked - before} of ${ATTACKERS * 20_000} requests reached the app: ${came[0].slice(-60)}`);
});

test('resets provoked by bad WINDOW_UPDATEs', { skip }, async (t) => {
  const open = (id) => headers(id, request('/made', [], { method: 'POST' }), END_HEADERS);
  const came = await under(t, each((id) => Buffer.concat([open(id), frame('WINDOW_UPDATE', 0, id, word(0))]), 20_000));
  for (const one of came) assert.match(one, CALM);
});

test('a head that never ends, in CONTINUATION', { skip }, async (t) => {
  const endless = () => {
    let begun = false;
    return () => {
      if (begun) return frame('CONTINUATION', 0, 1, block([['x', 'y'.repeat(1000)]]));
      begun = true;
      return headers(1, request('/endless'), END_STREAM);
    };
  };
  for (const one of await under(t, endless)) assert.match(one, /431|GOAWAY|closed/);
});

test('a head that never ends, in empty CONTINUATION', { skip }, async (t) => {
  const endless = () => {
    let begun = false;
    return () => {
      if (begun) return frame('CONTINUATION', 0, 1);
      begun = true;
      return headers(1, request('/endless'), END_STREAM);
    };
  };
  for (const one of await under(t, endless)) assert.match(one, CALM);
});

test('HPACK: one remembered field named thousands of times', { skip }, async (t) => {
  const remembered = Buffer.concat([block(request('/bomb')), Buffer.from([0x40]), text('x'), text('y'.repeat(3900))]);
  const bomb = each((id) => {
    const fields = id === 1 ? remembered : block(request('/bomb'));
    return headers(id, Buffer.concat([fields, Buffer.alloc(8000, 0xbe)]));
  }, 500);
  for (const one of await under(t, bomb)) assert.match(one, /431|GOAWAY|closed/);
});

const FLOODS = {
  'PING': () => frame('PING', 0, 0, Buffer.alloc(8)),
  'SETTINGS': () => settings([3, 100], [4, 65_535]),
  'PRIORITY': (id) => frame('PRIORITY', 0, id, '00000000ff'),
  'WINDOW_UPDATE': (id) => frame('WINDOW_UPDATE', 0, 0, word(id % 2)),
  'frames nobody knows': () => frame(0xfa, 0, 0, Buffer.alloc(100)),
};

for (const [name, one] of Object.entries(FLOODS)) {
  const many = (id) => Buffer.concat(Array.from({ length: 100 }, (_, at) => one(id + 2 * at)));
  test(`${name} without end, answers taken`, { skip }, async (t) => {
    await under(t, each(many));
  });
  test(`${name} without end, no answer taken`, { skip }, async (t) => {
    await under(t, each(many), { deaf: true });
  });
}

test('DATA of nothing without end', { skip }, async (t) => {
  const empty = Buffer.concat(Array.from({ length: 100 }, () => frame('DATA', 0, 1)));
  await under(t, each((id) => (id === 1 ? headers(1, request('/', [], { method: 'POST' }), END_HEADERS) : empty)));
});

test('answers that are asked for and not taken', { skip }, async (t) => {
  await under(t, each((id) => headers(id, request('/big')), 100), { first: settings([4, 0]) });
});

test('requests one behind the other whose answers nobody takes', { skip }, async (t) => {
  const honest = await new Http2(server).connect();
  undo(t, () => honest.close());
  const before = anonymous();
  const line = Buffer.from('GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(100));
  const connections = await Promise.all(Array.from({ length: ATTACKERS }, () => Frames.open(server.ports.http)));
  undo(t, () => connections.forEach((connection) => connection.close()));
  connections.forEach((connection) => connection.socket.pause());
  const pouring = Promise.all(connections.map((connection) => pour(connection, () => line)));
  for (let at = 0; at < 20; at += 1) assert.equal((await honest.request('GET', '/honest')).text(), '/honest');
  assert.ok(anonymous() - before < MOST_MIB);
  connections.forEach((connection) => connection.close());
  await pouring;
});

test('heads of every size beyond the limits', { skip }, async (t) => {
  const honest = await new Http2(server).connect();
  undo(t, () => honest.close());
  const heads = [`GET /${'x'.repeat(1 << 20)} HTTP/1.1\r\n`, `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'y'.repeat(1 << 20)}\r\n\r\n`, `GET / HTTP/1.1\r\nHost: localhost\r\n${'x: y\r\n'.repeat(100_000)}\r\n`, 'x'.repeat(1 << 20)];
  const refused = heads.map(async (head) => {
    const { text: answer } = await exchange(server.ports.http, head, { enough: wholeAnswer });
    assert.match(answer, /^(HTTP\/1\.1 4\d\d |$)/);
  });
  await Promise.all([...refused, honest.request('GET', '/honest')]);
});
