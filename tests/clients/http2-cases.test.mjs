// RFC 9113 and RFC 7541 in cases, frame by frame: what must be answered, what must be ignored, and for what a stream or the
// connection must end, by which error. After each, an honest client is answered as before.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { before, test } from 'node:test';

import { Http2 } from './support/browse.mjs';
import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { ACK, END_HEADERS, END_STREAM, Frames, PADDED, PREFACE, PRIORITIZED, block, frame, headers, request, settings, text, word } from './support/frames.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const skip = onPile && 'errors that may be chosen differ';
const file = wholeFile();
const BIG = 100_000;
/** Requests the app has read to their end, and responses it holds back. */
const whole = [];
const held = [];
let server;
let witness;
let tls;

const app = createServer((asked, answer) => {
  asked.on('error', () => {});
  let length = 0;
  asked.on('data', (chunk) => (length += chunk.length));
  asked.on('end', () => {
    whole.push({ url: asked.url, length, headers: asked.headers, trailers: asked.trailers });
    if (asked.url === '/hold') held.push(answer);
    else answer.end(asked.url === '/big' ? 'x'.repeat(BIG) : `${asked.method} ${asked.url} ${length}`);
  });
});

before(async () => {
  if (skip) return;
  app.listen(0, '127.0.0.1');
  await new Promise((ready) => app.once('listening', ready));
  undo(file, () => {
    app.close();
    app.closeAllConnections();
  });
  server = await startMainstay({ data: folder(file), app: `127.0.0.1:${app.address().port}` });
  undo(file, () => server.stop());
  tls = { ca: server.certificate, servername: 'localhost' };
  witness = await new Http2(server).connect();
  undo(file, () => witness.close());
});

const PROTOCOL = ['GOAWAY PROTOCOL_ERROR', 'closed'];
// Where a frame cannot be read, the more general error is said in place of these; the connection ends all the same.
const SIZE = ['GOAWAY FRAME_SIZE_ERROR', ...PROTOCOL];
const FLOW = ['GOAWAY FLOW_CONTROL_ERROR', ...PROTOCOL];
const COMPRESSION = ['GOAWAY COMPRESSION_ERROR', ...PROTOCOL];
const CLOSED = ['GOAWAY STREAM_CLOSED', ...PROTOCOL];
/** A stream's error, which an endpoint may treat as one of the connection (RFC 9113 section 5.4.2). */
const stream = (...errors) => errors.flatMap((error) => [`RST_STREAM(1) ${error}`, `GOAWAY ${error}`, 'closed']);
/** A malformed request, which may also be answered (section 8.1.1). */
const MALFORMED = [...stream('PROTOCOL_ERROR'), '400'];
/** The bytes change nothing: the next request is answered. */
const IGNORED = [];

const [OPEN, WHOLE, PART] = [END_HEADERS, END_HEADERS | END_STREAM, 0];
const POST = { method: 'POST' };
const get = (id, path = '/') => headers(id, request(path));
const post = (id, more = [], flags = OPEN) => headers(id, request('/', more, POST), flags);
const data = (id, length, flags = END_STREAM) => frame('DATA', flags, id, Buffer.alloc(length));
/** HEADERS of these fields in place of a request's. */
const fields = (...pairs) => headers(1, pairs);
const without = (name) => headers(1, request().filter(([field]) => field !== name));
const twice = (name) => headers(1, request().flatMap((pair) => (pair[0] === name ? [pair, pair] : [pair])));
const extra = (...pairs) => headers(1, request('/', pairs));
/** A request's block with hexadecimal bytes behind it. */
const behind = (digits) => headers(1, Buffer.concat([block(request()), Buffer.from(digits, 'hex')]));

/** Waits until the stream's response has ended. */
const answered = (connection, id) => connection.until((one) => one.stream === id && one.flags & END_STREAM);

/** A stream of which the request has ended and the response not begun. */
async function halfClosed(connection) {
  connection.send(get(1, '/hold'));
  await connection.read();
}

async function closed(connection) {
  connection.send(get(1));
  await answered(connection, 1);
}

async function reset(connection) {
  connection.send(post(1), frame('RST_STREAM', 0, 1, word(8)));
  await connection.read();
}

