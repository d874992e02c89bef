// A small service as many run it: notes with sessions, limits, files, live updates and mail. It keeps nothing itself; what
// it knows lives in Redis and in an S3-compatible store.
//
//   REDIS_URL=… MINIO_ENDPOINT=… MINIO_PORT=… MINIO_ACCESS_KEY=… MINIO_SECRET_KEY=… SESSION_SECRET=… node server.mjs

import { createServer } from 'node:http';

import { RedisStore } from 'connect-redis';
import session from 'express-session';
import { Redis } from 'ioredis';
import { createClient } from 'redis';

import { routes } from './app.mjs';
import { readConfig } from './config.mjs';
import { openErrors } from './errors.mjs';
import { openFiles } from './files.mjs';
import { failedAttempts, slidingWindow } from './limiter.mjs';
import { openLive } from './live.mjs';
import { openMail } from './mail.mjs';
import { notesStore } from './notes.mjs';

const SESSION_SECONDS = 3600;

const config = readConfig(process.env);
const errors = openErrors(config.errors);
const mail = config.mail && openMail(config.mail);
const redis = new Redis(config.redisUrl);
// connect-redis speaks through node-redis.
const sessionRedis = createClient({ url: config.redisUrl });
for (const client of [redis, sessionRedis]) client.on('error', (error) => console.error(`redis: ${error.message}`));
await sessionRedis.connect();

const sessions = session({
  name: 'notes.sid',
  secret: config.sessionSecret,
  store: new RedisStore({ client: sessionRedis, prefix: 'session:', ttl: SESSION_SECONDS }),
  resave: false,
  saveUninitialized: false,
  cookie: { httpOnly: true, sameSite: 'lax', secure: true, maxAge: SESSION_SECONDS * 1000 },
});

const server = createServer();
const live = await openLive(redis, server);
const app = routes({
  sessions,
  errors,
  mail,
  live,
  takeWrite: slidingWindow(redis, { name: 'writes', limit: 30, windowMs: 10_000 }),
  attempts: failedAttempts(redis, { limit: 5, seconds: 900 }),
  notes: notesStore(redis),
  files: await openFiles(config),
  users: { ada: 'lovelace', grace: 'hopper' },
});
server.on('request', app);
server.listen(config.port, '127.0.0.1', () => console.log(`listening on ${server.address().port}`));

process.once('SIGTERM', async () => {
  await live.close();
  server.closeAllConnections();
  server.close();
  mail?.close();
  await Promise.allSettled([redis.quit(), sessionRedis.close(), errors.close()]);
});
