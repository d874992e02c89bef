// Has testssl.sh look at the edge, under a name and with a certificate that an authority made for this signs.

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

import { folder } from '../clients/support/folder.mjs';
import { startMainstay } from '../clients/support/mainstay.mjs';
import { output, run } from '../clients/support/process.mjs';

const NAME = 'shop.example.org';
const undone = [];
const work = folder({ after: (step) => undone.push(step) });
const openssl = (line) => output('openssl', line.split(' '), { cwd: work });
await openssl('req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=test -days 90');
await openssl(`req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout srv.key -out srv.csr -subj /CN=${NAME}`);
writeFileSync(join(work, 'srv.ext'), `subjectAltName=DNS:${NAME}\nextendedKeyUsage=serverAuth\n`);
await openssl('x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out srv.pem -days 60 -extfile srv.ext');

const app = createServer((request, response) => response.end('hello')).listen(0, '127.0.0.1');
await once(app, 'listening');
const config = join(work, 'mainstay.toml');
const certificate = `certificate = "${join(work, 'srv.pem')}"\nkey = "${join(work, 'srv.key')}"`;
writeFileSync(config, `[edge]\ndomain = "${NAME}"\napp = "127.0.0.1:${app.address().port}"\n[[edge.certificates]]\n${certificate}\n`);
const server = await startMainstay({ data: join(work, 'data'), flags: ['--config', config] });
try {
  const { stdout: found } = await run('sh', ['-c', 'command -v testssl || command -v testssl.sh']);
  if (!found) throw new Error('testssl.sh is needed, 3.2 or newer');
  const words = ['--color', '0', '--warnings', 'off', '--ip', '127.0.0.1', '-n', 'none', '--add-ca', join(work, 'ca.pem')];
  const { stdout } = await run(found.trim(), [...words, `https://${NAME}:${server.ports.https}/`]);
  console.log(stdout);
  process.exitCode = /^ *Overall Grade +A\+$/m.test(stdout) ? 0 : 1;
} finally {
  await server.stop();
  app.close();
  app.closeAllConnections();
  for (const step of undone) await step();
}
