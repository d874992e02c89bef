// The edge in front of real apps: Node behind plain HTTP, TLS and HTTP/2, asked by curl; copies that die and come back,
// log-ins, and what the commands say about a request.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import { createServer as createSecure } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { output } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'the edge is Mainstay only';

/** A server of Node on a free port, or on `port`. */
async function listening(t, server, port = 0) {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  undo(t, () => {
    server.close();
    server.closeAllConnections?.();
  });
  return server.address().port;
}

/** An edge with these sites. */
async function edge(t, sites) {
  const [data, here] = [folder(t), folder(t)];
  const file = join(here, 'mainstay.toml');
  writeFileSync(file, `[edge]\nredirect_https = false\n${sites}`);
  const server = await startMainstay({ data, flags: ['--config', file] });
  undo(t, () => server.stop());
  const at = (path) => `http://127.0.0.1:${server.ports.http}${path}`;
  const curl = async (path, ...more) => {
    const text = await output('curl', ['-sS', '-i', '--max-time', '20', ...more, at(path)]);
    const [head, ...body] = text.split('\r\n\r\n');
    return { status: Number(head.split(' ')[1]), head: head.toLowerCase(), body: body.join('\r\n\r\n') };
  };
  const upstreams = async () => {
    const headers = { authorization: `Bearer ${server.env.MAINSTAY_API_TOKEN}` };
    const answer = await fetch(`http://127.0.0.1:${server.ports.console}/v1/upstreams`, { headers });
    assert.equal(answer.status, 200);
    return (await answer.json()).items;
  };
  return { server, file, here, curl, upstreams };
}

test('apps behind TLS and HTTP/2, and one whose certificate nobody vouches for', { skip }, async (t) => {
  const here = folder(t);
  const path = (name) => join(here, name);
  const made = `req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=app.internal -addext subjectAltName=DNS:app.internal -addext basicConstraints=critical,CA:FALSE -keyout ${path('key.pem')} -out ${path('ca.pem')}`;
  await output('openssl', made.split(' '));
  const pair = { key: readFileSync(path('key.pem')), cert: readFileSync(path('ca.pem')) };
  const answer = (how) => (request, response) => response.end(`${how} ${request.httpVersion} ${request.url}`);
  const secure = await listening(t, createSecure(pair, answer('tls')));
  const many = await listening(t, createHttp2(answer('h2c')));
  const { curl } = await edge(
    t,
    `[[edge.sites]]\nupstream = "https://127.0.0.1:${secure}"\nupstream_ca = "${path('ca.pem')}"\nupstream_name = "app.internal"
[[edge.sites]]\npath = "/many"\nupstream = "h2c://127.0.0.1:${many}"
[[edge.sites]]\npath = "/stranger"\nupstream = "https://127.0.0.1:${secure}"\n`,
  );
  assert.equal((await curl('/x')).body, 'tls 1.1 /x');
  assert.equal((await curl('/many')).body, 'h2c 2.0 /many');
  const stranger = await curl('/stranger');
  assert.equal(stranger.status, 502);
  assert.doesNotMatch(stranger.body, /certificate|rustls|127\.0\.0\.1/);
});

test('a copy that dies costs no request, and comes back when its checks are good', { skip }, async (t) => {
  const app = () => createServer((request, response) => response.end(request.url));
  const [one, two] = [app(), app()];
  const ports = [await listening(t, one), await listening(t, two)];
  const { curl, upstreams, server } = await edge(
    t,
    `[[edge.sites]]\nupstreams = ["127.0.0.1:${ports[0]}", "127.0.0.1:${ports[1]}"]\nbalance = "round-robin"
health_path = "/up"\nhealth_interval = "100ms"\nhealth_fall = 1\n`,
  );
  const becomes = async (state) => {
    while ((await upstreams())[0].state !== state) await new Promise((next) => setTimeout(next, 20));
  };
  for (let at = 0; at < 4; at += 1) assert.equal((await curl('/')).status, 200);
  one.close();
  one.closeAllConnections();
  for (let at = 0; at < 10; at += 1) assert.equal((await curl('/')).status, 200);
  await becomes('down');
  const again = app();
  await listening(t, again, ports[0]);
  await becomes('up');
  const metrics = await (await fetch(`http://127.0.0.1:${server.ports.console}/metrics`)).text();
  assert.match(metrics, new RegExp(`mainstay_edge_upstream_requests_total\\{upstream="127.0.0.1:${ports[1]}"\\} \\d+`));
});

