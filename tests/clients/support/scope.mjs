// Cleaning up in the right order: what was made last goes first. (node:test runs its `after` steps first come, first
// served, which would remove a folder under a running server.)

import { after } from 'node:test';

const scopes = new WeakMap();

/** Runs `step` when `t` ends, before the steps that were given earlier. */
export function undo(t, step) {
  if (!scopes.has(t)) {
    const steps = [];
    scopes.set(t, steps);
    t.after(async () => {
      for (const each of steps.reverse()) await each();
    });
  }
  scopes.get(t).push(step);
}

/** A scope for what all tests of a file share; call it at the file's top level. */
export function wholeFile() {
  const file = { after };
  undo(file, () => {});
  return file;
}
