// The administration interface as a script uses it: plain fetch, a token, and the OpenAPI document as the contract.

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { SESv2Client, SendEmailCommand } from '@aws-sdk/client-sesv2';
import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const file = wholeFile();
const ajv = addFormats(new Ajv({ strict: false, allErrors: true }));
let mainstay;
let data;
let extra;
let base;
let document;
/** The operations that answered with what the document promises. */
const proven = new Set();

before(async () => {
  data = folder(file);
  extra = { MAINSTAY_BACKUP__TARGET: folder(file) };
  mainstay = await startMainstay({ data, extra });
  undo(file, () => mainstay.stop());
  base = mainstay.env.MAINSTAY_URL;
  document = await (await fetch(`${base}/v1/openapi.json`)).json();
  ajv.addSchema(document, 'openapi');
});

/** The operation of the document that `method` and `path` are, and its pattern. */
function operation(method, path) {
  const segments = new URL(path, base).pathname.split('/');
  const fits = (pattern) => {
    const wanted = pattern.split('/');
    return wanted.length === segments.length && wanted.every((part, at) => part.startsWith('{') || part === segments[at]);
  };
  const pattern = Object.keys(document.paths).find(fits);
  return document.paths[pattern]?.[method.toLowerCase()] && { pattern, ...document.paths[pattern][method.toLowerCase()] };
}

function check(schema, value, what) {
  const validate = ajv.getSchema(`openapi#/components/schemas/${schema}`);
  assert.ok(validate(value), `${what}: ${ajv.errorsText(validate.errors)}\n${JSON.stringify(value)}`);
}

/** Sends a request, and holds its answer against the document. */
async function ask(method, path, { token = mainstay.env.MAINSTAY_API_TOKEN, body, headers, raw } = {}) {
  const response = await fetch(`${base}/v1${path}`, {
    method,
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...((body || raw !== undefined) && { 'content-type': 'application/json' }),
      ...headers,
    },
    body: raw ?? (body && JSON.stringify(body)),
  });
  const text = await response.text();
  const kind = response.headers.get('content-type');
  const value = kind?.includes('json') ? JSON.parse(text) : text;
  const what = `${method} ${path} ${response.status}`;
  assert.equal(response.headers.get('access-control-allow-origin'), null);
  if (response.status >= 400) {
    assert.equal(kind, 'application/problem+json', what);
    check('Problem', value, what);
    assert.equal(value.status, response.status);
  } else {
    const known = operation(method, `/v1${path}`);
    const promised = known?.responses[response.status];
    assert.ok(promised, `${what} is not in the document`);
    const schema = promised.content?.[kind]?.schema;
    if (schema?.$ref) check(schema.$ref.split('/').at(-1), value, what);
    proven.add(known.operationId);
  }
  return { status: response.status, headers: response.headers, value };
}

test('the document is valid OpenAPI 3.1', async () => {
  const result = await new Validator().validate(structuredClone(document));
  assert.ok(result.valid, JSON.stringify(result.errors, null, 2));
  assert.equal(document.openapi, '3.1.0');
});

test('nothing is told without a token, or with one that is forged, foreign or revoked', async () => {
  const [, id] = mainstay.env.MAINSTAY_API_TOKEN.split('_');
  const made = (await ask('POST', '/tokens', { body: { label: 'short-lived', scopes: ['read'] } })).value;
  assert.equal((await ask('GET', '/token', { token: made.token })).value.label, 'short-lived');
  assert.ok((await ask('GET', '/tokens')).value.items.some(({ id }) => id === made.id));
  assert.equal((await ask('DELETE', `/tokens/${made.id}`)).status, 204);
  for (const token of [undefined, 'x', `mst_${id}_${'a'.repeat(43)}`, made.token, mainstay.env.AWS_SECRET_ACCESS_KEY]) {
    const { status, headers } = await ask('GET', '/status', { token: token ?? null });
    assert.equal(status, 401);
    assert.match(headers.get('www-authenticate'), /^Bearer realm="mainstay"/);
  }
  const basic = `Basic ${Buffer.from(`x:${mainstay.env.MAINSTAY_API_TOKEN}`).toString('base64')}`;
  assert.equal((await ask('GET', '/status', { token: null, headers: { authorization: basic } })).status, 401);
});