const SECTIONS = {
  '3.4 preface': {
    'one that is none': [(c) => c.send(Buffer.from('INVALID CONNECTION PREFACE\r\n\r\n')), PROTOCOL, undefined, 'bare'],
    'one in halves': [(c) => setImmediate(() => c.send(PREFACE.subarray(10), settings(), get(1))), ['200'], (c) => c.send(PREFACE.subarray(0, 10)), 'bare'],
  },
  '4.1 frame format': {
    'an unknown type': [(c) => c.send(frame(0xfa, 0, 0, Buffer.alloc(8)), frame(0xfa, 0, 1, Buffer.alloc(8))), IGNORED],
    'undefined flags of PING': [(c) => c.send(frame('PING', 0x16, 0, Buffer.alloc(8))), IGNORED],
    'the reserved bit of the stream': [(c) => c.send(frame('PING', 0, 0x80000000, Buffer.alloc(8))), IGNORED],
  },
  '4.2 frame size': {
    'DATA of 16,384 bytes': [(c) => c.send(post(1), data(1, 16_384)), ['200']],
    'DATA beyond what was agreed': [(c) => c.send(post(1), data(1, 16_385)), stream('FRAME_SIZE_ERROR')],
    'HEADERS beyond what was agreed': [(c) => c.send(extra(['x', 'y'.repeat(16_385)])), SIZE],
    'SETTINGS beyond what was agreed': [(c) => c.send(frame('SETTINGS', 0, 0, Buffer.alloc(16_386))), SIZE],
  },
  '4.3 field blocks': {
    'one that is none': [(c) => c.send(headers(1, Buffer.from('ffffffff', 'hex'))), COMPRESSION],
    'PRIORITY within one': [(c) => c.send(headers(1, request(), PART), frame('PRIORITY', 0, 1, '00000000ff')), PROTOCOL],
    'HEADERS of another stream within one': [(c) => c.send(headers(1, request(), PART), get(3)), PROTOCOL],
    'an unknown type within one': [(c) => c.send(headers(1, request(), PART), frame(0xfa, 0, 1, '00')), PROTOCOL],
    'in three frames': [(c) => c.send(headers(1, request(), END_STREAM), frame('CONTINUATION', 0, 1, block([['a', 'b']])), frame('CONTINUATION', END_HEADERS, 1)), ['200']],
  },
  '5.1 idle streams': {
    'DATA': [(c) => c.send(data(1, 4)), PROTOCOL],
    'RST_STREAM': [(c) => c.send(frame('RST_STREAM', 0, 1, word(8))), PROTOCOL],
    'WINDOW_UPDATE': [(c) => c.send(frame('WINDOW_UPDATE', 0, 1, word(100))), PROTOCOL],
    'CONTINUATION': [(c) => c.send(frame('CONTINUATION', END_HEADERS, 1, block(request()))), PROTOCOL],
    'PRIORITY': [(c) => c.send(frame('PRIORITY', 0, 1, '00000000ff')), IGNORED],
  },
  '5.1 half-closed streams': {
    'DATA': [(c) => c.send(data(1, 4)), [...stream('STREAM_CLOSED'), ...PROTOCOL], halfClosed],
    'HEADERS': [(c) => c.send(get(1)), [...stream('STREAM_CLOSED'), ...PROTOCOL], halfClosed],
    'CONTINUATION': [(c) => c.send(frame('CONTINUATION', END_HEADERS, 1, block(request()))), CLOSED, halfClosed],
    'WINDOW_UPDATE': [(c) => c.send(frame('WINDOW_UPDATE', 0, 1, word(1))), IGNORED, halfClosed],
    'PRIORITY': [(c) => c.send(frame('PRIORITY', 0, 1, '00000000ff')), IGNORED, halfClosed],
    'RST_STREAM': [(c) => c.send(frame('RST_STREAM', 0, 1, word(8))), IGNORED, halfClosed],
  },
  '5.1 streams the client has reset': {
    'DATA': [(c) => c.send(data(1, 4)), [...stream('STREAM_CLOSED'), ...PROTOCOL], reset],
    'HEADERS': [(c) => c.send(get(1)), [...stream('STREAM_CLOSED'), ...PROTOCOL], reset],
    'CONTINUATION': [(c) => c.send(frame('CONTINUATION', END_HEADERS, 1, block(request()))), CLOSED, reset],
  },
  '5.1 closed streams': {
    'DATA': [(c) => c.send(data(1, 4)), [...stream('STREAM_CLOSED'), ...PROTOCOL], closed],
    'HEADERS': [(c) => c.send(get(1)), [...stream('STREAM_CLOSED'), ...PROTOCOL], closed],
    'CONTINUATION': [(c) => c.send(frame('CONTINUATION', END_HEADERS, 1, block(request()))), CLOSED, closed],
    'PRIORITY': [(c) => c.send(frame('PRIORITY', 0, 1, '00000000ff')), IGNORED, closed],
    'WINDOW_UPDATE and RST_STREAM': [(c) => c.send(frame('WINDOW_UPDATE', 0, 1, word(1)), frame('RST_STREAM', 0, 1, word(8))), IGNORED, closed],
  },
  '5.1.1 identifiers': {
    'an even one': [(c) => c.send(get(2)), PROTOCOL],
    'one below the last': [(c) => c.send(get(5), get(3)), CLOSED],
  },
  '5.1.2 concurrency': {
    'more streams than agreed': [
      (c) => c.send(...Array.from({ length: 129 }, (_, at) => post(1 + 2 * at))),
      ['RST_STREAM(257) REFUSED_STREAM', 'RST_STREAM(257) PROTOCOL_ERROR', ...PROTOCOL],
    ],
  },
  '5.4.1 after an error of the connection': {
    'the connection is closed': [(c) => c.send(frame('PING', 0, 3, Buffer.alloc(8)), get(1)), PROTOCOL],
  },
  '6.1 DATA': {
    'on the connection': [(c) => c.send(post(1), data(0, 4)), PROTOCOL],
    'padding longer than the frame': [(c) => c.send(post(1), frame('DATA', END_STREAM | PADDED, 1, '06000000')), PROTOCOL],
    'with padding': [(c) => c.send(post(1), frame('DATA', END_STREAM | PADDED, 1, '0268690000')), ['200']],
    'in several frames': [(c) => c.send(post(1), data(1, 4, 0), data(1, 0, 0), data(1, 4)), ['200']],
  },
  '6.2 HEADERS': {
    'on the connection': [(c) => c.send(headers(0, request())), PROTOCOL],
    'padding longer than the frame': [(c) => c.send(frame('HEADERS', WHOLE | PADDED, 1, Buffer.concat([Buffer.from([255]), block(request())]))), PROTOCOL],
    'with padding': [(c) => c.send(frame('HEADERS', WHOLE | PADDED, 1, Buffer.concat([Buffer.from([2]), block(request()), Buffer.alloc(2)]))), ['200']],
    'with a priority': [(c) => c.send(frame('HEADERS', WHOLE | PRIORITIZED, 1, Buffer.concat([Buffer.from('00000000ff', 'hex'), block(request())]))), ['200']],
    'too short for its priority': [(c) => c.send(frame('HEADERS', WHOLE | PRIORITIZED, 1, '0000')), [...SIZE, ...PROTOCOL]],
  },
  '6.3 PRIORITY': {
    'on the connection': [(c) => c.send(frame('PRIORITY', 0, 0, '00000000ff')), PROTOCOL],
    'of four bytes': [(c) => c.send(post(1), frame('PRIORITY', 0, 1, '00000000')), [...stream('FRAME_SIZE_ERROR'), ...PROTOCOL]],
    'exclusive': [(c) => c.send(frame('PRIORITY', 0, 1, '8000000000')), IGNORED],
  },
  '6.4 RST_STREAM': {
    'on the connection': [(c) => c.send(frame('RST_STREAM', 0, 0, word(8))), PROTOCOL],
    'of three bytes': [(c) => c.send(post(1), frame('RST_STREAM', 0, 1, '000000')), SIZE],
    'with an unknown error': [(c) => c.send(post(1), frame('RST_STREAM', 0, 1, word(0xff))), IGNORED],
  },
  '6.5 SETTINGS': {
    'an acknowledgement with content': [(c) => c.send(frame('SETTINGS', ACK, 0, '000000000000')), SIZE],
    'on a stream': [(c) => c.send(frame('SETTINGS', 0, 1, '000300000064')), PROTOCOL],
    'of five bytes': [(c) => c.send(frame('SETTINGS', 0, 0, '0003000000')), SIZE],
    'ENABLE_PUSH of 2': [(c) => c.send(settings([2, 2])), PROTOCOL],
    'INITIAL_WINDOW_SIZE beyond 2^31-1': [(c) => c.send(settings([4, 2 ** 31])), FLOW],
    'MAX_FRAME_SIZE below 16,384': [(c) => c.send(settings([5, 16_383])), PROTOCOL],
    'MAX_FRAME_SIZE beyond 2^24-1': [(c) => c.send(settings([5, 2 ** 24])), PROTOCOL],
    'an unknown identifier': [(c) => c.send(settings([0xff, 1])), IGNORED],
    'one value twice': [(c) => c.send(settings([4, 0], [4, 65_535])), IGNORED],
  },
  '6.6 PUSH_PROMISE': {
    'by a client': [(c) => c.send(post(1), frame('PUSH_PROMISE', END_HEADERS, 1, Buffer.concat([word(2), block(request())]))), PROTOCOL],
  },
  '6.7 PING': {
    'on a stream': [(c) => c.send(frame('PING', 0, 1, Buffer.alloc(8))), PROTOCOL],
    'of six bytes': [(c) => c.send(frame('PING', 0, 0, Buffer.alloc(6))), SIZE],
    'an acknowledgement nobody asked for': [(c) => c.send(frame('PING', ACK, 0, Buffer.alloc(8))), IGNORED],
  },
  '6.8 GOAWAY': {
    'on a stream': [(c) => c.send(frame('GOAWAY', 0, 1, Buffer.alloc(8))), PROTOCOL],
    'too short': [(c) => c.send(frame('GOAWAY', 0, 0, Buffer.alloc(4))), SIZE],
    'with an unknown error, under way requests are answered': [(c) => c.send(get(1), frame('GOAWAY', 0, 0, Buffer.concat([word(0), word(0xff)]))), ['200']],
  },
  '6.9 WINDOW_UPDATE': {
    'of nothing for the connection': [(c) => c.send(frame('WINDOW_UPDATE', 0, 0, word(0))), PROTOCOL],
    'of nothing for a stream': [(c) => c.send(post(1), frame('WINDOW_UPDATE', 0, 1, word(0))), stream('PROTOCOL_ERROR')],
    'of three bytes': [(c) => c.send(frame('WINDOW_UPDATE', 0, 0, '000001')), SIZE],
    'the connection beyond 2^31-1': [(c) => c.send(frame('WINDOW_UPDATE', 0, 0, word(2 ** 31 - 1)), frame('WINDOW_UPDATE', 0, 0, word(2 ** 31 - 1))), FLOW],
    'a stream beyond 2^31-1': [(c) => c.send(post(1), frame('WINDOW_UPDATE', 0, 1, word(2 ** 31 - 1))), stream('FLOW_CONTROL_ERROR')],
    'streams beyond 2^31-1 by SETTINGS': [(c) => c.send(post(1), frame('WINDOW_UPDATE', 0, 1, word(2 ** 30)), settings([4, 2 ** 31 - 1])), FLOW],
  },
  '6.10 CONTINUATION': {
    'on the connection': [(c) => c.send(headers(1, request(), PART), frame('CONTINUATION', END_HEADERS, 0)), PROTOCOL],
    'behind a whole block': [(c) => c.send(post(1), frame('CONTINUATION', END_HEADERS, 1, block([['a', 'b']]))), PROTOCOL],
    'behind DATA': [(c) => c.send(post(1), data(1, 4, 0), frame('CONTINUATION', END_HEADERS, 1, block([['a', 'b']]))), PROTOCOL],
    'behind the last of them': [(c) => c.send(headers(1, request(), END_STREAM), frame('CONTINUATION', END_HEADERS, 1), frame('CONTINUATION', END_HEADERS, 1)), PROTOCOL],
    'of another stream': [(c) => c.send(headers(1, request(), PART), frame('CONTINUATION', END_HEADERS, 3)), PROTOCOL],
  },
  '8.1 messages': {
    'trailers': [(c) => c.send(post(1), data(1, 4, 0), headers(1, [['x-sum', '1']])), ['200']],
    'trailers that do not end the stream': [(c) => c.send(post(1), data(1, 4, 0), headers(1, [['x', '1']], OPEN)), MALFORMED],
    'a pseudo field in trailers never reaches the app': [(c) => c.send(post(1), data(1, 4, 0), headers(1, [[':method', 'GET']])), ['200', ...MALFORMED]],
    'DATA less than Content-Length': [(c) => c.send(post(1, [['content-length', '10']]), data(1, 4)), MALFORMED],
    'DATA more than Content-Length': [(c) => c.send(post(1, [['content-length', '1']]), data(1, 4)), MALFORMED],
    'several DATA more than Content-Length': [(c) => c.send(post(1, [['content-length', '5']]), data(1, 4, 0), data(1, 4)), MALFORMED],
    'no DATA, but Content-Length': [(c) => c.send(post(1, [['content-length', '5']], WHOLE)), MALFORMED],
    'a Content-Length that is no number': [(c) => c.send(post(1, [['content-length', '4x']]), data(1, 4)), MALFORMED],
    'two Content-Lengths': [(c) => c.send(post(1, [['content-length', '4'], ['content-length', '5']]), data(1, 4)), MALFORMED],
  },
  '8.2 fields': {
    'an upper case name': [(c) => c.send(extra(['X-Test', 'ok'])), MALFORMED],
    'an empty name': [(c) => c.send(extra(['', 'ok'])), MALFORMED],
    'a name with a colon': [(c) => c.send(extra(['x:y', 'ok'])), MALFORMED],
    'a name with a space': [(c) => c.send(extra(['x y', 'ok'])), MALFORMED],
    'a name with a line end': [(c) => c.send(extra(['x\r\ny', 'ok'])), MALFORMED],
    'a value with a line end': [(c) => c.send(extra(['x', 'a\r\nevil: 1'])), MALFORMED],
    'a value with LF': [(c) => c.send(extra(['x', 'a\nb'])), MALFORMED],
    'a value with NUL': [(c) => c.send(extra(['x', 'a\0b'])), MALFORMED],
    'Connection': [(c) => c.send(extra(['connection', 'keep-alive'])), MALFORMED],
    'Keep-Alive': [(c) => c.send(extra(['keep-alive', 'timeout=5'])), MALFORMED],
    'Proxy-Connection': [(c) => c.send(extra(['proxy-connection', 'keep-alive'])), MALFORMED],
    'Transfer-Encoding': [(c) => c.send(post(1, [['transfer-encoding', 'chunked']]), data(1, 5)), MALFORMED],
    'Upgrade': [(c) => c.send(extra(['upgrade', 'websocket'])), MALFORMED],
    'TE other than trailers': [(c) => c.send(extra(['te', 'trailers, deflate'])), MALFORMED],
    'TE of trailers': [(c) => c.send(extra(['te', 'trailers'])), ['200']],
    'more than the list may have': [(c) => c.send(headers(1, request(), END_STREAM), ...Array.from({ length: 5 }, () => frame('CONTINUATION', 0, 1, block([['x', 'y'.repeat(16_000)]]))), frame('CONTINUATION', END_HEADERS, 1)), ['431', ...stream('PROTOCOL_ERROR', 'ENHANCE_YOUR_CALM')]],
  },
  '8.3 pseudo fields': {
    'an unknown one': [(c) => c.send(extra([':test', 'ok'])), MALFORMED],
    'one of responses': [(c) => c.send(extra([':status', '200'])), MALFORMED],
    'one behind a regular field': [(c) => c.send(fields(['x', 'y'], ...request())), MALFORMED],
    'an empty path': [(c) => c.send(headers(1, request(''))), MALFORMED],
    'a path that begins with no slash': [(c) => c.send(headers(1, request('path'))), MALFORMED],
    'a path with a space': [(c) => c.send(headers(1, request('/a b'))), MALFORMED],
    'a path with a line end': [(c) => c.send(headers(1, request('/ HTTP/1.1\r\nHost: evil\r\n\r\n'))), MALFORMED],
    'a method with a line end': [(c) => c.send(headers(1, request('/', [], { method: 'GET / HTTP/1.1\r\nX: y' }))), MALFORMED],
    'a method with a space': [(c) => c.send(headers(1, request('/', [], { method: 'GET /evil' }))), MALFORMED],
    'a scheme with a line end': [(c) => c.send(headers(1, request('/', [], { scheme: 'https\r\nx' }))), MALFORMED],
    'an authority with a line end': [(c) => c.send(headers(1, request('/', [], { authority: 'localhost\r\nx: y' }))), MALFORMED],
    'an authority with user info': [(c) => c.send(headers(1, request('/', [], { authority: 'u@localhost' }))), MALFORMED],
    'an empty authority': [(c) => c.send(headers(1, request('/', [], { authority: '' }))), MALFORMED],
    'a Host that differs': [(c) => c.send(extra(['host', 'other'])), MALFORMED],
    'two Hosts': [(c) => c.send(extra(['host', 'localhost'], ['host', 'localhost'])), MALFORMED],
    'no method': [(c) => c.send(without(':method')), MALFORMED],
    'no scheme': [(c) => c.send(without(':scheme')), MALFORMED],
    'no path': [(c) => c.send(without(':path')), MALFORMED],
    'no authority': [(c) => c.send(without(':authority')), MALFORMED],
    'two methods': [(c) => c.send(twice(':method')), MALFORMED],
    'two schemes': [(c) => c.send(twice(':scheme')), MALFORMED],
    'two paths': [(c) => c.send(twice(':path')), MALFORMED],
    'two authorities': [(c) => c.send(twice(':authority')), MALFORMED],
    'CONNECT': [(c) => c.send(fields([':method', 'CONNECT'], [':authority', 'localhost:22'])), [...MALFORMED, '405', '501']],
    'CONNECT of RFC 8441, which is not offered': [(c) => c.send(headers(1, request('/', [[':protocol', 'websocket']], { method: 'CONNECT' }))), [...MALFORMED, '405', '501']],
    'HEAD': [(c) => c.send(headers(1, request('/', [], { method: 'HEAD' }))), ['200']],
    'OPTIONS of the server as a whole': [(c) => c.send(headers(1, request('*', [], { method: 'OPTIONS' }))), ['204']],
  },
  'HPACK': {
    'indexed fields': [(c) => c.send(headers(1, Buffer.concat([Buffer.from('828487', 'hex'), block([[':authority', 'localhost']])]))), ['200']],
    'a literal to remember, and its index': [(c) => c.send(headers(1, Buffer.concat([block(request()), Buffer.from([0x40]), text('x'), text('y'), Buffer.from([0xbe])]))), ['200']],
    'a literal never to be remembered': [(c) => c.send(headers(1, Buffer.concat([block(request()), Buffer.from([0x10]), text('x'), text('y')]))), ['200']],
    'Huffman codes': [(c) => c.send(headers(1, Buffer.concat([Buffer.from('828487', 'hex'), Buffer.from('4186a0e41d139d09', 'hex')]))), ['200']],
    'sizes of the table': [(c) => c.send(headers(1, Buffer.concat([Buffer.from('203fe11f', 'hex'), block(request())]))), ['200']],
    'index 0': [(c) => c.send(behind('80')), COMPRESSION],
    'an index nobody has': [(c) => c.send(behind('c6')), COMPRESSION],
    'a name nobody has': [(c) => c.send(behind('7f0a0179')), COMPRESSION],
    'an index without end': [(c) => c.send(behind('ffffffffffffffffff7f')), COMPRESSION],
    'a size of the table behind a field': [(c) => c.send(behind('20')), COMPRESSION],
    'a table larger than agreed': [(c) => c.send(headers(1, Buffer.concat([Buffer.from('3fe21f', 'hex'), block(request())]))), COMPRESSION],
    'a text longer than its block': [(c) => c.send(behind('00017805')), COMPRESSION],
    'Huffman padding longer than 7 bits': [(c) => c.send(behind('00017883fe7fff')), COMPRESSION],
    'Huffman padding of zeros': [(c) => c.send(behind('0001788100')), COMPRESSION],
    'Huffman codes with the end in them': [(c) => c.send(behind('00017887ffffffffffffff')), COMPRESSION],
  },
};

