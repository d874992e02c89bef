// Where the programs under test and their helpers are.

import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const clients = dirname(dirname(fileURLToPath(import.meta.url)));
export const repository = resolve(clients, '../..');

/** The server under test. */
export const mainstay = resolve(
  repository,
  process.env.MAINSTAY_BIN ?? 'target/x86_64-unknown-linux-gnu/debug/mainstay',
);

/** The Python that has the packages of requirements.txt; `rclone` lies beside it. */
export const python = join(clients, '.venv/bin/python');
