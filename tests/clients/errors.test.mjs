// The error trackers' SDKs, as apps have them, against the DSN `mainstay env` prints; what became of their events is
// read with `mainstay issues`.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib';

import { buildSync } from 'esbuild';

import { startChromium } from './support/chromium.mjs';
import { folder } from './support/folder.mjs';
import { event, issues, titled } from './support/issues.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { clients, python } from './support/paths.mjs';
import { output } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';
import { send as sendSigned } from './support/sigv4.mjs';

const file = wholeFile();
let server;
let dsn;

before(async () => {
  server = await startMainstay({ data: folder(file) });
  undo(file, () => server.stop());
  dsn = new URL(server.env.SENTRY_DSN);
});

/** Runs an app's program against a server of its own: that server, and the ids of the events the app sent. */
async function app(t, command, words, extra = {}) {
  const server = await startMainstay({ data: folder(t) });
  undo(t, () => server.stop());
  const env = { PATH: process.env.PATH, SENTRY_DSN: server.env.SENTRY_DSN, ...extra };
  return { server, ids: JSON.parse(await output(command, words, { env, cwd: clients })) };
}

const counts = (found) => found.map((issue) => issue.count).sort();

for (const name of ['@sentry/node', 'sentry-node9']) {
  test(`${name}: events arrive whole and are grouped by where they come from`, async (t) => {
    const { server, ids } = await app(t, process.execPath, [join(clients, 'sentry/node.mjs'), name]);
    assert.equal(ids.length, 8);
    const found = await titled(server, new RegExp(`in ${name}$`), 8);
    assert.deepEqual(counts(found.filter(({ title }) => title.startsWith('Error: no user'))), [1, 2, 2]);
    const wrapped = found.find(({ title }) => title.includes('wrapped'));
    const { exceptions } = await event(server, wrapped);
    assert.deepEqual(exceptions.map(({ kind }) => kind), ['Error', 'TypeError'], 'the cause comes along');

    const late = found.find(({ title }) => title.includes('order 4711'));
    const full = await event(server, late);
    assert.equal(full.id, ids[6]);
    assert.deepEqual([full.release, full.environment, full.server_name], ['shop@1.2.3', 'staging', 'web-1']);
    assert.deepEqual(Object.fromEntries(full.user), { id: '7', email: 'ada@example.com' });
    assert.equal(Object.fromEntries(full.tags).role, 'checkout');
    const crumb = full.breadcrumbs.find(({ category }) => category === 'cart');
    assert.deepEqual([crumb.message, crumb.data], ['added a teapot', [['price', '12']]]);
    assert.match(full.sdk, /^sentry\.javascript\.node /);
    assert.ok(full.contexts.some(([context]) => context === 'runtime'));

    const large = await event(server, found.find(({ title }) => title.includes('a large one')));
    assert.equal(Object.fromEntries(large.extra).password, '[Filtered]');
    const twice = found.find(({ title, count }) => /no user (17|3fa85f64)/.test(title) && count === 2);
    const [frame] = (await event(server, twice)).exceptions[0].frames;
    assert.equal(frame.function, 'loadUser');
    assert.match(frame.source[frame.source_at][1], /throw new Error/);
    assert.equal(frame.source[frame.source_at][0], frame.line);
  });
}

const PYTHON = { brotli: ['br'], gzip: ['gzip'], 'the default': [] };

for (const [name, algorithm] of Object.entries(PYTHON)) {
  test(`sentry-sdk for Python with ${name}`, async (t) => {
    const { server, ids } = await app(t, python, [join(clients, 'python/sentry_roundtrip.py'), name, ...algorithm]);
    const found = await titled(server, new RegExp(`in ${name}$`), 4);
    assert.deepEqual(counts(found.filter(({ title }) => title.startsWith('ValueError'))), [1, 2]);
    const message = await event(server, found.find(({ title }) => title.startsWith('a message')));
    assert.equal(message.id, ids.at(-1));
    assert.equal(message.breadcrumbs.at(-1).message, 'added a teapot');
    const loaded = await event(server, found.find(({ title, count }) => title.startsWith('ValueError') && count === 2));
    const [frame] = loaded.exceptions[0].frames;
    const vars = Object.fromEntries(frame.vars);
    assert.deepEqual([frame.function, vars.secret_token, vars.user], ['load_user', '[Filtered]', '18']);
    const text = JSON.stringify(loaded);
    const [group] = await titled(server, /^KeyError: 'first'$/);
    assert.equal(group.count, 1, 'a group of exceptions is named after a member of it');
    assert.doesNotMatch(text, /hunter2/, 'not even in the lines of source around the frame');
  });
}