test('a token does what its scopes say and no more', async () => {
  const { code, stdout } = await command(data, ['token', 'create', 'reader']);
  assert.equal(code, 0);
  const token = stdout.trim();
  assert.equal((await ask('GET', '/buckets', { token })).status, 200);
  for (const [method, path, body] of [
    ['POST', '/buckets', { name: 'not-mine' }],
    ['GET', '/tokens'],
    ['POST', '/tokens', { label: 'more', scopes: ['admin'] }],
    ['GET', '/settings'],
    ['GET', '/audit'],
  ]) {
    const { status, headers } = await ask(method, path, { token, body });
    assert.equal(status, 403, path);
    assert.match(headers.get('www-authenticate'), /insufficient_scope/);
  }
});

test('what is not understood is refused as a problem', async () => {
  assert.equal((await ask('GET', '/nothing')).status, 404);
  const { status, headers } = await ask('PUT', '/tokens');
  assert.deepEqual([status, headers.get('allow')], [405, 'GET, POST']);
  assert.equal((await ask('POST', '/buckets', { raw: '{"name":' })).status, 400);
  assert.equal((await ask('POST', '/buckets', { raw: '{"name":"a-bucket","more":1}' })).status, 400);
  assert.equal((await ask('POST', '/buckets', { raw: JSON.stringify({ name: 'x'.repeat(70_000) }) })).status, 413);
  assert.equal((await ask('POST', '/buckets', { raw: 'name=x', headers: { 'content-type': 'text/plain' } })).status, 415);
  assert.equal((await ask('GET', '/audit?limit=1000')).status, 400);
  assert.equal((await ask('GET', '/audit?order=asc')).status, 400);
  assert.equal((await ask('OPTIONS', '/buckets', { headers: { origin: 'https://evil.example' } })).status, 405);
});

test('buckets and objects, through addresses signed here and used by anybody', async () => {
  await ask('POST', '/buckets', { body: { name: 'albums' } });
  const signed = (method, key) => ask('POST', '/buckets/albums/presign', { body: { method, key } });
  const key = 'a b/ü+&.txt';
  const put = (await signed('PUT', key)).value;
  assert.equal((await fetch(put.url, { method: 'PUT', body: 'hello', headers: { 'content-type': 'text/plain' } })).status, 200);
  const get = (await signed('GET', key)).value;
  assert.equal(await (await fetch(get.url)).text(), 'hello');
  assert.equal((await fetch(get.url, { method: 'PUT', body: 'x' })).status, 403);

  const at = `/buckets/albums/object?key=${encodeURIComponent(key)}`;
  const { value: object } = await ask('GET', at);
  assert.deepEqual([object.key, object.size, object.content_type], [key, 5, 'text/plain']);
  for (const name of ['b/1', 'b/2', 'c']) {
    await fetch((await signed('PUT', name)).value.url, { method: 'PUT', body: name });
  }
  const first = (await ask('GET', '/buckets/albums/objects?delimiter=/&limit=2')).value;
  assert.deepEqual(first.prefixes, ['a b/', 'b/']);
  const rest = (await ask('GET', `/buckets/albums/objects?delimiter=/&cursor=${encodeURIComponent(first.next)}`)).value;
  assert.deepEqual([rest.items.map(({ key }) => key), rest.next], [['c'], null]);
  const { value: bucket } = await ask('GET', '/buckets/albums');
  const { objects, bytes, counting, quota_bytes, versioning } = bucket;
  assert.deepEqual([objects, bytes, counting, quota_bytes, versioning, bucket.public], [4, 12, false, null, 'off', false]);
  const moved = await ask('POST', '/buckets/albums/move', { body: { backend: 'local' } });
  assert.deepEqual([bucket.backend, bucket.move, moved.status, moved.value.move.to], ['local', null, 202, 'local']);
  assert.equal(typeof moved.value.move.ended_at, 'string', 'there is no other place');
  assert.equal((await ask('POST', '/buckets/albums/move', { body: { backend: 'none' } })).status, 422);
  const limited = await ask('PATCH', '/buckets/albums', { body: { quota_bytes: 13 } });
  assert.deepEqual([limited.status, limited.value.quota_bytes, limited.value.quota_objects], [200, 13, null]);
  const full = await fetch((await signed('PUT', 'd')).value.url, { method: 'PUT', body: 'dd' });
  assert.deepEqual([full.status, (await full.text()).includes('<Code>XMinioAdminBucketQuotaExceeded</Code>')], [400, true]);
  const rules = { max_file_bytes: 9, allowed_types: ['Text/*'], allowed_extensions: ['.txt'], serve_as_download: true };
  const ruled = (await ask('PATCH', '/buckets/albums', { body: rules })).value;
  assert.deepEqual([ruled.max_file_bytes, ruled.allowed_types, ruled.allowed_extensions, ruled.serve_as_download], [9, ['text/*'], ['txt'], true]);
  assert.equal((await ask('PATCH', '/buckets/albums', { body: { allowed_types: ['text'] } })).status, 400);
  assert.equal((await ask('PATCH', '/buckets/albums', { body: { allowed_extensions: Array(25).fill('a') } })).status, 422);
  assert.equal((await ask('PATCH', '/buckets/albums', { body: { quota: 13 } })).status, 400);
  assert.equal((await ask('PATCH', '/buckets/none', { body: {} })).status, 404);
  assert.equal((await ask('POST', '/buckets/albums/move', { body: { backend: 'No Name' } })).status, 422);
  assert.equal((await ask('POST', '/buckets', { body: { name: 'at-cold', backend: 'nowhere' } })).status, 422);
  // A backup that is under way comes first.
  const rotate = async (name) => {
    for (;;) {
      const answer = await ask('POST', `/buckets/${name}/rotate-key`);
      if (answer.status !== 503) return answer;
    }
  };
  assert.equal((await rotate('none')).status, 404);
  const rotated = await rotate('albums');
  assert.equal(rotated.status, 202);
  while ((await ask('GET', '/buckets/albums')).value.key_change) await new Promise((done) => setImmediate(done));
  assert.equal((await ask('DELETE', '/buckets/albums')).status, 409);
  for (const name of [key, 'b/1', 'b/2', 'c']) {
    await ask('DELETE', `/buckets/albums/object?key=${encodeURIComponent(name)}`);
  }
  assert.equal((await ask('GET', at)).status, 404);
  await ask('DELETE', '/buckets/albums');
  assert.deepEqual((await ask('GET', '/buckets')).value.items, []);
});

