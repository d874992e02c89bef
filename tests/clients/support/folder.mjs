// A folder of its own for each test, gone afterwards.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { undo } from './scope.mjs';

/** A fresh folder that `t` (a test, or `wholeFile()`) removes at its end. */
export function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'mainstay-test-'));
  undo(t, () => rmSync(path, { recursive: true, force: true }));
  return path;
}
