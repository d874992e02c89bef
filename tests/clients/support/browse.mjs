// HTTP through the edge as browsers do it: over TLS, by name, with cookies, in HTTP/1.1 or HTTP/2.

import http2 from 'node:http2';
import https from 'node:https';
import tls from 'node:tls';

import { WebSocket } from 'ws';

// Every name leads to this machine.
const lookup = (_host, options, callback) =>
  options.all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4);

/** What both clients share: where the edge is, whom to trust, which cookies came. */
class Client {
  constructor({ domain, ports, certificate }, host = domain) {
    this.origin = `https://${host}:${ports.https}`;
    this.host = host;
    this.port = ports.https;
    this.certificate = certificate;
    this.cookies = new Map();
  }

  headers(extra) {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    return { ...(cookie && { cookie }), ...extra };
  }

  keep(setCookie = []) {
    for (const line of [setCookie].flat()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value === '' || /expires=Thu, 01 Jan 1970/i.test(line)) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
  }

  json(method, path, value) {
    return this.request(method, path, { headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) });
  }

  /** A WebSocket with this client's cookies, and the messages that came so far in `received`. */
  async webSocket(path) {
    const socket = new WebSocket(`wss://${this.host}:${this.port}${path}`, {
      ca: this.certificate,
      lookup,
      headers: this.headers({}),
    });
    socket.inbox = inbox();
    socket.on('message', (data, isBinary) => socket.inbox.put(isBinary ? data : data.toString()));
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    return socket;
  }
}

/** HTTP/1.1 with kept connections. */
export class Http1 extends Client {
  constructor(edge, host) {
    super(edge, host);
    this.agent = new https.Agent({ keepAlive: true, ca: this.certificate, lookup });
  }

  /** The answer once its head is there; `stream` is its body. */
  open(method, path, { headers = {}, body } = {}) {
    return new Promise((resolve, reject) => {
      const request = https.request(`${this.origin}${path}`, { method, agent: this.agent, lookup, headers: this.headers(headers) });
      request.on('error', reject);
      request.on('response', (response) => {
        this.keep(response.headers['set-cookie']);
        resolve({ status: response.statusCode, headers: response.headers, stream: response, close: () => request.destroy() });
      });
      send(request, body, reject);
    });
  }

  async request(method, path, options) {
    return whole(await this.open(method, path, options));
  }

  close() {
    this.agent.destroy();
  }
}

/** HTTP/2, all requests on one connection. */
export class Http2 extends Client {
  async connect() {
    const createConnection = () =>
      tls.connect({ host: '127.0.0.1', port: this.port, servername: this.host, ca: this.certificate, ALPNProtocols: ['h2'] });
    this.session = http2.connect(this.origin, { createConnection });
    await new Promise((resolve, reject) => this.session.once('connect', resolve).once('error', reject));
    return this;
  }

  open(method, path, { headers = {}, body } = {}) {
    return new Promise((resolve, reject) => {
      const head = { ':method': method, ':path': path, ...this.headers(headers) };
      const stream = this.session.request(head, { endStream: body === undefined });
      stream.on('error', reject);
      stream.on('close', () => reject(new Error('aborted before an answer')));
      stream.on('response', (found) => {
        this.keep(found['set-cookie']);
        resolve({ status: found[':status'], headers: found, stream, close: () => stream.close() });
      });
      if (body !== undefined) send(stream, body, reject);
    });
  }

  async request(method, path, options) {
    return whole(await this.open(method, path, options));
  }

  close() {
    this.session?.close();
  }
}

function send(request, body, reject) {
  if (body?.pipe) body.on('error', reject).pipe(request);
  else request.end(body);
}

async function whole({ status, headers, stream }) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const announced = headers['content-length'];
  if (announced !== undefined && bytes.length !== Number(announced)) {
    throw new Error(`aborted after ${bytes.length} of ${announced} bytes`);
  }
  return { status, headers, bytes, text: () => bytes.toString(), json: () => JSON.parse(bytes) };
}

/** A queue that can be waited for: `put(value)`, `await take()`. */
export function inbox() {
  const values = [];
  const waiting = [];
  return {
    put: (value) => (waiting.length > 0 ? waiting.shift()(value) : values.push(value)),
    take: () => (values.length > 0 ? Promise.resolve(values.shift()) : new Promise((resolve) => waiting.push(resolve))),
  };
}

/** The blocks of an event stream, one `take()` each. */
export function eventStream(stream) {
  const blocks = inbox();
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('error', () => {});
  stream.on('data', (text) => {
    const parts = (rest + text).split('\n\n');
    rest = parts.pop();
    parts.forEach((part) => blocks.put(part));
  });
  return blocks;
}