test('a scrub is begun and told of', async () => {
  const { status, value } = await ask('POST', '/scrub');
  assert.deepEqual([status, value.damaged, value.every_ms], [202, 0, 30 * 86_400_000]);
  while ((await ask('GET', '/scrub')).value.running) await new Promise((done) => setTimeout(done, 20));
  const { last, next_at, pass } = (await ask('GET', '/scrub')).value;
  assert.ok(pass >= 1 && last.counts.damaged === 0 && Date.parse(next_at) > Date.now());
});

test('an access key is held to its grants, given another secret, and told of', async () => {
  const grants = [{ bucket: 'held', prefix: 'app/', actions: ['append-only'] }];
  const { status, value: key } = await ask('POST', '/access-keys', { body: { label: 'held', grants } });
  assert.equal(status, 201);
  const told = [{ bucket: 'held', prefix: 'app/', actions: ['read', 'list', 'append'] }];
  assert.deepEqual([key.grants, key.mail, key.last_used_at], [told, false, null]);
  const at = `/access-keys/${key.id}`;
  const end = new Date(Date.now() + 3_600_000).toISOString();
  const changed = await ask('PATCH', at, { body: { label: 'other', mail: true, expires_at: end } });
  assert.deepEqual([changed.value.label, changed.value.grants, changed.value.mail], ['other', told, true]);
  assert.ok(changed.value.expires_at);
  const all = await ask('PATCH', at, { body: { grants: null, expires_at: null } });
  assert.deepEqual([all.value.grants, all.value.mail, all.value.expires_at], [null, true, null]);
  const next = await ask('POST', `${at}/rotate`, { body: { overlap_seconds: 60 } });
  assert.ok(next.value.secret !== key.secret && next.value.old_secret_until);
  assert.equal((await ask('POST', `${at}/rotate`, { body: {} })).status, 409);
  assert.equal((await ask('DELETE', `${at}/old-secret`)).status, 204);
  const now = (await ask('GET', '/access-keys')).value.items.find(({ id }) => id === key.id);
  assert.equal(now.old_secret_until, null);
  for (const wrong of [[{ bucket: 'B', actions: ['read'] }], [{ bucket: 'b', actions: ['fly'] }]]) {
    assert.equal((await ask('PATCH', at, { body: { grants: wrong } })).status, 422);
  }
  const past = { label: 'late', expires_at: '2020-01-01T00:00:00Z' };
  assert.equal((await ask('POST', '/access-keys', { body: past })).status, 422);
  const less = (await ask('GET', '/access-keys')).value.items[0].id;
  assert.equal((await ask('DELETE', at)).status, 204);
  assert.equal((await ask('PATCH', `/access-keys/${less}`, { body: { grants } })).status, 409);
  assert.equal((await ask('DELETE', at)).status, 404);
});

