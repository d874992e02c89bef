// The edge beside nginx and Caddy: handshakes, proxying, files and compression in interleaved rounds, then the memory of
// idle connections.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { folder } from '../clients/support/folder.mjs';
import { startMainstay } from '../clients/support/mainstay.mjs';
import { freePort, output, run, start } from '../clients/support/process.mjs';
import { undo } from '../clients/support/scope.mjs';
import { timedHttp1, timedHttp2 } from './loads.mjs';
import { measure, median, number, processorUs, pssMib, table } from './measure.mjs';

const rounds = Number(process.argv[2] ?? 3);
/** Part of a row's name: only such rows are measured then. */
const only = process.argv[3] ?? '';
const IDLE = 10_000;
const temporary = (here) =>
  ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${here}/${name};`).join(' ');

const types = 'types { text/plain txt; application/json json; application/octet-stream bin; }';

/** The headers that Mainstay adds. */
const SECURITY = {
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'SAMEORIGIN',
  'Referrer-Policy': 'strict-origin-when-cross-origin',
  'Permissions-Policy': 'browsing-topics=()',
};

const steps = [];
const scope = { after: (step) => steps.push(step) };

try {
  const here = folder(scope);
  // The peers' workers give up root's rights, and must still reach the files.
  chmodSync(here, 0o755);
  const www = files(here);
  const app = await startApp(here, www);
  const servers = [await startOurs(here, www, app), await startNginx(here, www, app)];
  const caddy = await startCaddy(here, www, app);
  if (caddy) servers.push(caddy);
  else console.log('Caddy is not installed: its columns are left out.\n');
  await compare(servers);
  if ('idle connections'.includes(only)) await idle(servers);
} finally {
  for (const step of steps.reverse()) await step();
}

/** What is served: 1 KiB, 20 KB of something like JSON, 1 MiB. */
function files(here) {
  const www = join(here, 'www');
  mkdirSync(www);
  const line = (at) => `{"id":${at},"name":"person ${(at * 7919) % 1000}","mail":"p${at}@example.com","active":${at % 3 === 0}}`;
  writeFileSync(join(www, '1k.txt'), 'x'.repeat(1024));
  writeFileSync(join(www, '20k.json'), `[${Array.from({ length: 280 }, (_, at) => line(at)).join(',\n')}]`);
  writeFileSync(join(www, '1m.bin'), Buffer.alloc(1 << 20, 'mainstay'));
  return www;
}

/** A one-worker nginx with the files, for all three. */
async function startApp(here, www) {
  const port = await freePort();
  const config = join(here, 'app.conf');
  writeFileSync(
    config,
    `daemon off; pid ${here}/app.pid; worker_processes 1; error_log stderr notice; events { worker_connections 2048; }
     http { access_log off; keepalive_requests 1000000; ${types} ${temporary(here)}
       server { listen 127.0.0.1:${port}; root ${www}; } }`,
  );
  await startProgram('nginx', ['-c', config, '-p', here, '-e', 'stderr'], (line) => line.includes('start worker process'));
  return `127.0.0.1:${port}`;
}

async function startProgram(name, words, ready, more = {}) {
  const program = await start(name, words, { ready, env: { ...process.env, ...more } });
  undo(scope, () => program.stop());
  return program;
}

async function startOurs(here, www, app) {
  const config = join(here, 'mainstay.toml');
  const site = (path, more) => `[[edge.sites]]\npath = "${path}"\n${more}\nstrip_path = true\n`;
  writeFileSync(
    config,
    `[edge]\nredirect_https = false\n[edge.limits]\nconnections = 20000\n[edge.timeouts]\nhead = "5m"\n${site('/', `upstream = "${app}"`)}${site('/files', `root = "${www}"`)}`,
  );
  const off = { MAINSTAY_S3__LISTEN: '', MAINSTAY_REDIS__LISTEN: '', MAINSTAY_SMTP__LISTEN: '' };
  const server = await startMainstay({ data: folder(scope), flags: ['--config', config], extra: off });
  undo(scope, () => server.stop());
  return { name: 'Mainstay', pid: server.pid, plain: server.ports.http, secure: server.ports.https };
}

/** A P-256 certificate for the peers; Mainstay makes such a one itself. */
async function certificate(here) {
  const made = { pem: join(here, 'edge.pem'), key: join(here, 'edge.key') };
  const ask = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost';
  await output('openssl', [...ask.split(' '), '-keyout', made.key, '-out', made.pem]);
  chmodSync(made.key, 0o644);
  return made;
}

async function startNginx(here, www, app) {
  const [plain, secure, { pem, key }] = [await freePort(), await freePort(), await certificate(here)];
  const config = join(here, 'nginx.conf');
  const server = `
    ${Object.entries(SECURITY).map(([name, value]) => `add_header ${name} "${value}" always;`).join(' ')}
    location / {
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    }
    location /files/ { alias ${www}/; }`;
  writeFileSync(
    config,
    `daemon off; pid ${here}/nginx.pid; worker_processes 2; worker_rlimit_nofile 20000; error_log stderr notice;
     events { worker_connections 16384; }
     http {
       access_log ${here}/access.log; keepalive_requests 1000000; keepalive_timeout 300s; sendfile on; ${types} ${temporary(here)}
       open_file_cache max=100; gzip on; gzip_comp_level 4; gzip_proxied any; gzip_types application/json;
       ssl_certificate ${pem}; ssl_certificate_key ${key}; ssl_protocols TLSv1.2 TLSv1.3;
       upstream app { server ${app}; keepalive 64; }
       server { listen 127.0.0.1:${plain} reuseport; ${server} }
       server { listen 127.0.0.1:${secure} ssl http2 reuseport; ${server} }
     }`,
  );
  const program = await startProgram('nginx', ['-c', config, '-p', here, '-e', 'stderr'], (line) => line.includes('start worker process'));
  return { name: 'nginx', pid: program.pid, plain, secure };
}

/** Caddy, where it is installed. */
async function startCaddy(here, www, app) {
  const known = await run('caddy', ['version']).catch(() => undefined);
  if (known?.code !== 0) return undefined;
  const [plain, secure] = [await freePort(), await freePort()];
  const { pem, key } = { pem: join(here, 'edge.pem'), key: join(here, 'edge.key') };
  const config = join(here, 'Caddyfile');
  const headers = Object.entries(SECURITY).map(([name, value]) => `?${name} "${value}"`).join('\n');
  const site = `
    bind 127.0.0.1
    header {
      ${headers}
    }
    encode gzip
    handle_path /files/* {
      root * ${www}
      file_server
    }
    handle {
      reverse_proxy ${app}
    }`;
  writeFileSync(
    config,
    `{\n admin off\n auto_https off\n storage file_system ${here}/caddy\n}
http://localhost:${plain} {${site}\n}
https://localhost:${secure} {\n tls ${pem} ${key}${site}\n}\n`,
  );
  const words = ['run', '--config', config, '--adapter', 'caddyfile'];
  // It saves its configuration where the user's are.
  const program = await startProgram('caddy', words, (line) => line.includes('serving initial configuration'), { XDG_CONFIG_HOME: here });
  return { name: 'Caddy', pid: program.pid, plain, secure };
}

async function compare(servers) {
  const plain = (path) => (server) => timedHttp1(`http://127.0.0.1:${server.plain}${path}`);
  const secure = (path, ...headers) => (server) => timedHttp1(`https://localhost:${server.secure}${path}`, ...headers);
  const many = (path) => (server) => timedHttp2(`https://localhost:${server.secure}${path}`);
  const rows = [
    ['full handshake and 1 KiB', secure('/files/1k.txt', 'Connection: close')],
    ['proxied 1 KiB, HTTP/1.1', plain('/1k.txt')],
    ['proxied 1 KiB, HTTP/1.1 TLS', secure('/1k.txt')],
    ['proxied 1 KiB, HTTP/2 TLS', many('/1k.txt')],
    ['file of 1 KiB, HTTP/1.1 TLS', secure('/files/1k.txt')],
    ['file of 1 KiB, HTTP/2 TLS', many('/files/1k.txt')],
    ['file of 1 MiB, HTTP/1.1 TLS', secure('/files/1m.bin')],
    ['proxied 20 KB, gzip, HTTP/1.1 TLS', secure('/20k.json', 'Accept-Encoding: gzip')],
  ].filter(([name]) => name.includes(only));
  const found = rows.map(() => new Map(servers.map((server) => [server, []])));
  for (let round = 0; round < rounds; round += 1) {
    for (const [at, [name, load]] of rows.entries()) {
      for (const server of round % 2 === 0 ? servers : servers.toReversed()) {
        let times;
        const taken = await measure(server.pid, async () => (times = await load(server)()).count);
        found[at].get(server).push({ ...taken, p99: times.p99, pss: pssMib(server.pid) });
      }
      console.error(`round ${round + 1} of ${rounds}: ${name}`);
    }
  }
  const middle = (at, server, what) => median(found[at].get(server).map((one) => one[what]));
  const names = servers.map(({ name }) => name);
  const sheet = (title, what, show) => {
    const line = ([name], at) => [name, ...servers.map((server) => show(middle(at, server, what)))];
    if (rows.length > 0) table([[title, ...names], ...rows.map(line)]);
    console.log();
  };
  const cost = ([name], at) => {
    const costs = servers.map((server) => middle(at, server, 'cost'));
    return [name, ...costs.map((us) => us.toFixed(1)), ...costs.slice(1).map((us) => (costs[0] / us).toFixed(2))];
  };
  if (rows.length > 0) table([['CPU µs a request', ...names, ...names.slice(1).map((name) => `of ${name}`)], ...rows.map(cost)]);
  console.log();
  sheet('requests a second', 'rate', number);
  sheet('p99, ms', 'p99', (ms) => ms.toFixed(2));
  sheet('PSS after it, MiB', 'pss', number);
}

/** Connections to `port` on this machine that stand, as the server sees them. */
function standing(port) {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n').map((line) => line.trim().split(/\s+/));
  return lines.filter((fields) => fields[1]?.endsWith(local) && fields[3] === '01').length;
}

