// Requests made to be read in two ways, judged by what the app receives: one clear reading or nothing, and nobody else's
// request is ever mixed up with them.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { END_HEADERS, END_STREAM, Frames, frame, headers, request } from './support/frames.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { strictOrigin } from './support/origin.mjs';
import { exchange, wholeAnswer } from './support/raw.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const skip = onPile && 'nginx passes some of these on';
const file = wholeFile();
const AT_ONCE = 16;
let origin;
let server;

before(async () => {
  if (skip) return;
  origin = await strictOrigin(file);
  const here = folder(file);
  const config = join(here, 'mainstay.toml');
  // One worker: whatever is left on a connection to the app meets the next request. Waits are short, as many of these
  // requests have no end.
  writeFileSync(
    config,
    `[edge]\nredirect_https = false\nworkers = 1\napp = "127.0.0.1:${origin.port}"\n[edge.timeouts]\nhead = "500ms"\nbody = "500ms"\n`,
  );
  server = await startMainstay({ data: join(here, 'data'), flags: ['--config', config] });
  undo(file, () => server.stop());
});

const HOST = 'Host: localhost\r\n';
const EVIL = `GET {p}/evil HTTP/1.1\r\n${HOST}\r\n`;
/** A POST with these lines in its head, and `body` behind it. */
const post = (lines, body) => `POST {p} HTTP/1.1\r\n${HOST}${lines}\r\n\r\n${body}`;
const get = (lines, version = '1.1') => `GET {p} HTTP/${version}\r\n${HOST}${lines}\r\n\r\n`;
const CHUNKED = 'Transfer-Encoding: chunked\r\nConnection: close';
const chunks = (bytes) => post(CHUNKED, bytes);

/** A request whose length covers an empty chunked body and another request, beside `line`. */
function both(line) {
  const body = `0\r\n\r\n${EVIL}`;
  return post(`Content-Length: ${body.length + '/000'.length - '{p}'.length}\r\n${line}`, body);
}

/** What the app must have received. */
const NOTHING = [0, 0];
const ONE = [1, 1];
const TWO = [2, 2];
/** Nothing, or one request in one reading. */
const MOST_ONE = [0, 1];
/** Broken off: the app may have seen a head, and never the end. */
const BROKEN = [0, 0];