test('sentry-sdk 1.9 for Python, which uses the store endpoint', async (t) => {
  const old = join(python, '../../old');
  const { server, ids } = await app(t, python, [join(clients, 'python/sentry_roundtrip.py'), 'version 1'], { PYTHONPATH: old });
  const found = await titled(server, /in version 1$/, 4);
  assert.deepEqual(counts(found.filter(({ title }) => title.startsWith('ValueError'))), [1, 2]);
  assert.equal((await event(server, found.find(({ title }) => title.startsWith('a message')))).id, ids.at(-1));
});

test('raven, from before there were envelopes', async (t) => {
  const { server, ids } = await app(t, process.execPath, [join(clients, 'sentry/raven.mjs')]);
  const [issue] = await titled(server, /from raven/);
  assert.equal((await event(server, issue)).id, ids[0]);
});

test('a browser on a page of another origin sends errors and reads what it is told', async (t) => {
  const { outputFiles } = buildSync({
    stdin: { contents: "export * from '@sentry/browser'", resolveDir: clients },
    bundle: true,
    minify: true,
    format: 'iife',
    globalName: 'Sentry',
    write: false,
  });
  const page = await openPage(t, outputFiles[0].text);
  const sent = await page.evaluate(async (dsn) => {
    Sentry.init({ dsn, release: 'page@1', tracesSampleRate: 0 });
    Sentry.setUser({ id: 'browser' });
    Sentry.captureException(new RangeError('from the browser'));
    setTimeout(() => {
      throw new Error('nobody catches this');
    });
    await new Promise((resolve) => addEventListener('error', resolve, { once: true }));
    return Sentry.flush(20_000);
  }, dsn.href);
  assert.equal(sent, true);
  const [issue] = await titled(server, /^RangeError: from the browser/);
  const full = await event(server, issue);
  assert.deepEqual([full.release, full.platform], ['page@1', 'javascript']);
  assert.match(full.request.url, /^http:\/\/127\.0\.0\.1/);
  const [thrown] = await titled(server, /nobody catches this/);
  assert.equal((await event(server, thrown)).exceptions[0].handled, false);

  const told = await page.evaluate(async ({ url, wrong }) => {
    const body = '{}\n{"type":"event"}\n{"message":"by hand"}';
    const headers = { 'x-of-our-own': 'asks for a preflight' };
    const good = await fetch(url, { method: 'POST', body, headers });
    const bad = await fetch(wrong, { method: 'POST', body });
    return [good.status, (await good.json()).id.length, bad.status, bad.headers.get('x-sentry-error')];
  }, { url: endpoint('envelope', dsn.username), wrong: endpoint('envelope', '0'.repeat(32)) });
  assert.deepEqual(told, [200, 32, 403, 'the key does not belong to this project']);
});