/** Waits until `value()` has been the same for `span` ms, looking every 100 ms, 10 s at most; gives it. */
async function settled(value, span) {
  let [last, same] = [value(), 0];
  for (let look = 0; same < span && look < 100; look += 1) {
    await new Promise((next) => setTimeout(next, 100));
    const now = value();
    same = now === last ? same + 100 : 0;
    last = now;
  }
  return last;
}

/**
 * What a TLS connection takes that has asked once and is silent: `IDLE` of them, or as many as there are descriptors for. They
 * come a thousand at a time, as clients do not all begin at once.
 */
async function idle(servers) {
  const most = Number(await output('bash', ['-c', 'ulimit -n'])) || IDLE;
  const batches = Math.floor(Math.min(IDLE, most - 1000) / 1000);
  const script = join(folder(scope), 'idle.lua');
  // wrk asks for a wait before each request; all but a connection's first wait for longer than this takes.
  writeFileSync(script, 'local asked = 0\nfunction delay()\n  asked = asked + 1\n  return asked > 1000 and 3600000 or 0\nend\n');
  const lines = [['idle TLS connections', 'number', 'PSS before, MiB', 'with them', 'KiB each']];
  for (const server of servers) {
    const before = pssMib(server.pid);
    const loads = [];
    for (let batch = 0; batch < batches; batch += 1) {
      const words = ['-t', '1', '-c', '1000', '-d', '300s', '--timeout', '300s', '-s', script, '-H', 'Host: localhost'];
      loads.push(await start('wrk', [...words, `https://localhost:${server.secure}/files/1k.txt`]));
      // Nothing is being done for them any more.
      await settled(() => `${standing(server.secure)} ${processorUs(server.pid)}`, 300);
    }
    // Allocators give back what the handshakes took a moment later.
    const with_ = await settled(() => pssMib(server.pid), 2500);
    const count = standing(server.secure);
    await Promise.all(loads.map((load) => load.stop()));
    await settled(() => standing(server.secure), 300);
    lines.push([server.name, String(count), number(before), number(with_), (((with_ - before) * 1024) / count).toFixed(1)]);
  }
  table(lines);
}
