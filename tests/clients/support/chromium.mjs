// Headless Chromium that finds every name on this machine and trusts one certificate only.

import { createHash, X509Certificate } from 'node:crypto';

import { chromium } from 'playwright-core';

import { folder } from './folder.mjs';
import { undo } from './scope.mjs';

/**
 * A fresh browser profile, gone with `t`; it trusts exactly the edge's `certificate`. `options` are the context's, such as
 * `javaScriptEnabled`, `viewport`, `colorScheme`; with `agent` the whole browser names itself so, also in what it sends when a
 * page is left; with `quic`, a host and port, it asks there over HTTP/3.
 */
export async function startChromium(t, { certificate }, { agent, quic, ...options } = {}) {
  const key = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
  const pin = createHash('sha256').update(key).digest('base64');
  const context = await chromium.launchPersistentContext(folder(t), {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    ...options,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      ...(quic ? ['--enable-quic', `--origin-to-force-quic-on=${quic}`] : ['--disable-quic']),
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--host-resolver-rules=MAP * 127.0.0.1',
      `--ignore-certificate-errors-spki-list=${pin}`,
      ...(agent ? [`--user-agent=${agent}`] : []),
    ],
  });
  undo(t, () => context.close());
  return context;
}
