// A small file system in memory, to be full or read-only.

import { folder } from './folder.mjs';
import { run } from './process.mjs';
import { undo } from './scope.mjs';

/** Mounts one; unmounted with `t`. Gives nothing, and skips the test, where mounting is not permitted. */
export async function mountTmpfs(t, { size, readOnly = false }) {
  const path = folder(t);
  const options = `size=${size},mode=0700${readOnly ? ',ro' : ''}`;
  const { code, stderr } = await run('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path]);
  if (code !== 0) {
    t.skip(`mounting is not permitted here: ${stderr.trim()}`);
    return undefined;
  }
  undo(t, async () => {
    const unmounted = await run('umount', [path]);
    if (unmounted.code !== 0) throw new Error(unmounted.stderr);
  });
  return path;
}
