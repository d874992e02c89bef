// HTTP/3 at the edge, asked with aioquic and with Chromium: what passes to the app and back, what is refused and how, how long
// anybody may take, and how connections end.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { startChromium } from './support/chromium.mjs';
import { folder } from './support/folder.mjs';
import { openHttp3 } from './support/http3.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { output } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const skip = onPile && 'HTTP/3 is Mainstay only';
const file = wholeFile();
const NO_ERROR = 0x100;
const STREAM_CREATION_ERROR = 0x103;
const FRAME_UNEXPECTED = 0x105;
const FRAME_ERROR = 0x106;
const REQUEST_CANCELLED = 0x10c;
const REQUEST_INCOMPLETE = 0x10d;
const MESSAGE_ERROR = 0x10e;
const DECOMPRESSION_FAILED = 0x200;
const ENCODER_STREAM_ERROR = 0x201;
const MIB = 1 << 20;
/** Not localhost: the client takes no certificate for all names below that. */
const NAME = 'edge.example.org';
const LIMIT_MS = 2000;
/** How late a busy machine may be. */
const LATE_MS = 20_000;
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** An app that says what it was asked, and some more. `released` are its slow answers, `closed` tells of answers broken off. */
async function startApp(t) {
  const [waiting, closed, seen] = [new Map(), new Map(), []];
  const server = createServer({ maxHeaderSize: 128 << 10 }, (request, response) => {
    request.on('error', () => {});
    response.on('error', () => {});
    const path = request.url.split('?')[0];
    seen.push(request.url);
    response.on('close', () => closed.get(request.url)?.(response.writableFinished));
    if (path === '/big') return request.resume(), response.end(Buffer.alloc(16 * MIB, 'y'));
    // More than the system's own buffers hold.
    if (path === '/huge') return request.resume(), response.end(Buffer.alloc(64 * MIB));
    if (path === '/empty') return request.resume(), response.writeHead(204).end();
    if (path === '/same') return request.resume(), response.writeHead(304, { etag: '"a"' }).end();
    if (path === '/early') return response.writeHead(403).end('no');
    if (path === '/alt') return request.resume(), response.writeHead(200, { 'alt-svc': 'clear' }).end('alt');
    if (path === '/page') return response.writeHead(200, { 'content-type': 'text/html' }).end('<title>page</title>');
    if (path === '/slow') {
      request.resume();
      response.write('first ');
      waiting.get(request.url)?.(() => response.end('last'));
      return undefined;
    }
    if (path === '/never') return request.resume(), waiting.get(request.url)?.();
    const digest = createHash('sha256');
    let size = 0;
    request.on('data', (data) => {
      size += data.length;
      digest.update(data);
    });
    request.on('end', () => {
      response.setHeader('content-type', 'application/json');
      if (path === '/trailers') response.writeHead(200, { trailer: 'x-sum' }).addTrailers({ 'x-sum': 'seven' });
      const { method, url, headers, trailers } = request;
      response.end(JSON.stringify({ method, url, headers, trailers, size, sha256: digest.digest('hex') }));
    });
    return undefined;
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo(t, () => {
    server.close();
    server.closeAllConnections();
  });
  /** Resolves when `url` is being asked, with what releases the answer. */
  const asked = (url) => new Promise((told) => waiting.set(url, told));
  /** Resolves when the answer to `url` is over: whether it was sent whole. */
  const over = (url) => new Promise((told) => closed.set(url, told));
  return { address: `127.0.0.1:${server.address().port}`, asked, over, seen };
}

/** A server with HTTP/3 and an app; `more` are lines of the file's table `edge`, `tables` come after it. */
async function serve(t, { more = '', tables = '', app } = {}) {
  const origin = app ?? (await startApp(t));
  const [data, here] = [folder(t), folder(t)];
  const config = join(here, 'mainstay.toml');
  writeFileSync(config, `[edge]\nhttp3 = true\ndomain = "${NAME}"\nredirect_https = false\napp = "${origin.address}"\n${more}\n${tables}`);
  const flags = ['--config', config];
  const server = await startMainstay({ data, flags });
  undo(t, () => server.stop());
  const ca = join(data, 'edge/self-signed.pem');
  const open = (one, options) => openHttp3(one, { port: server.ports.https, ca, name: NAME, ...options });
  const metric = async (name) => {
    const text = await (await fetch(`http://127.0.0.1:${server.ports.console}/metrics`)).text();
    return Number(new RegExp(`^${name} ([0-9.]+)$`, 'm').exec(text)?.[1]);
  };
  return { ...server, origin, data, flags, ca, open, metric };
}

let shared;
before(async () => {
  if (!skip) shared = await serve(file, { more: 'access_log = "stdout"\naccess_log_format = "combined"' });
});

test('a request passes to the app as over HTTP/2, and the answer back', { skip }, async (t) => {
  const client = await shared.open(t);
  const fields = [['x-one', 'a'], ['cookie', 'a=1'], ['cookie', 'b=2'], ['content_length', '7'], ['x-forwarded-for', '203.0.113.9']];
  const { status, headers, text } = await client.ask('/here?x=y', { fields });
  assert.equal(status, 200);
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.match(headers.date, /GMT$/);
  assert.equal(headers['content-length'], String(text.length));
  assert.equal(headers['alt-svc'], undefined);
  const seen = JSON.parse(text);
  assert.deepEqual([seen.method, seen.url, seen.size], ['GET', '/here?x=y', 0]);
  assert.equal(seen.headers.cookie, 'a=1; b=2');
  assert.equal(seen.headers.host, `${NAME}:${shared.ports.https}`);
  assert.equal(seen.headers['x-forwarded-for'], '127.0.0.1');
  assert.equal(seen.headers['x-forwarded-proto'], 'https');
  assert.equal(seen.headers.via, '3.0 mainstay');
  assert.equal(seen.headers['content_length'], undefined);
  assert.equal(seen.headers['transfer-encoding'], undefined, 'a request that is over with its head has no body');
  const posted = await client.ask('/post', { method: 'POST', body: 'hello', fields: [['content-length', '5']] });
  assert.equal(JSON.parse(posted.text).sha256, sha256('hello'));
  assert.equal(JSON.parse(posted.text).headers['content-length'], '5');
  const logged = () => shared.lines.some((line) => line.includes('"GET /here?x=y HTTP/3.0" 200'));
  while (!logged()) await new Promise((next) => setTimeout(next, 10));
  assert.ok((await shared.metric('mainstay_edge_http3_handshakes_total')) >= 1);
  assert.ok(shared.status.doors.some((door) => door.setting === 'edge.http3'));
});

test('large bodies pass both ways', { skip }, async (t) => {
  const client = await shared.open(t);
  const size = 5 * MIB;
  const { text } = await client.ask('/up', { method: 'POST', size });
  assert.deepEqual([JSON.parse(text).size, JSON.parse(text).sha256], [size, sha256(Buffer.alloc(size, 'x'))]);
  const down = await client.ask('/big');
  assert.deepEqual([down.size, down.sha256, down.ended], [16 * MIB, sha256(Buffer.alloc(16 * MIB, 'y')), true]);
});

test('trailers pass both ways', { skip }, async (t) => {
  const client = await shared.open(t);
  const fields = [['trailer', 'x-check']];
  const { trailers, text } = await client.ask('/trailers', { method: 'POST', body: 'abc', fields, trailers: [['x-check', 'nine']] });
  assert.equal(trailers['x-sum'], 'seven');
  assert.equal(JSON.parse(text).trailers['x-check'], 'nine');
});

test('an answer without a body has none', { skip }, async (t) => {
  const client = await shared.open(t);
  const [head, empty, same] = [await client.ask('/big', { method: 'HEAD' }), await client.ask('/empty'), await client.ask('/same')];
  assert.deepEqual([head.status, head.size, head.ended], [200, 0, true]);
  assert.deepEqual([empty.status, empty.size, empty.headers['content-length']], [204, 0, undefined]);
  assert.deepEqual([same.status, same.size, same.headers.etag], [304, 0, '"a"']);
});

test('hundreds of requests share a connection', { skip }, async (t) => {
  const client = await shared.open(t);
  const paths = Array.from({ length: 300 }, (_, index) => `/many/${index}`);
  const answers = await Promise.all(paths.map((path) => client.ask(path, { method: 'POST', body: path })));
  answers.forEach(({ text }, index) => {
    assert.deepEqual([JSON.parse(text).url, JSON.parse(text).sha256], [paths[index], sha256(paths[index])]);
  });
});

test('a head that is too large is answered with 431, whatever length it announces', { skip }, async (t) => {
  const client = await shared.open(t);
  // One field of 72,000 bytes, which Huffman's code makes small enough for a frame.
  const packed = await client.raw(`018000afd000002178ffc9de02${'18c6318c63'.repeat(9000)}`);
  assert.equal((await client.answer(packed)).status, 431);
  assert.equal((await client.ask('/', { fields: Array.from({ length: 120 }, (_, index) => [`x-${index}`, 'y']) })).status, 431);
  // HEADERS of a gigabyte, of which the beginning comes.
  const stream = await client.raw(`01bfffffff${'00'.repeat(1000)}`);
  assert.equal((await client.answer(stream)).status, 431);
  assert.equal((await client.ask('/after')).status, 200, 'the connection goes on');
});

test('malformed requests are reset and reach no app', { skip }, async (t) => {
  const client = await shared.open(t);
  const [method, scheme, path] = [[':method', 'GET'], [':scheme', 'https'], [':path', '/malformed']];
  const authority = [':authority', `${NAME}:${shared.ports.https}`];
  const all = [method, scheme, authority, path];
  for (const head of [
    [scheme, authority, path],
    [method, authority, path],
    [method, scheme, authority],
    [...all, path],
    [...all, [':status', '200']],
    [...all, ['x', 'y'], [':authority', 'late.example']],
    [...all, ['Upper', 'case']],
    [...all, ['a b', 'c']],
    [...all, ['x', 'a\r\nb: c']],
    [...all, ['x', ' blank']],
    [...all, ['connection', 'close']],
    [...all, ['transfer-encoding', 'chunked']],
    [...all, ['upgrade', 'websocket']],
    [...all, ['te', 'gzip']],
    [...all, ['content-length', '1'], ['content-length', '2']],
    [...all, ['content-length', 'x']],
    [method, [':scheme', 'http'], authority, path],
    [method, scheme, authority, [':path', '/malformed#x']],
    [method, scheme, authority, [':path', 'malformed']],
    [[':method', 'CONNECT'], [':protocol', 'websocket'], scheme, authority, path],
  ]) {
    const { reset, status } = await client.ask('', { head });
    assert.deepEqual([reset, status], [MESSAGE_ERROR, 0], JSON.stringify(head));
  }
  for (const [head, expected] of [
    [[method, scheme, path], 400],
    [[...all, ['host', 'other.example']], 400],
    [[...all, ['expect', 'magic']], 417],
    [[[':method', 'CONNECT'], [':authority', `${NAME}:22`]], 405],
    [[[':method', 'TRACE'], scheme, authority, path], 405],
  ]) {
    assert.equal((await client.ask('', { head })).status, expected, JSON.stringify(head));
  }
  assert.ok(!shared.origin.seen.some((url) => url.includes('malformed')));
});

test('a body that is not as long as declared, or breaks off, is not taken for whole', { skip }, async (t) => {
  const client = await shared.open(t);
  for (const [declared, body] of [['3', 'four'], ['5', 'four'], ['4', '']]) {
    const over = shared.origin.over(`/length/${declared}${body}`);
    const { reset } = await client.ask(`/length/${declared}${body}`, { method: 'POST', body, fields: [['content-length', declared]] });
    assert.equal(reset, MESSAGE_ERROR, `${declared} for ${body}`);
    if (shared.origin.seen.includes(`/length/${declared}${body}`)) assert.equal(await over, false);
  }
  const stream = await client.begin('/broken', { method: 'POST', end: false });
  // A frame of DATA with ten bytes, of which three come before the stream ends.
  await client.raw('000a616263', { stream, end: true });
  assert.equal((await client.gone()).code, FRAME_ERROR);
});

test('what breaks the protocol ends the connection, with the code that says why', { skip }, async (t) => {
  for (const [hex, options, code] of [
    ['0003616263', {}, FRAME_UNEXPECTED],
    ['0400', {}, FRAME_UNEXPECTED],
    ['0503616263', {}, FRAME_UNEXPECTED],
    ['01030000c0', { end: true }, MESSAGE_ERROR],
    ['0103000080', {}, DECOMPRESSION_FAILED],
    ['0103050000', {}, DECOMPRESSION_FAILED],
    ['01', { end: true }, FRAME_ERROR],
    ['', { end: true }, REQUEST_INCOMPLETE],
    ['00040000', { uni: true }, STREAM_CREATION_ERROR],
    ['01', { uni: true }, STREAM_CREATION_ERROR],
  ]) {
    const client = await shared.open(t);
    const stream = await client.raw(hex, options);
    if (code === MESSAGE_ERROR || code === REQUEST_INCOMPLETE) {
      assert.equal((await client.answer(stream)).reset, code, hex);
    } else {
      assert.equal((await client.gone()).code, code, hex);
    }
  }
  // An instruction for a table that there is not, on the stream the client has for that.
  const client = await shared.open(t);
  assert.equal((await client.ask('/')).status, 200);
  await client.raw('3fe11f', { stream: 6 });
  assert.equal((await client.gone()).code, ENCODER_STREAM_ERROR);
});

test('what is unknown is skipped', { skip }, async (t) => {
  const client = await shared.open(t);
  await client.raw('2164656667', { uni: true });
  // An unknown frame of 64 KiB before the body's.
  const stream = await client.begin('/unknown', { method: 'POST', end: false });
  await client.raw(`2180010000${'00'.repeat(65536)}0003616263`, { stream, end: true });
  assert.equal(JSON.parse((await client.answer(stream)).text).sha256, sha256('abc'));
});

test('who is answered early is told to send no more, and reads the answer', { skip }, async (t) => {
  const client = await shared.open(t);
  const stream = await client.begin('/early', { method: 'POST', body: 'a', end: false });
  const { status, text, ended, reset } = await client.answer(stream);
  assert.deepEqual([status, text, ended, reset], [403, 'no', true, null]);
  while ((await client.answer(stream)).stopped === null) await new Promise((next) => setTimeout(next, 10));
  assert.equal((await client.answer(stream)).stopped, NO_ERROR);
});

test('who takes a request back costs the app no more', { skip }, async (t) => {
  const client = await shared.open(t);
  const [asked, over] = [shared.origin.asked('/never?back'), shared.origin.over('/never?back')];
  const stream = await client.begin('/never?back');
  await asked;
  await client.stop(stream);
  assert.equal(await over, false);
  const slow = shared.origin.asked('/slow?back');
  const broken = shared.origin.over('/slow?back');
  const second = await client.begin('/slow?back');
  await slow;
  assert.equal((await client.head(second)).status, 200);
  await client.cancel(second);
  assert.equal(await broken, false);
  assert.equal((await client.ask('/after')).status, 200);
});

test('nobody may take longer than is set', { skip }, async (t) => {
  const waits = ['head', 'body', 'write'].map((name) => `${name} = "${LIMIT_MS}ms"\n`).join('');
  const server = await serve(t, { tables: `[edge.timeouts]\n${waits}` });
  const timed = async (work) => {
    const began = Date.now();
    const result = await work();
    const took = Date.now() - began;
    assert.ok(took > LIMIT_MS / 4 && took < LIMIT_MS + LATE_MS, `${took} ms`);
    return result;
  };
  // A head that does not go on.
  const head = await server.open(t);
  const stream = await head.raw('0140ff0000');
  assert.equal((await timed(() => head.answer(stream))).reset, REQUEST_INCOMPLETE);
  // A body that does not go on.
  const body = await server.open(t);
  assert.equal((await timed(() => body.ask('/slow-body', { method: 'POST', body: 'a', end: false }))).status, 408);
  // An answer that is not taken.
  const reader = await server.open(t, { window: 65536 });
  await reader.stall();
  const over = server.origin.over('/huge?stalled');
  const stalled = await reader.begin('/huge?stalled');
  const { reset, size } = await timed(() => reader.answer(stalled));
  assert.equal(reset, REQUEST_CANCELLED);
  assert.ok(size <= 65536, `${size} bytes`);
  await over;
  // A connection that asks for nothing.
  const idle = await server.open(t);
  assert.equal((await timed(() => idle.gone())).code, NO_ERROR);
  assert.match(await idle.control(), /0701..$/, 'GOAWAY is the last word');
});

test('places and bans are in force before anything is answered', { skip }, async (t) => {
  const few = await serve(t, { tables: '[edge.limits]\nconnections_per_ip = 1\n' });
  const first = await few.open(t);
  assert.equal((await first.ask('/')).status, 200);
  assert.equal((await few.open(t)).opened, false);
  assert.ok((await few.metric('mainstay_edge_connections_refused_total')) >= 1);

  const server = await serve(t);
  const before = await server.open(t);
  assert.equal((await before.ask('/')).status, 200);
  const { code, stderr } = await command(server.data, ['bans', 'add', '127.0.0.1', '--force']);
  assert.equal(code, 0, stderr);
  assert.equal((await before.ask('/')).status, 403, 'a connection that is open is no way around a ban');
  assert.equal((await server.open(t, { patience: 2 })).opened, false);
  assert.equal((await command(server.data, ['bans', 'remove', '127.0.0.1'])).code, 0);
  const after = await server.open(t);
  assert.equal((await after.ask('/')).status, 200);
});

test('HTTP/1 and HTTP/2 tell of it, where it is and where it serves', { skip }, async (t) => {
  const curl = async (server, host, ...words) => {
    const url = `https://${host}:${server.ports.https}/`;
    const line = ['-sS', '--insecure', '--resolve', `${host}:${server.ports.https}:127.0.0.1`, '-D', '-', '-o', '/dev/null'];
    return /^alt-svc: (.*)\r$/im.exec(await output('curl', [...line, ...words, url]))?.[1];
  };
  const here = `h3=":${shared.ports.https}"; ma=86400`;
  assert.equal(await curl(shared, NAME, '--http1.1'), here);
  assert.equal(await curl(shared, NAME, '--http2'), here);
  assert.equal(await curl(shared, NAME, '-H', `Host: ${NAME}:444`), 'h3=":444"; ma=86400');
  const plain = await fetch(`http://127.0.0.1:${shared.ports.http}/`);
  assert.equal(plain.headers.get('alt-svc'), null);
  const own = await (await shared.open(t)).ask('/alt');
  assert.equal(own.headers['alt-svc'], 'clear');

  const off = await startMainstay({ data: folder(t), app: shared.origin.address });
  undo(t, () => off.stop());
  assert.equal(await curl(off, NAME), undefined);
  assert.ok(!off.status.doors.some((door) => door.setting === 'edge.http3'));
});

test('a site that asks for certificates is no more open over HTTP/3', { skip }, async (t) => {
  const app = await startApp(t);
  const dir = folder(t);
  const line = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=people -days 2';
  await output('openssl', line.split(' '), { cwd: dir });
  const site = (host, rest) => `[[edge.sites]]\nhosts = ["${host}"]\nupstream = "${app.address}"\n${rest}\n`;
  const asks = ['secret', 'asks'].map((name, index) =>
    site(`${name}.example.org`, `client_ca_file = "${join(dir, 'ca.pem')}"\nclient_cert = "${['require', 'request'][index]}"`),
  );
  const server = await serve(t, { app, tables: asks.join('') });
  const client = await server.open(t);
  for (const host of ['secret.example.org', 'asks.example.org']) {
    const head = [[':method', 'GET'], [':scheme', 'https'], [':authority', host], [':path', '/secret']];
    assert.equal((await client.ask('', { head })).status, 421);
  }
  assert.ok(!app.seen.includes('/secret'));
  assert.equal((await client.ask('/open')).status, 200);
});

test('a server that stops finishes what it has, and says so', { skip }, async (t) => {
  const server = await serve(t);
  const client = await server.open(t);
  const asked = server.origin.asked('/slow?stop');
  const stream = await client.begin('/slow?stop');
  const release = await asked;
  await client.head(stream);
  const stopped = server.stop('SIGTERM');
  while (!/0701..$/.test(await client.control())) await new Promise((next) => setTimeout(next, 10));
  release();
  const { text, ended } = await client.answer(stream);
  assert.deepEqual([text, ended], ['first last', true]);
  assert.equal((await client.gone()).code, NO_ERROR);
  await stopped;
});

test('an upgrade finishes what is under way, and the new process goes on', { skip }, async (t) => {
  const server = await serve(t);
  undo(t, async () => {
    const { stdout } = await command(server.data, ['status', '--json']);
    process.kill(JSON.parse(stdout).pid, 'SIGTERM');
    while (true) {
      try {
        process.kill(JSON.parse(stdout).pid, 0);
      } catch {
        return;
      }
      await new Promise((next) => setTimeout(next, 20));
    }
  });
  const client = await server.open(t);
  const asked = server.origin.asked('/slow?upgrade');
  const stream = await client.begin('/slow?upgrade');
  const release = await asked;
  await client.head(stream);
  const { code, stderr } = await command(server.data, ['upgrade']);
  assert.equal(code, 0, stderr);
  while (!/0701..$/.test(await client.control())) await new Promise((next) => setTimeout(next, 10));
  release();
  assert.equal((await client.answer(stream)).text, 'first last');
  await client.gone();
  // The port is handed on as soon as the process before has nothing left on it.
  for (;;) {
    const next = await server.open(t, { patience: 5 });
    if (!next.opened) continue;
    assert.equal((await next.ask('/new')).status, 200);
    return;
  }
});

test('a browser asks over it', { skip }, async (t) => {
  const port = shared.ports.https;
  const context = await startChromium(t, shared, { quic: `${NAME}:${port}` });
  const page = await context.newPage();
  await page.goto(`https://${NAME}:${port}/page`);
  assert.equal(await page.title(), 'page');
  const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  assert.equal(protocol, 'h3');
  const size = await page.evaluate(async () => {
    const body = new Uint8Array(1 << 20).fill(120);
    const up = await (await fetch('/browser', { method: 'POST', body })).json();
    const down = await (await fetch('/big')).arrayBuffer();
    return [up.size, down.byteLength];
  });
  assert.deepEqual(size, [MIB, 16 * MIB]);
});