/** A page that has `script`, on an origin of its own. */
async function openPage(t, script) {
  const pages = createServer((request, response) => {
    const isScript = request.url === '/script.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? script : '<!doctype html><title>page</title><script src="/script.js"></script>');
  });
  pages.listen(0, '127.0.0.1');
  await once(pages, 'listening');
  undo(t, () => new Promise((done) => pages.close(done)));
  const browser = await startChromium(t, server);
  undo(t, () => pages.closeAllConnections());
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${pages.address().port}/`);
  return page;
}

const endpoint = (kind, key, project = 1) => `${dsn.origin}/api/${project}/${kind}/?sentry_version=7&sentry_key=${key}`;

/** Sends a body by hand: the status, what the answer says, and the headers it says it with. */
async function send(body, { encoding, kind = 'envelope', url = endpoint(kind, dsn.username), headers = {} } = {}) {
  const all = { ...headers, ...(encoding && { 'content-encoding': encoding }) };
  const answer = await fetch(url, { method: 'POST', body, headers: all, duplex: 'half' });
  assert.equal(answer.headers.get('access-control-allow-origin'), '*', 'every answer can be read anywhere');
  return { status: answer.status, told: await answer.json(), headers: answer.headers };
}

const envelope = (message, header = {}) => Buffer.from(`${JSON.stringify(header)}\n{"type":"event"}\n${JSON.stringify({ message })}\n`);

test('every carrier of the key is taken', async () => {
  const key = dsn.username;
  const bare = `${dsn.origin}/api/1/envelope/`;
  const auth = `Sentry sentry_key=${key}, sentry_version=7, sentry_client=by-hand/1`;
  const carriers = [
    [{ 'x-sentry-auth': auth }, {}],
    [{ authorization: auth }, {}],
    [{ 'x-sentry-auth': `Sentry sentry_version=6, sentry_secret=x, sentry_key=${key}` }, {}],
    [{}, { dsn: dsn.href }],
  ];
  for (const [headers, header] of carriers) {
    assert.equal((await send(envelope('carried', header), { url: bare, headers })).status, 200);
  }
  assert.equal((await send(envelope('carried'), { url: bare.slice(0, -1), headers: { 'x-sentry-auth': auth } })).status, 200);
  const [issue] = await titled(server, /^carried$/, 5);
  assert.equal(issue.count, 5);
  assert.equal((await send(envelope('no key'), { url: bare })).status, 401);
  const strange = { dsn: dsn.href.replace(key, 'f'.repeat(32)) };
  assert.equal((await send(envelope('wrong key', strange), { url: bare })).status, 403);
  for (const project of [0, 2, 'x']) {
    assert.equal((await send(envelope('none'), { url: endpoint('envelope', key, project) })).status, 403, String(project));
  }
});

/** A zstd frame of `blocks` times 128 KiB of spaces, a few bytes each (RFC 8878, 3.1.1). */
function zstdBomb(blocks) {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(blocks << 17);
  const block = (at) => {
    const head = ((1 << 17) << 3) | (1 << 1) | (at === blocks - 1 ? 1 : 0);
    return Buffer.from([head & 255, (head >> 8) & 255, (head >> 16) & 255, 0x20]);
  };
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0]), size, ...Array.from({ length: blocks }, (_, at) => block(at))]);
}

/** `bytes` as a zstd frame of one block that is not compressed. */
function zstdPlain(bytes) {
  const head = (bytes.length << 3) | 1;
  const size = Buffer.alloc(4);
  size.writeUInt32LE(bytes.length);
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0]), size, Buffer.from([head & 255, head >> 8, head >> 16]), bytes]);
}

const SPACES = Buffer.alloc(8 << 20, ' ');
const BODIES = {
  'a bomb in gzip': [gzipSync(SPACES), 'gzip', 413],
  'a bomb in deflate': [deflateSync(SPACES), 'deflate', 413],
  'a bomb in deflate without its header': [deflateRawSync(SPACES), 'deflate', 413],
  'a bomb in brotli': [brotliCompressSync(SPACES), 'br', 413],
  'a bomb in zstd': [zstdBomb(64), 'zstd', 413],
  'a zstd frame that wants a huge window': [zstdBomb(4096), 'zstd', 400],
  'a bomb in a bomb': [gzipSync(gzipSync(Buffer.alloc(64 << 20))), 'gzip', 400],
  'gzip that is none': [Buffer.from('hello'), 'gzip', 400],
  'gzip cut off': [gzipSync(envelope('cut')).subarray(0, -9), 'gzip', 400],
  'an encoding nobody knows': [envelope('x'), 'compress', 415],
  'a body above the cap': [Buffer.alloc((4 << 20) + 1, ' '), undefined, 413],
  'an event above the cap': [Buffer.from(`{}\n{"type":"event"}\n{"message":"${'x'.repeat(1 << 20)}"}`), undefined, 413],
  'no JSON at all': [Buffer.from('hello'), undefined, 400],
  'nothing': [Buffer.alloc(0), undefined, 400],
  'an item cut off': [Buffer.from('{}\n{"type":"event","length":100}\n{}'), undefined, 400],
  'an item header that is none': [Buffer.from('{}\nevent\n{}'), undefined, 400],
  'an event that is a list': [Buffer.from('{}\n{"type":"event"}\n[]'), undefined, 400],
  'an event nested without end': [Buffer.from(`{}\n{"type":"event"}\n${'{"a":'.repeat(1000)}1${'}'.repeat(1000)}`), undefined, 400],
  'a hundred items too many': [Buffer.from(`{}\n${'{"type":"session"}\n{}\n'.repeat(200)}`), undefined, 413],
};

for (const [name, [body, encoding, status]] of Object.entries(BODIES)) {
  test(`${name} is refused`, async () => {
    const { told, headers, ...answer } = await send(body, { encoding });
    assert.equal(answer.status, status, JSON.stringify(told));
    assert.equal(typeof told.detail, 'string');
    assert.ok(headers.get('x-sentry-error'));
    assert.equal((await send(envelope('still serving'))).status, 200);
  });
}

test('every encoding, and items nobody knows, are taken', async () => {
  const text = Buffer.concat([envelope('encoded'), Buffer.from('{"type":"of the future"}\n{}\n')]);
  const encodings = { gzip: gzipSync(text), 'x-gzip': gzipSync(text), deflate: deflateSync(text), br: brotliCompressSync(text), zstd: zstdPlain(text), identity: text };
  for (const [encoding, body] of Object.entries(encodings)) {
    assert.equal((await send(body, { encoding })).status, 200, encoding);
  }
  const [issue] = await titled(server, /^encoded$/, 6);
  assert.equal(issue.count, 6);
});

test('what an event says stays text on a terminal', async () => {
  const evil = '\u001b[2J\u001b]0;owned\u0007<script>alert(1)</script>\r\nFAKE LINE';
  const hostile = {
    exception: { values: [{ type: evil, value: evil, stacktrace: { frames: [{ function: evil, filename: evil, context_line: evil, in_app: true }] } }] },
    user: { id: evil, name: evil },
    tags: { [evil]: evil },
    release: evil,
    environment: evil,
    transaction: evil,
    server_name: evil,
    breadcrumbs: [{ category: evil, message: evil }],
    request: { url: evil, method: evil, headers: [[evil, evil]] },
    contexts: { [evil]: { [evil]: evil } },
    extra: { [evil]: evil },
    platform: evil,
    logger: evil,
    level: evil,
    fingerprint: ['hostile'],
  };
  assert.equal((await send(JSON.stringify(hostile), { kind: 'store' })).status, 200);
  const [issue] = await titled(server, /owned/);
  const { command } = await import('./support/mainstay.mjs');
  for (const words of [[], ['all'], ['show', issue.id], ['event', issue.id], ['resolve', issue.id]]) {
    const { code, stdout } = await command(server.data, ['issues', ...words.map(String)]);
    assert.equal(code, 0);
    assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/, words.join(' '));
    assert.doesNotMatch(stdout, /^FAKE LINE/m, words.join(' '));
  }
});

/** Makes a server log an error: it reads back bytes that somebody changed on its disk. */
async function meetDamage({ data, env }) {
  await sendSigned(env, { method: 'PUT', path: '/damaged' });
  await sendSigned(env, { method: 'PUT', path: '/damaged/file', body: 'x'.repeat(1 << 20) });
  const files = readdirSync(join(data, 'objects'), { recursive: true }).map((name) => join(data, 'objects', name));
  const [blob] = files.sort((a, b) => statSync(b).size - statSync(a).size);
  const bytes = readFileSync(blob);
  bytes[bytes.length >> 1] ^= 1;
  writeFileSync(blob, bytes);
  await sendSigned(env, { method: 'GET', path: '/damaged/file' }).catch(() => {});
}

test('an error of Mainstay itself is an issue of project 0', async () => {
  await meetDamage(server);
  const [issue] = await titled(server, /stored bytes fail their check/);
  assert.equal(issue.project, 0);
  const full = await event(server, issue);
  assert.match(full.release, /^mainstay@\d/);
  assert.equal(full.logger, 'mainstay::objects::service');
  assert.ok(full.breadcrumbs.some(({ message }) => message.startsWith('ready')), 'what was logged before comes along');
});

test('errors of Mainstay itself go to another server, if its DSN says so', async (t) => {
  const extra = { MAINSTAY_ISSUES__OWN_ERRORS: server.env.SENTRY_DSN };
  const other = await startMainstay({ data: folder(t), extra });
  undo(t, () => other.stop());
  await meetDamage(other);
  const found = await issues(server, (all) => all.some(({ project, platform }) => project === 1 && platform === 'native'));
  assert.match(found.find(({ platform, project }) => project === 1 && platform === 'native').title, /stored bytes fail/);
});

test('a flood is told which categories to hold back, and for how long', async (t) => {
  const small = await startMainstay({ data: folder(t), extra: { MAINSTAY_ISSUES__EVENTS_PER_MINUTE: '2' } });
  undo(t, () => small.stop());
  const { origin, username } = new URL(small.env.SENTRY_DSN);
  const url = `${origin}/api/1/envelope/?sentry_key=${username}`;
  const answers = [];
  // Three in a row may lie on both sides of a minute; five cannot all be taken.
  for (let at = 0; at < 5; at += 1) answers.push(await send(envelope('flood'), { url }));
  const refused = answers.find(({ status }) => status === 429);
  assert.match(refused.headers.get('x-sentry-rate-limits'), /^\d+:error;default:project:too_many_events$/);
  assert.match(refused.headers.get('retry-after'), /^\d+$/);
  const session = Buffer.from('{}\n{"type":"session"}\n{}\n');
  assert.equal((await send(session, { url })).status, 200, 'other categories go on');
  const all = await issues(small, (found) => found.length > 0);
  assert.equal(all.length, 1);
});