test('log-ins in front of an app, by password and by another service', { skip }, async (t) => {
  const seen = [];
  const app = await listening(
    t,
    createServer((request, response) => {
      seen.push(request.headers);
      response.end(`${request.headers['remote-user']} ${request.url}`);
    }),
  );
  const service = await listening(
    t,
    createServer((request, response) => {
      const known = request.headers.cookie === 'session=good' && request.headers['x-original-url']?.endsWith('/wiki/a?b=c');
      if (known) response.writeHead(200, { 'Remote-User': 'grace', 'Remote-Groups': 'staff' }).end();
      else response.writeHead(302, { Location: 'https://auth.example/' }).end();
    }),
  );
  // `open sesame`, by crypt(3).
  const hash = '$2b$08$q7nHHs.x.3v8XFBv4JwBN.kqM5F8Z.nJd4v1fdEcUIX9H5kIE4dXu';
  const { curl, file, server } = await edge(
    t,
    `[[edge.sites]]\nupstream = "127.0.0.1:${app}"\nbasic_auth = ['ada:${hash}']
[[edge.sites]]\npath = "/wiki"\nupstream = "127.0.0.1:${app}"\nstrip_path = true\nauth_url = "http://127.0.0.1:${service}/verify"
redirects = ['^/wiki/old/(.*)$ /wiki/$1 308']\n`,
  );
  assert.equal((await curl('/')).status, 401);
  assert.equal((await curl('/', '-u', 'ada:wrong')).status, 401);
  assert.equal((await curl('/in', '-u', 'ada:open sesame', '-H', 'Remote-User: root')).body, 'ada /in');
  assert.equal(seen.at(-1).authorization, undefined);
  const away = await curl('/wiki/a?b=c', '-H', 'Remote-User: root');
  assert.deepEqual([away.status, /location: https:\/\/auth\.example\//.test(away.head)], [302, true]);
  assert.equal((await curl('/wiki/a?b=c', '-b', 'session=good', '-H', 'Remote-User: root')).body, 'grace /a?b=c');
  assert.equal(seen.at(-1)['remote-groups'], 'staff');
  assert.equal((await curl('/wiki/old/x?y')).status, 308);

  const url = `http://example.com/wiki/a?b=c`;
  const { code, stdout } = await command(server.data, ['--config', file, 'route', 'explain', url, '--method', 'post']);
  assert.equal(code, 0);
  assert.match(stdout, /^site: \*\/wiki$/m);
  assert.match(stdout, /asked for: \/a\?b=c$/m);
  assert.match(stdout, /^log-in: asks 127\.0\.0\.1:\d+\/verify$/m);
});

test('the sites of an nginx configuration, as settings that are taken', { skip }, async (t) => {
  const here = folder(t);
  mkdirSync(join(here, 'sites-enabled'));
  writeFileSync(join(here, 'nginx.conf'), 'events {}\nhttp { include sites-enabled/*; }\n');
  const site = `server { listen 80; server_name shop.example; return 301 https://$host$request_uri; }
server { listen 443 ssl; server_name shop.example; client_max_body_size 8m;
  location / { proxy_pass http://127.0.0.1:3000; proxy_set_header Host $host; }
  location ~ \\.php$ { fastcgi_pass unix:/run/php.sock; } }\n`;
  writeFileSync(join(here, 'sites-enabled/shop'), site);
  const { code, stdout, stderr } = await command(here, ['import', 'nginx', here]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /not translated: .*sites-enabled\/shop:4: location ~ \\\.php\$/);
  writeFileSync(join(here, 'mainstay.toml'), stdout);
  const checked = await command(here, ['--config', join(here, 'mainstay.toml'), 'config', 'check']);
  assert.equal(checked.code, 0, checked.stderr);
  assert.match(checked.stdout, /all are valid/);
});