test('an access key is changed without a gap, and the old one opens nothing', async () => {
  const first = (await ask('GET', '/access-keys')).value.items[0];
  assert.equal((await ask('DELETE', `/access-keys/${first.id}`)).status, 409);
  await ask('POST', '/buckets', { body: { name: 'kept' } });
  const before = (await ask('POST', '/buckets/kept/presign', { body: { method: 'PUT', key: 'x' } })).value;
  const { value: second } = await ask('POST', '/access-keys', { body: { label: 'next' } });
  assert.equal((await fetch(before.url, { method: 'PUT', body: 'x' })).status, 200);
  assert.equal((await ask('DELETE', `/access-keys/${first.id}`)).status, 204);
  assert.equal((await fetch(before.url, { method: 'PUT', body: 'x' })).status, 403);
  const after = (await ask('POST', '/buckets/kept/presign', { body: { method: 'GET', key: 'x' } })).value;
  assert.match(after.url, new RegExp(second.id));
  assert.equal((await fetch(after.url)).status, 200);
  const { stdout } = await command(data, ['env']);
  assert.match(stdout, new RegExp(`AWS_ACCESS_KEY_ID=${second.id}`));
});

test('captured errors are listed, shown and resolved', async () => {
  const dsn = new URL(mainstay.env.SENTRY_DSN);
  const event = { event_id: 'f'.repeat(32), platform: 'javascript', level: 'error', message: 'the cake is a lie' };
  const header = { event_id: event.event_id, dsn: dsn.href };
  const envelope = [header, { type: 'event' }, event].map((part) => JSON.stringify(part)).join('\n');
  const sent = await fetch(`${dsn.origin}/api/1/envelope/`, {
    method: 'POST',
    headers: { 'x-sentry-auth': `Sentry sentry_version=7, sentry_key=${dsn.username}` },
    body: envelope,
  });
  assert.equal(sent.status, 200);
  let found = [];
  while (found.length === 0) found = (await ask('GET', '/issues?status=open&text=cake')).value.items;
  const [issue] = found;
  const { value: detail } = await ask('GET', `/issues/${issue.id}`);
  assert.equal(detail.issue.count, 1);
  const { value: newest } = await ask('GET', `/issues/${issue.id}/events/latest`);
  assert.equal(newest.event.event_id, event.event_id);
  await ask('GET', `/issues/${issue.id}/events/${newest.number}`);
  await ask('PATCH', `/issues/${issue.id}`, { body: { status: 'resolved' } });
  assert.deepEqual((await ask('GET', '/issues?status=open')).value.items, []);
  const [noted] = (await ask('GET', '/audit?limit=1')).value.items;
  assert.deepEqual([noted.action, noted.subject], ['issue.resolved', String(issue.id)]);
  assert.match(noted.actor, /^token /);
  assert.equal((await ask('GET', '/issues/999')).status, 404);
});

/** A client of the SES door, with the access key of now: a test has changed it. */
async function mailer() {
  const env = JSON.parse((await command(data, ['env', '--json'])).stdout);
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  return new SESv2Client({ region: env.AWS_REGION, endpoint: env.AWS_ENDPOINT_URL_SESV2, credentials });
}

