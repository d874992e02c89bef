// A folder of its own for each test, gone afterwards.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A fresh folder that `t` (a node:test context or `{ after }`) removes at its end. */
export function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'mainstay-test-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