const CASES = {
  // Content-Length beside Transfer-Encoding.
  'CL.TE': [post('Content-Length: 6\r\nTransfer-Encoding: chunked', `0\r\n\r\n${EVIL}`), MOST_ONE],
  'TE.CL': [post('Transfer-Encoding: chunked\r\nContent-Length: 4', `5\r\nhello\r\n0\r\n\r\n${EVIL}`), MOST_ONE],
  'TE.0': [post('Transfer-Encoding: chunked\r\nContent-Length: 0', `0\r\n\r\n${EVIL}`), MOST_ONE],
  'CL.0': [post('Content-Length: 0\r\nConnection: close', EVIL), ONE],
  'TE with a space before its colon': [both('Transfer-Encoding : chunked'), NOTHING],
  'TE with a tab before its colon': [both('Transfer-Encoding\t: chunked'), NOTHING],
  'TE with a vertical tab before its colon': [both('Transfer-Encoding\x0b: chunked'), NOTHING],
  'TE behind a tab': [both('Transfer-Encoding:\tchunked'), MOST_ONE],
  'TE behind a vertical tab': [both('Transfer-Encoding: \x0bchunked'), NOTHING],
  'TE behind a form feed': [both('Transfer-Encoding: \x0cchunked'), NOTHING],
  'TE before a NUL': [both('Transfer-Encoding: chunked\0'), NOTHING],
  'TE with a NUL in its name': [both('Transfer\0-Encoding: chunked'), NOTHING],
  'TE behind a high byte': [both('Transfer-Encoding: \x80chunked'), NOTHING],
  'TE in another case': [both('tRANSFER-eNCODING: CHUNKED'), MOST_ONE],
  'TE that ends in an x': [both('Transfer-Encoding: chunkedx'), NOTHING],
  'TE that begins with an x': [both('Transfer-Encoding: xchunked'), NOTHING],
  'TE in quotes': [both('Transfer-Encoding: "chunked"'), NOTHING],
  'TE with a parameter': [both('Transfer-Encoding: chunked;q=1'), NOTHING],
  'TE with a comma behind': [both('Transfer-Encoding: chunked,'), NOTHING],
  'TE with a comma before': [both('Transfer-Encoding: , chunked'), NOTHING],
  'TE of nothing': [both('Transfer-Encoding:'), NOTHING],
  'TE identity': [both('Transfer-Encoding: identity'), NOTHING],
  'TE identity, chunked': [both('Transfer-Encoding: identity, chunked'), NOTHING],
  'TE chunked, identity': [both('Transfer-Encoding: chunked, identity'), NOTHING],
  'TE gzip, chunked': [both('Transfer-Encoding: gzip, chunked'), NOTHING],
  'TE chunked, chunked': [both('Transfer-Encoding: chunked, chunked'), NOTHING],
  'TE in two lines': [both('Transfer-Encoding: x\r\nTransfer-Encoding: chunked'), NOTHING],
  'TE in two lines, the other way': [both('Transfer-Encoding: chunked\r\nTransfer-Encoding: x'), NOTHING],
  'TE in a folded line': [both('Transfer-Encoding:\r\n chunked'), NOTHING],
  'TE in the fold of another': [both('X: x\r\n Transfer-Encoding: chunked'), NOTHING],
  'TE behind a bare LF': [both('X: x\nTransfer-Encoding: chunked'), MOST_ONE],
  'TE behind a bare CR': [both('X: x\rTransfer-Encoding: chunked'), NOTHING],
  'TE with an underscore': [both('Transfer_Encoding: chunked'), ONE],
  'TE in HTTP/1.0': [`POST {p} HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${EVIL}`, NOTHING],
  'TE named by Connection': [post('Connection: transfer-encoding, close\r\nTransfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n'), ONE],
  // Content-Length alone.
  'two lengths': [post('Content-Length: 5\r\nContent-Length: 6', 'hello!'), NOTHING],
  'the same length twice': [post('Content-Length: 5\r\nContent-Length: 5\r\nConnection: close', 'hello'), MOST_ONE],
  'a list of lengths': [post('Content-Length: 5, 6', 'hello!'), NOTHING],
  'a list of one length': [post('Content-Length: 5, 5', 'hello'), NOTHING],
  'a length with a plus': [post('Content-Length: +5', 'hello'), NOTHING],
  'a negative length': [post('Content-Length: -5', 'hello'), NOTHING],
  'a hexadecimal length': [post('Content-Length: 0x5', 'hello'), NOTHING],
  'a length with a fraction': [post('Content-Length: 5.0', 'hello'), NOTHING],
  'a length with an exponent': [post('Content-Length: 5e0', 'hello'), NOTHING],
  'a length with a space in it': [post('Content-Length: 5 5', 'hello'), NOTHING],
  'a length behind a vertical tab': [post('Content-Length: \x0b5', 'hello'), NOTHING],
  'a length in other digits': [post('Content-Length: \xd9\xa5', 'hello'), NOTHING],
  'a length of nothing': [post('Content-Length:', 'hello'), NOTHING],
  'a length of 2^64': [post('Content-Length: 18446744073709551616', 'hello'), NOTHING],
  'a length of 2^64 and 5': [post('Content-Length: 18446744073709551621', 'hello'), NOTHING],
  'a length with zeros before': [post('Content-Length: 005\r\nConnection: close', 'hello'), MOST_ONE],
  'a length with a space before its colon': [post('Content-Length : 5', 'hello'), NOTHING],
  'a length with an underscore': [post('Content_Length: 40\r\nContent-Length: 5\r\nConnection: close', 'hello'), ONE],
  'a length named by Connection': [post('Content-Length: 5\r\nConnection: close, content-length', 'hello'), ONE],
  'a length in a folded line': [post('Content-Length:\r\n 5', 'hello'), NOTHING],
  'a length of GET': [get('Content-Length: 5\r\nConnection: close') + 'hello', ONE],
  'a request in the body of GET': [both('Connection: close').replace('POST', 'GET'), ONE],
  'a request in the body of HEAD': [both('Connection: close').replace('POST', 'HEAD'), ONE],
  'a body that is not whole': [post('Content-Length: 50', 'hello'), BROKEN],
  // Chunks.
  'a chunk size with 0x': [chunks('0x5\r\nhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk size with a plus': [chunks('+5\r\nhello\r\n0\r\n\r\n'), BROKEN],
  'a negative chunk size': [chunks('-5\r\nhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk size with an underscore': [chunks('5_\r\nhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk size with a space before': [chunks(' 5\r\nhello\r\n0\r\n\r\n'), MOST_ONE],
  'a chunk size with a space behind': [chunks('5 \r\nhello\r\n0\r\n\r\n'), MOST_ONE],
  'a chunk size of nothing': [chunks('\r\nhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk size of 2^64': [chunks('10000000000000000\r\nhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk size of 2^64 and 5': [chunks('10000000000000005\r\nhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk size of 2^64 - 1': [chunks('ffffffffffffffff\r\nhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk size with zeros before': [chunks('0005\r\nhello\r\n0\r\n\r\n'), ONE],
  'a chunk size that ends in LF': [chunks('5\nhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk size that ends in CR': [chunks('5\rhello\r\n0\r\n\r\n'), BROKEN],
  'a chunk that ends in LF': [chunks('5\r\nhello\n0\r\n\r\n'), BROKEN],
  'a chunk without end': [chunks('5\r\nhelloXX0\r\n\r\n'), BROKEN],
  'a chunk longer than its size': [chunks(`3\r\nhello\r\n0\r\n\r\n`), BROKEN],
  'a chunk with an extension': [chunks('5;name=value\r\nhello\r\n0\r\n\r\n'), ONE],
  'a chunk with a quoted extension': [chunks('5;name="a;b"\r\nhello\r\n0\r\n\r\n'), ONE],
  'a chunk extension with LF': [chunks(`5;a\nhello\r\n0\r\n\r\n${EVIL}`), BROKEN],
  'a chunk extension with CR': [chunks(`5;a\rb\r\nhello\r\n0\r\n\r\n${EVIL}`), MOST_ONE],
  'a chunk extension without end': [chunks(`5;${'a'.repeat(200_000)}`), BROKEN],
  'chunks without the last': [chunks('5\r\nhello\r\n'), BROKEN],
  'a last chunk without its empty line': [chunks('5\r\nhello\r\n0\r\n'), BROKEN],
  'a last chunk of many zeros': [chunks('5\r\nhello\r\n0000\r\n\r\n'), ONE],
  'a length in the trailers': [chunks('5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n'), MOST_ONE],
  'framing and Host in the trailers': [chunks('5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\r\n'), MOST_ONE],
  'a trailer with NUL': [chunks('5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n'), BROKEN],
  'a trailer without a colon': [chunks('5\r\nhello\r\n0\r\nnonsense\r\n\r\n'), BROKEN],
  'a request behind the last chunk, in its trailers': [chunks(`0\r\nX: ${EVIL}`), MOST_ONE],
  // Lines.
  'NUL in a value': [get('X: a\0b'), NOTHING],
  'NUL in a name': [get('X\0: b'), NOTHING],
  'a bare CR in a value': [get('X: a\rContent-Length: 5'), NOTHING],
  'a bare CR in a name': [get('X\r: a'), NOTHING],
  'two CR before LF': [get('X: a\r\r\nY: b'), NOTHING],
  'a folded line': [get('X: a\r\n b'), NOTHING],
  'a fold first of all': [`GET {p} HTTP/1.1\r\n X: y\r\n${HOST}\r\n`, NOTHING],
  'LF alone ends lines': [`GET {p} HTTP/1.1\nHost: localhost\nConnection: close\n\n`, MOST_ONE],
  'a space before the colon': [get('X : a'), NOTHING],
  'a line without a colon': [get('nonsense'), NOTHING],
  'a name of nothing': [get(': a'), NOTHING],
  'a name with a space': [get('X Y: a'), NOTHING],
  'a name in parentheses': [get('X(Y): a'), NOTHING],
  'a value with high bytes': [get('X: \xe4\xff\r\nConnection: close'), MOST_ONE],
  'names with underscores': [get('X_Forwarded_For: 1.2.3.4\r\nX_Y: z\r\nConnection: close'), ONE],
  // Request lines.
  'two spaces': [`GET  {p} HTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'tabs': [`GET\t{p}\tHTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'a space behind the version': [`GET {p} HTTP/1.1 \r\n${HOST}\r\n`, NOTHING],
  'a space before the method': [` GET {p} HTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'empty lines before the method': [`\r\n\r\nGET {p} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`, MOST_ONE],
  'a version in small letters': [`GET {p} http/1.1\r\n${HOST}\r\n`, NOTHING],
  'HTTP/1.10': [get('X: y', '1.10'), NOTHING],
  'HTTP/2.0 in words': [get('X: y', '2.0'), NOTHING],
  'no version': [`GET {p}\r\n`, NOTHING],
  'a method with NUL': [`GE\0T {p} HTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'a method nobody knows': [`EVIL {p} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`, ONE],
  'a target with a control byte': [`GET {p}\x01 HTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'a target with CR': [`GET {p}\rX HTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'a target with line ends in escapes': [`GET {p}/%0d%0aX:%20y HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`, ONE],
  'a target with a fragment': [`GET {p}#x HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`, MOST_ONE],
  'a target without a slash': [`GET x{p} HTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'a target in absolute form': [`GET http://localhost{p} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`, ONE],
  'an absolute form of another host': [`GET http://evil{p} HTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'an absolute form with user info': [`GET http://u@localhost{p} HTTP/1.1\r\n${HOST}\r\n`, NOTHING],
  'CONNECT': [`CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n${EVIL}`, NOTHING],
  // Hosts.
  'no Host': [`GET {p} HTTP/1.1\r\n\r\n`, NOTHING],
  'no Host in HTTP/1.0': [`GET {p} HTTP/1.0\r\n\r\n`, NOTHING],
  'two Hosts': [get('Host: evil'), NOTHING],
  'the same Host twice': [get('Host: localhost'), NOTHING],
  'a Host with user info': [`GET {p} HTTP/1.1\r\nHost: u@localhost\r\n\r\n`, NOTHING],
  'a Host with a path': [`GET {p} HTTP/1.1\r\nHost: localhost/evil\r\n\r\n`, NOTHING],
  'a Host with a list': [`GET {p} HTTP/1.1\r\nHost: localhost, evil\r\n\r\n`, NOTHING],
  'a Host with a port that is none': [`GET {p} HTTP/1.1\r\nHost: localhost:x\r\n\r\n`, NOTHING],
  'a Host of nothing': [`GET {p} HTTP/1.1\r\nHost:\r\n\r\n`, NOTHING],
  'Host named by Connection': [get('Connection: close, host'), ONE],
  // What is about one connection.
  'fields named by Connection': [get('Connection: close, x-secret, x-forwarded-for\r\nX-Secret: 1'), ONE],
  'Upgrade to h2c': [get('Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__'), ONE],
  'Upgrade to something unknown': [get('Connection: Upgrade, close\r\nUpgrade: evil/1'), ONE],
  'Upgrade of a POST': [post('Connection: Upgrade, close\r\nUpgrade: websocket\r\nContent-Length: 5', 'hello'), ONE],
  'Upgrade the app declines, and a request behind it': [get('Connection: Upgrade\r\nUpgrade: websocket') + EVIL.replace('/evil', '/next'), [1, 2]],
  'TE, Keep-Alive and what proxies are told': [get('TE: trailers, gzip\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nProxy-Authorization: x\r\nConnection: close'), ONE],
  'Expect that is unknown': [post('Expect: 200-maybe\r\nContent-Length: 0', ''), NOTHING],
  'Expect of 100-continue and the body at once': [post('Expect: 100-continue\r\nContent-Length: 5\r\nConnection: close', 'hello'), ONE],
  'Expect of 100-continue without a body': [get('Expect: 100-continue\r\nConnection: close'), ONE],
  // One behind the other.
  'two requests at once': [get('X: y') + get('Connection: close'), TWO],
  'a body, then a request': [post('Content-Length: 5', 'hello') + get('Connection: close'), TWO],
  'a chunked body, then a request': [post('Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n') + get('Connection: close'), TWO],
  'a refused head, then a request': [get('Host: evil') + EVIL, NOTHING],
  'a refused coding, then a request': [post('Transfer-Encoding: gzip', EVIL), NOTHING],
  'one byte more than the length': [post('Content-Length: 5', `hello\x01${EVIL}`), ONE],
};

/** A request of somebody honest gets its own answer. */
async function honest(path) {
  const { text } = await exchange(server.ports.http, `GET ${path} HTTP/1.1\r\n${HOST}\r\n`, { enough: wholeAnswer });
  assert.match(text, /^HTTP\/1\.1 200 /);
  assert.ok(text.endsWith(`\r\n\r\n${path}`), text);
}

/** What the app was sent below `path`. */
const seen = (path) => origin.requests.filter(({ target }) => target.startsWith(path));

function judge(path, [least, most]) {
  const requests = seen(path);
  assert.ok(requests.length >= least && requests.length <= most, JSON.stringify(requests));
  for (const { target, headers, trailers } of requests) {
    assert.ok(!target.includes('evil'), target);
    assert.equal(headers.host, 'localhost');
    assert.equal(headers['x-forwarded-for'], '127.0.0.1');
    assert.equal(headers['x-secret'], undefined);
    assert.deepEqual(trailers.filter((line) => /^(content-length|transfer-encoding|host) *:/i.test(line)), []);
  }
  assert.deepEqual(origin.problems, []);
  return requests;
}

test('HTTP/1.1: one clear reading reaches the app, or none', { skip, concurrency: AT_ONCE }, async (t) => {
  await Promise.all(
    Object.entries(CASES).map(([name, [bytes, received]], at) =>
      t.test(name, async () => {
        const path = `/${String(at + 100)}`;
        const { text, closed } = await exchange(server.ports.http, Buffer.from(bytes.replaceAll('{p}', path), 'latin1'));
        assert.ok(closed, text);
        const requests = judge(path, received);
        const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status)).filter((status) => status >= 200);
        const good = statuses.filter((status) => status === 200);
        assert.equal(good.length, requests.length, text);
        assert.ok(statuses.slice(good.length).every((status) => status >= 400 && status !== 500), text);
        assert.ok(statuses.length <= good.length + 1, 'a refusal is the last that is said');
        await honest(`/honest/${at}`);
      }),
    ),
  );
  assert.ok(Object.keys(CASES).length > 100);
});

test('a body of several bytes is what the client sent, however it was framed', { skip }, async () => {
  const cases = { chunks: chunks('5;a=b\r\nhello\r\n01\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n'), length: post('Content-Length: 6\r\nConnection: close', 'hello!') };
  for (const [name, bytes] of Object.entries(cases)) {
    await exchange(server.ports.http, bytes.replaceAll('{p}', `/body/${name}`));
    assert.deepEqual(seen(`/body/${name}`).map(({ body }) => body), ['hello!']);
  }
});

const POST = { method: 'POST' };
const field = (name, value) => (path) => [headers(1, request(path, [[name, value]]))];
const BODY = `0\r\n\r\n`;
const data = (text) => frame('DATA', END_STREAM, 1, Buffer.from(text));
const special = (more) => (path) => [headers(1, request(path, [], more))];

const DOWNGRADES = {
  'a line end in a value': [field('x', 'a\r\nTransfer-Encoding: chunked'), NOTHING],
  'LF in a value': [field('x', 'a\nTransfer-Encoding: chunked'), NOTHING],
  'CR in a value': [field('x', 'a\rTransfer-Encoding: chunked'), NOTHING],
  'a whole request in a value': [(path) => [headers(1, request(path, [['x', `a\r\n\r\nGET ${path}/evil HTTP/1.1\r\nHost: localhost\r\n\r\n`]]))], NOTHING],
  'a line in a name': [field('x: y\r\ntransfer-encoding', 'chunked'), NOTHING],
  'a colon in a name': [field('transfer-encoding: chunked\r\nx', 'y'), NOTHING],
  'a line end in the path': [(path) => [headers(1, request(`${path} HTTP/1.1\r\nHost: localhost\r\n\r\nGET ${path}/evil`))], NOTHING],
  'a space in the path': [(path) => [headers(1, request(`${path} HTTP/1.1`))], NOTHING],
  'an absolute path of another host': [(path) => [headers(1, request(`http://evil${path}`))], NOTHING],
  'a line end in the method': [special({ method: 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET' }), NOTHING],
  'a line end in the authority': [special({ authority: 'localhost\r\nX: y' }), NOTHING],
  'a path in the authority': [special({ authority: 'localhost/evil' }), NOTHING],
  'a line end in the scheme': [special({ scheme: 'https\r\nX: y' }), NOTHING],
  'a scheme with a host in it': [special({ scheme: 'https://evil/x' }), MOST_ONE],
  'Host and authority differ': [field('host', 'evil'), NOTHING],
  'Transfer-Encoding': [(path) => [headers(1, request(path, [['transfer-encoding', 'chunked']], POST), END_HEADERS), data(BODY)], NOTHING],
  'Connection': [field('connection', 'x-forwarded-for'), NOTHING],
  'Upgrade': [field('upgrade', 'h2c'), NOTHING],
  'a length that is too short': [(path) => [headers(1, request(path, [['content-length', '1']], POST), END_HEADERS), data(BODY)], NOTHING],
  'a length that is too long': [(path) => [headers(1, request(path, [['content-length', '100']], POST), END_HEADERS), data(BODY)], NOTHING],
  'a length with a plus': [(path) => [headers(1, request(path, [['content-length', '+5']], POST), END_HEADERS), data(BODY)], NOTHING],
  'a length of a request without a body': [field('content-length', '5'), NOTHING],
  'names with underscores': [(path) => [headers(1, request(path, [['content_length', '50'], ['transfer_encoding', 'chunked']], POST), END_HEADERS), data(BODY)], ONE],
  'trailers that frame': [(path) => [headers(1, request(path, [], POST), END_HEADERS), frame('DATA', 0, 1, Buffer.from(BODY)), headers(1, [['content-length', '9'], ['host', 'evil']])], MOST_ONE],
  'a body without a length': [(path) => [headers(1, request(path, [], POST), END_HEADERS), data(BODY)], ONE],
};

test('HTTP/2: what becomes HTTP/1.1 has one clear reading, or becomes nothing', { skip, concurrency: AT_ONCE }, async (t) => {
  const tls = { ca: server.certificate, servername: 'localhost' };
  await Promise.all(
    Object.entries(DOWNGRADES).map(([name, [frames, received]], at) =>
      t.test(name, async () => {
        const path = `/${String(at + 500)}`;
        const connection = await Frames.ready(server.ports.https, tls);
        connection.send(...frames(path));
        const answer = await connection.until(({ type, error, stream, status }) => stream === 1 && (error || (type === 'HEADERS' && status)));
        const requests = judge(path, received);
        if (requests.length === 0) assert.ok(answer === undefined || answer.error || answer.status >= 400, connection.told());
        else assert.equal(answer.status, 200, connection.told());
        connection.close();
        await honest(`/honest/h2/${at}`);
      }),
    ),
  );
});
