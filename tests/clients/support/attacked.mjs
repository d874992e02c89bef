// An edge with an app of this process behind it, for tests in which clients misbehave.

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { folder } from './folder.mjs';
import { startMainstay } from './mainstay.mjs';
import { undo } from './scope.mjs';

/** Starts it for the whole `file`, with `waits` as lines of `edge.timeouts`: the server, and how to speak TLS with it. */
export async function attacked(file, app, waits) {
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  undo(file, () => {
    app.close();
    app.closeAllConnections();
  });
  const here = folder(file);
  const config = join(here, 'mainstay.toml');
  writeFileSync(config, `[edge]\nredirect_https = false\napp = "127.0.0.1:${app.address().port}"\n[edge.timeouts]\n${waits}`);
  const server = await startMainstay({ data: join(here, 'data'), flags: ['--config', config] });
  undo(file, () => server.stop());
  return { server, tls: { ca: server.certificate, servername: 'localhost' } };
}
