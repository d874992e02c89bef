// Captured errors as the operator sees them: `mainstay issues … --json` against a running server.

import { command } from './mainstay.mjs';

/** What a command about issues prints. */
export async function ask(server, ...words) {
  const { code, stdout, stderr } = await command(server.data, ['issues', ...words.map(String), '--json']);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

/** All issues, once `enough(issues)` holds; each event is digested soon after it was answered. */
export async function issues(server, enough = () => true) {
  for (;;) {
    const found = await ask(server, 'all');
    if (enough(found)) return found;
  }
}

/** The issues whose title matches, once there are `count` events of them. */
export async function titled(server, title, count = 1) {
  const of = (all) => all.filter((issue) => title.test(issue.title));
  const enough = (all) => of(all).reduce((sum, issue) => sum + issue.count, 0) >= count;
  return of(await issues(server, enough));
}

/** An event of an issue in full, the newest without a number. */
export const event = (server, issue, ...number) => ask(server, 'event', issue.id, ...number);
