// The HTTP routes.

import express from 'express';
import { pipeline } from 'node:stream/promises';

import { BUCKETS, isMissing } from './files.mjs';
import { limited } from './limiter.mjs';
import { OCCASIONS } from './mail.mjs';

const MOST_JSON = '64kb';
const MOST_BUFFERED = '5mb';

export function routes({ sessions, errors, mail, takeWrite, attempts, notes, files, live, users }) {
  const app = express();
  app.disable('x-powered-by');
  // One proxy stands in front; it says who the client is and that the client came over TLS.
  app.set('trust proxy', 1);

  app.get('/health', (_request, response) => response.json({ ok: true }));
  app.get('/whoami', (request, response) =>
    response.json({ ip: request.ip, protocol: request.protocol, host: request.hostname, http: request.httpVersion }),
  );
  app.use(sessions);
  app.use(errors.middleware);
  sessionRoutes(app, { attempts, users });
  noteRoutes(app, { notes, live, takeWrite });
  fileRoutes(app, { files });
  if (mail) mailRoutes(app, { mail, notes, errors });
  publishRoutes(app, { notes, errors });
  app.get('/events', signedIn, live.events);

  app.use((error, _request, response, next) => {
    if (response.headersSent) return next(error);
    if (isMissing(error)) return response.status(404).json({ error: 'no such file' });
    const status = error.status ?? 500;
    if (status >= 500) errors.capture(error);
    return response.status(status).json({ error: error.message });
  });
  return app;
}

function signedIn(request, response, next) {
  if (request.session.user) return next();
  return response.status(401).json({ error: 'sign in first' });
}

function sessionRoutes(app, { attempts, users }) {
  app.post('/login', express.json({ limit: MOST_JSON }), async (request, response) => {
    const { user, password } = request.body;
    if (await attempts.locked(user)) return response.status(429).json({ error: 'too many attempts' });
    if (typeof password !== 'string' || users[user] !== password) {
      return response.status(401).json({ error: 'wrong name or password', failed: await attempts.failed(user) });
    }
    await attempts.succeeded(user);
    request.session.user = user;
    return response.json({ user });
  });
  app.post('/logout', (request, response, next) =>
    request.session.destroy((error) => (error ? next(error) : response.clearCookie('notes.sid').sendStatus(204))),
  );
  app.get('/me', signedIn, (request, response) => response.json({ user: request.session.user }));
  app.get('/failed-attempts', signedIn, async (_request, response) => response.json(await attempts.all()));
}

function noteRoutes(app, { notes, live, takeWrite }) {
  const body = express.json({ limit: MOST_JSON });
  const found = (response, note) => (note ? response.json(note) : response.status(404).json({ error: 'no such note' }));

  app.get('/notes', signedIn, async (request, response) => {
    const { from, count } = request.query;
    response.json(await notes.list(request.session.user, { from: Number(from ?? 0), count: Number(count ?? 20) }));
  });
  app.post('/notes', signedIn, limited(takeWrite), body, async (request, response) => {
    const note = await notes.create(request.session.user, request.body);
    await live.publish({ kind: 'created', note });
    response.status(201).location(`/notes/${note.id}`).json(note);
  });
  app.get('/notes/:id', signedIn, async (request, response) =>
    found(response, await notes.owned(request.session.user, request.params.id)),
  );
  app.put('/notes/:id', signedIn, body, async (request, response) =>
    found(response, await notes.change(request.session.user, request.params.id, request.body)),
  );
  app.delete('/notes/:id', signedIn, async (request, response) => {
    const removed = await notes.remove(request.session.user, request.params.id);
    response.sendStatus(removed ? 204 : 404);
  });
}

function fileRoutes(app, { files }) {
  app.param('bucket', (_request, response, next, bucket) =>
    BUCKETS.includes(bucket) ? next() : response.status(404).json({ error: 'no such bucket' }),
  );
  const type = (request) => request.get('Content-Type') ?? 'application/octet-stream';
  const path = '/files/:bucket/:name';

  app.get('/files/:bucket', signedIn, async (request, response) =>
    response.json(await files.list(request.params.bucket, request.query.prefix ?? '')),
  );
  // Small files in one piece, whatever their size as a stream.
  app.put('/small/:bucket/:name', signedIn, express.raw({ type: () => true, limit: MOST_BUFFERED }), async (request, response) => {
    const { bucket, name } = request.params;
    const { etag } = await files.putBuffer(bucket, name, request.body, type(request));
    response.status(201).json({ etag });
  });
  app.put(path, signedIn, async (request, response) => {
    const { bucket, name } = request.params;
    const { etag } = await files.putStream(bucket, name, request, type(request));
    response.status(201).json({ etag });
  });
  app.get('/stat/:bucket/:name', signedIn, async (request, response) => {
    const { size, etag, metaData } = await files.stat(request.params.bucket, request.params.name);
    response.json({ size, etag, type: metaData['content-type'] });
  });
  app.get(path, signedIn, async (request, response) => {
    const { bucket, name } = request.params;
    const { size, metaData } = await files.stat(bucket, name);
    const stream = await files.read(bucket, name);
    response.set({ 'Content-Type': metaData['content-type'], 'Content-Length': String(size) });
    await pipeline(stream, response);
  });
  app.delete(path, signedIn, async (request, response) => {
    await files.remove(request.params.bucket, request.params.name);
    response.sendStatus(204);
  });
  app.get('/links/:bucket/:name', signedIn, async (request, response) => {
    const { bucket, name } = request.params;
    response.json({ read: await files.linkToRead(bucket, name), write: await files.linkToWrite(bucket, name) });
  });
}

function mailRoutes(app, { mail, notes, errors }) {
  const body = express.json({ limit: MOST_JSON });
  const address = (request) => `${request.session.user}@example.com`;

  app.post('/mails/:occasion', signedIn, body, async (request, response) => {
    const { occasion } = request.params;
    if (!OCCASIONS.includes(occasion)) return response.status(404).json({ error: 'no such mail' });
    const id = await mail.tell(occasion, request.session.user, address(request), { where: request.ip, ...request.body });
    return response.status(202).json({ id });
  });
  app.post('/notes/:id/share', signedIn, body, async (request, response) => {
    const note = await notes.owned(request.session.user, request.params.id);
    if (!note) return response.status(404).json({ error: 'no such note' });
    errors.note('mail', `sharing note ${note.id}`);
    await mail.share(note, request.session.user, request.body);
    return response.sendStatus(202);
  });
}

/** Publishing is not finished, and fails the way unfinished things do. */
function publishRoutes(app, { notes, errors }) {
  app.post('/notes/:id/publish', signedIn, async (request, response) => {
    const note = await notes.owned(request.session.user, request.params.id);
    errors.note('publish', `publishing note ${note?.id}`);
    response.json({ url: publicAddress(note) });
  });
}

function publicAddress(note) {
  if (!note.slug) throw new Error(`note ${note.id} has no slug`);
  return `/public/${note.slug}`;
}