test('messages are listed, shown, saved, tried again and cancelled', async () => {
  const mail = await mailer();
  const send = (to, subject) =>
    mail.send(
      new SendEmailCommand({
        FromEmailAddress: 'shop@example.com',
        Destination: { ToAddresses: [to] },
        Content: { Simple: { Subject: { Data: subject }, Body: { Text: { Data: 'It is on its way.' } } } },
      }),
    );
  await send('ada@example.com', 'Your first order');
  await send('bea@example.com', 'Your second order');
  let kept = [];
  while (kept.length < 2) kept = (await ask('GET', '/mail?state=kept')).value.items;
  const first = (await ask('GET', '/mail?limit=1')).value;
  assert.equal(first.items[0].subject, 'Your second order');
  const rest = (await ask('GET', `/mail?limit=1&cursor=${first.next}`)).value;
  assert.deepEqual([rest.items[0].subject, rest.next], ['Your first order', null]);
  const found = (await ask('GET', '/mail?text=ADA')).value.items;
  assert.deepEqual(found.map(({ to, states }) => [to, states]), [[['ada@example.com'], { kept: 1 }]]);
  const { value: detail } = await ask('GET', `/mail/${found[0].id}`);
  assert.deepEqual([detail.masked, detail.deliveries.map(({ state }) => state)], [false, ['kept']]);
  const raw = await ask('GET', `/mail/${found[0].id}/raw`);
  assert.match(raw.value, /^Subject: Your first order\r$/m);
  assert.equal(raw.headers.get('x-content-type-options'), 'nosniff');
  assert.equal((await ask('POST', `/mail/${found[0].id}/retry`)).status, 409);
  assert.equal((await ask('POST', `/mail/${found[0].id}/cancel`)).status, 409);
  assert.equal((await ask('GET', '/mail?state=lost')).status, 400);
  assert.equal((await ask('GET', `/mail/${'0'.repeat(32)}`)).status, 404);
});

test('what waits in the queue is cancelled, and put back', async () => {
  // The relay is a port nobody listens at: deliveries wait.
  const relay = { MAINSTAY_MAIL__TRANSPORT: 'smtp', MAINSTAY_MAIL__RELAY: 'smtp://127.0.0.1:9' };
  await mainstay.stop();
  mainstay = await startMainstay({ data, extra: { ...extra, ...relay } });
  base = mainstay.env.MAINSTAY_URL;
  const mail = await mailer();
  const Content = { Simple: { Subject: { Data: 'Late' }, Body: { Text: { Data: 'x' } } } };
  await mail.send(new SendEmailCommand({ FromEmailAddress: 'a@example.com', Destination: { ToAddresses: ['b@example.com'] }, Content }));
  let late;
  while (!late) [late] = (await ask('GET', '/mail?state=deferred')).value.items;
  const cancelled = await ask('POST', `/mail/${late.id}/cancel`);
  assert.deepEqual([cancelled.status, cancelled.value.message.states], [200, { cancelled: 1 }]);
  const again = await ask('POST', `/mail/${late.id}/retry`);
  assert.deepEqual([again.status, again.value.message.states], [200, { deferred: 1 }]);
  const actions = (await ask('GET', '/audit?limit=2')).value.items.map(({ action }) => action);
  assert.deepEqual(actions, ['mail.retried', 'mail.cancelled']);
  const reader = (await ask('POST', '/tokens', { body: { label: 'reader', scopes: ['read'] } })).value.token;
  assert.equal((await ask('POST', `/mail/${late.id}/cancel`, { token: reader })).status, 403);
});

test('a backup is started, watched and listed', async () => {
  const before = (await ask('GET', '/backups')).value;
  assert.equal(before.target, extra.MAINSTAY_BACKUP__TARGET);
  // The first one is due at the start; another may still be under way.
  while ((await ask('POST', '/backups')).status !== 202);
  let now;
  do now = (await ask('GET', '/backups')).value;
  while (now.running || !now.last || now.last.started_at === before.last?.started_at);
  assert.deepEqual([now.last.complete, now.failed, now.overdue], [true, null, false]);
  const all = (await ask('GET', '/backups/snapshots')).value.items;
  assert.ok(all.some(({ name }) => name === now.last.snapshots[0].name));
  const page = (await ask('GET', '/backups/snapshots?limit=1&source=mainstay')).value;
  assert.equal(page.items[0].name, all[0].name);
  assert.equal((await ask('GET', '/backups/snapshots?cursor=nothing')).status, 400);
  const reader = (await ask('POST', '/tokens', { body: { label: 'watcher', scopes: ['read'] } })).value.token;
  assert.equal((await ask('POST', '/backups', { token: reader })).status, 403);
  const audit = (await ask('GET', '/audit')).value.items;
  assert.ok(audit.some(({ action, subject }) => action === 'backup.started' && subject === now.target));
});

