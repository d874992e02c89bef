// The notes app behind an edge, as one thing a test can start.

import { join } from 'node:path';

import { clients } from './paths.mjs';
import { freePort, start } from './process.mjs';
import { folder } from './folder.mjs';
import { startBackend } from './backend.mjs';
import { undo } from './scope.mjs';

/** Starts the server under test, with settings of its own, and the notes app behind it; both end with `t`. */
export async function startNotes(t, extra) {
  const port = await freePort();
  const backend = await startBackend({ data: folder(t), app: `127.0.0.1:${port}`, extra });
  undo(t, () => backend.stop());
  const app = await startApp(backend, port);
  undo(t, () => app.stop());
  return { backend, app };
}

/** The notes app, told nothing but what the server's `env` says. */
export function startApp(backend, port) {
  const env = {
    PATH: process.env.PATH,
    ...backend.env,
    PORT: String(port),
    SESSION_SECRET: 'a secret of the app',
    S3_PUBLIC_URL: `https://s3.${backend.domain}:${backend.ports.https}`,
  };
  return start(process.execPath, [join(clients, 'notes-app/server.mjs')], {
    env,
    name: 'notes-app',
    ready: (line) => line.startsWith('listening on'),
  });
}
