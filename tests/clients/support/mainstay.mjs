// A Mainstay of its own for each test: the built binary, port 0 everywhere, a fresh data folder.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { mainstay } from './paths.mjs';
import { output, run, start } from './process.mjs';

const DOORS = ['EDGE__HTTP', 'EDGE__HTTPS', 'CONSOLE__LISTEN', 'S3__LISTEN', 'REDIS__LISTEN', 'SMTP__LISTEN'];

/** The environment of a server whose doors take free ports, and nothing else from ours but `PATH`. */
export function settings(data, extra = {}) {
  const doors = Object.fromEntries(DOORS.map((door) => [`MAINSTAY_${door}`, '127.0.0.1:0']));
  return { PATH: process.env.PATH, ...doors, MAINSTAY_DATA: data, ...extra };
}

/** Runs a command of the binary on the folder `data`: `{ code, stdout, stderr }`. */
export function command(data, words, extra) {
  return run(mainstay, words, { env: settings(data, extra) });
}

/**
 * Starts the server on `data` and waits until it says that it is ready.
 * @returns what apps and tests need: `env`, `status`, `domain`, `ports`, the edge's `certificate`, `pid`, `lines` (the
 *   log), `stop()` and `kill()`. With `quick` only what is known at once.
 */
export async function startMainstay({ data, app, extra, flags = [], quick = false }) {
  const env = settings(data, extra);
  const words = ['serve', ...(app ? ['--app', app] : []), ...flags];
  const server = await start(mainstay, words, { env, name: 'mainstay', ready: (line) => line.includes('ready;') });
  if (quick) return server;
  const ask = async (word) => JSON.parse(await output(mainstay, [word, '--json'], { env }));
  try {
    const status = await ask('status');
    const port = (setting) => {
      const door = status.doors.find((door) => door.setting === setting);
      return door && Number(door.address.split(':').at(-1));
    };
    const ports = {
      http: port('edge.http'),
      https: port('edge.https'),
      console: port('console.listen'),
      s3: port('s3.listen'),
      redis: port('redis.listen'),
      smtp: port('smtp.listen'),
    };
    return {
      ...server,
      data,
      status,
      ports,
      domain: 'localhost',
      env: await ask('env'),
      // The file the manual names for `curl --cacert`.
      certificate: ports.https && readFileSync(join(data, 'edge/self-signed.pem'), 'utf8'),
      kill: () => server.stop('SIGKILL'),
    };
  } catch (error) {
    await server.stop();
    throw error;
  }
}