test('status, settings and the audit log', async () => {
  assert.equal((await ask('GET', '/status')).value.ready, true);
  const settings = (await ask('GET', '/settings')).value.items;
  const listen = settings.find(({ key }) => key === 'console.listen');
  assert.deepEqual([listen.value, listen.source], ['"127.0.0.1:0"', 'MAINSTAY_CONSOLE__LISTEN']);
  const all = [];
  for (let path = '/audit?limit=3'; path; ) {
    const { value } = await ask('GET', path);
    all.push(...value.items);
    path = value.next && `/audit?limit=3&cursor=${value.next}`;
  }
  assert.ok(all.some(({ action }) => action === 'access_key.revoked'));
  assert.ok(all.every(({ sequence }, at) => at === 0 || sequence < all[at - 1].sequence));
  const text = JSON.stringify(all) + JSON.stringify(settings);
  for (const name of ['MAINSTAY_API_TOKEN', 'AWS_SECRET_ACCESS_KEY']) assert.ok(!text.includes(mainstay.env[name]));
});

test('certificates by name, and how they stand', async () => {
  const [self] = (await ask('GET', '/certificates')).value.items;
  assert.deepEqual([self.name, self.origin, self.can_renew], ['localhost', 'self-signed', false]);
  assert.equal((await ask('POST', '/certificates/localhost/renew')).status, 404);
});

test('the root of the internal authority', async () => {
  assert.equal((await ask('GET', '/internal-ca')).status, 404);
  const settings = join(folder(file), 'mainstay.toml');
  writeFileSync(settings, '[edge.internal_ca]\nnames = ["*.home.arpa"]\n');
  const other = await startMainstay({ data: folder(file), flags: ['--config', settings] });
  undo(file, () => other.stop());
  const own = base;
  base = other.env.MAINSTAY_URL;
  const { value } = await ask('GET', '/internal-ca', { token: other.env.MAINSTAY_API_TOKEN });
  base = own;
  const root = new X509Certificate(value.pem);
  assert.deepEqual([root.ca, root.fingerprint256, value.names], [true, value.sha256, ['*.home.arpa']]);
});

test('a certificate is ordered when asked for', async () => {
  const settings = join(folder(file), 'mainstay.toml');
  writeFileSync(
    settings,
    '[edge.acme]\nagree_terms = true\nnames = ["shop.example"]\n[[edge.acme.authorities]]\ndirectory = "https://127.0.0.1:1/dir"\n',
  );
  const other = await startMainstay({ data: folder(file), flags: ['--config', settings] });
  undo(file, () => other.stop());
  const own = base;
  base = other.env.MAINSTAY_URL;
  const { status, value } = await ask('POST', '/certificates/shop.example/renew', { token: other.env.MAINSTAY_API_TOKEN });
  base = own;
  assert.deepEqual([status, value.name, value.can_renew], [202, 'shop.example', true]);
});

test('how the pages of a site are visited', async () => {
  const settings = join(folder(file), 'mainstay.toml');
  writeFileSync(settings, '[[edge.sites]]\nhosts = ["shop.example"]\nredirect = "/x"\nanalytics = true\n');
  const other = await startMainstay({ data: folder(file), flags: ['--config', settings] });
  undo(file, () => other.stop());
  const own = base;
  base = other.env.MAINSTAY_URL;
  const token = other.env.MAINSTAY_API_TOKEN;
  const at = '/sites/shop.example/analytics';
  const { value } = await ask('GET', at, { token });
  assert.deepEqual([value.site, value.views, value.days.length, value.vitals.length], ['shop.example/', 0, 30, 5]);
  const today = value.days.at(-1).day;
  const same = await ask('GET', `/sites/shop.example%2F/analytics?from=${today}&to=${today}`, { token });
  assert.deepEqual(same.value.days.map(({ day }) => day), [today]);
  assert.equal((await ask('GET', `${at}?from=2000-01-01&to=2000-01-02`, { token })).status, 400);
  assert.equal((await ask('GET', `${at}?from=yesterday`, { token })).status, 400);
  assert.equal((await ask('GET', '/sites/other.example/analytics', { token })).status, 404);
  base = own;
});

