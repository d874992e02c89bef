// The pile Mainstay replaces: nginx, redis-server and `rclone serve s3`, behind the same face as a running Mainstay.
// `MAINSTAY_BACKEND=pile node --test notes.test.mjs` shows that a test asks for nothing the originals do not do.

import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

import { python } from './paths.mjs';
import { freePort, output, start } from './process.mjs';

const PASSWORD = 'pile-password';
const KEY = { id: 'PILEACCESSKEY0000001', secret: 'pile-secret-key-0000000000000000000000001' };

export async function startPile({ data, app }) {
  const ports = { https: await freePort(), plain: await freePort(), http: await freePort(), redis: await freePort(), s3: await freePort() };
  const certificate = await selfSigned(data);
  const running = [];
  const folder = (name) => {
    mkdirSync(join(data, name), { recursive: true });
    return join(data, name);
  };
  running.push(
    await start('redis-server', ['--port', ports.redis, '--bind', '127.0.0.1', '--requirepass', PASSWORD, '--appendonly', 'yes', '--dir', folder('redis')].map(String), {
      ready: (line) => line.includes('Ready to accept connections'),
    }),
  );
  running.push(
    await start(join(python, '..', 'rclone'), ['serve', 's3', '--addr', `127.0.0.1:${ports.s3}`, '--auth-key', `${KEY.id},${KEY.secret}`, '-v', folder('s3')], {
      ready: (line) => line.includes('Starting s3 server'),
    }),
  );
  const config = join(data, 'nginx.conf');
  writeFileSync(config, nginxConfig({ data, ports, app, certificate }));
  running.push(await start('nginx', ['-c', config, '-p', data, '-e', 'stderr'], { ready: (line) => line.includes('start worker process') }));
  await accepting(ports.https);
  return {
    domain: 'localhost',
    ports,
    certificate: certificate.pem,
    env: {
      REDIS_URL: `redis://:${PASSWORD}@127.0.0.1:${ports.redis}`,
      MINIO_ENDPOINT: '127.0.0.1',
      MINIO_PORT: String(ports.s3),
      MINIO_USE_SSL: 'false',
      MINIO_ACCESS_KEY: KEY.id,
      MINIO_SECRET_KEY: KEY.secret,
      AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${ports.s3}`,
      AWS_ACCESS_KEY_ID: KEY.id,
      AWS_SECRET_ACCESS_KEY: KEY.secret,
      AWS_REGION: 'us-east-1',
    },
    pids: running.map((program) => program.pid),
    stop: () => Promise.all(running.map((program) => program.stop())),
  };
}

async function selfSigned(data) {
  const names = 'subjectAltName=DNS:localhost,DNS:s3.localhost,IP:127.0.0.1';
  const files = { pem: join(data, 'edge.pem'), key: join(data, 'edge.key') };
  const ask = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  await output('openssl', [...ask, '-subj', '/CN=localhost', '-addext', names, '-keyout', files.key, '-out', files.pem]);
  const { readFileSync } = await import('node:fs');
  return { files, pem: readFileSync(files.pem, 'utf8') };
}

const nginxConfig = ({ data, ports, app, certificate }) => `
daemon off; pid ${data}/nginx.pid; worker_processes 2; error_log stderr notice;
events { worker_connections 1024; }
http {
  access_log off; client_max_body_size 0; proxy_request_buffering off; proxy_buffering off;
  client_body_temp_path ${data}/body; proxy_temp_path ${data}/proxy; fastcgi_temp_path ${data}/fastcgi;
  uwsgi_temp_path ${data}/uwsgi; scgi_temp_path ${data}/scgi;
  ssl_certificate ${certificate.files.pem}; ssl_certificate_key ${certificate.files.key}; ssl_protocols TLSv1.2 TLSv1.3;
  keepalive_requests 1000000; map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream app { server ${app ?? '127.0.0.1:9'}; keepalive 64; }
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  server { listen 127.0.0.1:${ports.http}; location / { return 308 https://localhost:${ports.https}$request_uri; } }
  server {
    listen 127.0.0.1:${ports.https} ssl http2 default_server;
    add_header X-Content-Type-Options nosniff always;
    location / { proxy_pass http://app; }
  }
  server { listen 127.0.0.1:${ports.plain}; location / { proxy_pass http://app; } }
  server {
    listen 127.0.0.1:${ports.https} ssl http2;
    server_name s3.localhost;
    location / { proxy_pass http://127.0.0.1:${ports.s3}; }
  }
}
`;

function accepting(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket.end()));
    socket.on('error', reject);
  });
}