/** The first thing the connection came to: an error, an end, or a status. */
async function outcome(connection) {
  const found = await connection.until(({ type, status, error }) => (type === 'HEADERS' && status >= 200) || (error && error !== 'NO_ERROR'));
  if (!found) return 'closed';
  if (found.type === 'HEADERS') return String(found.status);
  return found.type === 'GOAWAY' ? `GOAWAY ${found.error}` : `RST_STREAM(${found.stream}) ${found.error}`;
}

for (const [section, cases] of Object.entries(SECTIONS)) {
  for (const [name, [act, accepted, prepared, how]] of Object.entries(cases)) {
    test(`${section}: ${name}`, { skip }, async (t) => {
      const connection = await (how === 'bare' ? Frames.open : Frames.ready)(server.ports.https, tls);
      undo(t, () => connection.close());
      await prepared?.(connection);
      connection.frames.splice(0);
      const before = whole.length;
      act(connection);
      if (accepted === IGNORED) {
        connection.send(get(101));
        const answer = await connection.until((one) => one.stream === 101 || one.error);
        assert.equal(answer?.status, 200, connection.told());
      } else {
        const came = await outcome(connection);
        assert.ok(accepted.includes(came), `${came}: ${connection.told()}`);
        if (came.startsWith('GOAWAY')) {
          await connection.until(() => false);
          assert.ok(connection.closed, 'a connection that broke the protocol is closed');
        }
        const reached = whole.slice(before).filter(({ url, trailers }) => !['/', '/hold', '/witness'].includes(url) || trailers[':method']);
        assert.deepEqual(reached, [], 'nothing reached the app that was not meant');
      }
      held.splice(0).forEach((answer) => answer.destroy());
      assert.equal((await witness.request('GET', '/witness')).status, 200);
    });
  }
}