test('apps behind the edge, and how they do', async () => {
  assert.deepEqual((await ask('GET', '/upstreams')).value.items, []);
});

test('addresses are banned and let go', async () => {
  const made = await ask('POST', '/bans', { body: { address: '203.0.113.7', for: '1h', reason: 'by hand' } });
  assert.equal(made.status, 201);
  assert.deepEqual((await ask('GET', '/bans')).value.items.map(({ address, reason }) => [address, reason]), [['203.0.113.7', 'by hand']]);
  assert.equal((await ask('POST', '/bans', { body: { address: '127.0.0.1' } })).status, 409);
  assert.match((await command(data, ['bans'])).stdout, /^203\.0\.113\.7 +by hand +until 20\S+ \S+ UTC  by hand\n$/);
  assert.equal((await ask('DELETE', '/bans?address=203.0.113.7')).status, 204);
  assert.deepEqual((await ask('GET', '/bans')).value.items, []);
  const { sites, memory, disk } = (await ask('GET', '/cache')).value;
  assert.deepEqual([sites, memory.answers, memory.limit_bytes, disk], [0, 0, 32 << 20, null]);
  assert.deepEqual((await ask('POST', '/cache/purge', { body: { host: 'shop.example' } })).value, { purged: 0 });
  assert.equal((await ask('POST', '/cache/purge', { body: {} })).status, 400);
});

test('a link sets the server up, and makes way for the next one', async () => {
  const link = async () => (await command(data, ['setup-link'])).stdout.trim();
  const [first, second] = [await link(), await link()];
  assert.match(first, /^http:\/\/127\.0\.0\.1:\d+\/setup\?token=[\w-]{54}$/);
  assert.notEqual(first, second);
});

test('an app asks whether an attempt may go on', async () => {
  const who = { ip: '192.0.2.7', email: 'ada@example.com' };
  const check = async (body, policy = 'login') => (await ask('POST', `/limits/${policy}/check`, { body })).value;
  for (const remaining of [4, 3, 2, 1, 0]) assert.equal((await check(who)).remaining, remaining);
  const refused = await check(who);
  assert.deepEqual([refused.allowed, refused.retry_after_seconds <= 900], [false, true]);
  assert.equal((await check({ ...who, email: 'bob@example.com' })).allowed, true);
  const { value: failed } = await ask('POST', '/limits/login/failed', { body: who });
  assert.deepEqual([failed.failures, failed.address_failures, failed.suspicious], [1, 1, false]);
  assert.equal((await ask('POST', '/limits/login/reset', { body: who })).status, 204);
  assert.deepEqual([(await check({ ...who, cost: 0 })).remaining, (await check(who)).failures], [5, 0]);
  const login = (await ask('GET', '/limits')).value.items.find(({ name }) => name === 'login');
  assert.deepEqual([login.limit, login.window_seconds, login.by, login.refused], [5, 900, ['ip+email'], 1]);
  const [rejection] = (await ask('GET', '/limits/rejections')).value.items;
  assert.deepEqual([rejection.policy, rejection.who], ['login', '192.0.2.7 a…@example.com']);
  assert.equal((await ask('POST', '/limits/none/check', { body: who })).status, 404);
  assert.equal((await ask('POST', '/limits/api/check', { body: who })).status, 422);
  assert.equal((await ask('POST', '/limits/login/check', { body: { ...who, ip: 'x' } })).status, 400);
});

test('every operation of the document was seen to answer', () => {
  const all = Object.values(document.paths).flatMap((item) => Object.values(item).map(({ operationId }) => operationId));
  assert.deepEqual(all.filter((id) => !proven.has(id)), []);
});

test('an address that guesses tokens has to wait', async () => {
  let answer;
  for (let guesses = 0; guesses < 40 && answer?.status !== 429; guesses += 1) {
    answer = await ask('GET', '/status', { token: 'mst_guess' });
  }
  assert.equal(answer.status, 429);
  assert.ok(Number(answer.headers.get('retry-after')) > 0);
  assert.equal((await ask('GET', '/status')).status, 429);
});
