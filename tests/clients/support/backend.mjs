// What the tests run against: Mainstay, or with MAINSTAY_BACKEND=pile the programs it replaces.

import { startMainstay } from './mainstay.mjs';
import { startPile } from './pile.mjs';

export const onPile = process.env.MAINSTAY_BACKEND === 'pile';

/** `{ data, app }` → `{ env, domain, ports: { http, https, redis, s3 }, certificate, stop() }`. */
export function startBackend(options) {
  return onPile ? startPile(options) : startMainstay(options);
}