/** What arrived of a response's body, in bytes. */
const taken = (connection) => connection.frames.filter(({ type }) => type === 'DATA').reduce((sum, { payload }) => sum + payload.length, 0);

test('6.9 a response stays within the windows the client gives', { skip }, async (t) => {
  const connection = await Frames.ready(server.ports.https, tls, settings([4, 10]));
  undo(t, () => connection.close());
  connection.send(get(1, '/big'));
  await connection.until(({ type }) => type === 'DATA');
  await connection.read();
  assert.equal(taken(connection), 10);
  connection.send(frame('WINDOW_UPDATE', 0, 1, word(5)));
  await connection.until(() => taken(connection) > 10);
  await connection.read();
  assert.equal(taken(connection), 15);
  // 15 taken of a window that is 3 now: nothing before 12 are given back (section 6.9.2).
  connection.send(settings([4, 3]));
  await connection.read();
  connection.send(frame('WINDOW_UPDATE', 0, 1, word(7)));
  await connection.read();
  assert.equal(taken(connection), 15);
  connection.send(frame('WINDOW_UPDATE', 0, 1, word(10)));
  await connection.until(() => taken(connection) > 15);
  await connection.read();
  assert.equal(taken(connection), 25);
});

test('8.1 a body, its trailers and crumbs of cookies reach the app as one request', { skip }, async (t) => {
  const connection = await Frames.ready(server.ports.https, tls);
  undo(t, () => connection.close());
  const crumbs = [['cookie', 'a=1'], ['cookie', 'b=2'], ['content_length', '9'], ['trailer', 'x-sum']];
  connection.send(headers(1, request('/crumbs', crumbs, POST), OPEN), data(1, 4, 0), headers(1, [['x-sum', '7']]));
  await answered(connection, 1);
  const seen = whole.find(({ url }) => url === '/crumbs');
  assert.deepEqual([seen.length, seen.headers.cookie, seen.headers.content_length, seen.trailers['x-sum']], [4, 'a=1; b=2', undefined, '7']);
});
