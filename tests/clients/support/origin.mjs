// An app that reads what it is sent as strictly as RFC 9112 can be read, and keeps what has more than one reading.

import { once } from 'node:events';
import { createServer } from 'node:net';

import { undo } from './scope.mjs';

const TOKEN = /^[!#$%&'*+.^`|~0-9A-Za-z-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const CONNECTION_FIELDS = ['connection', 'keep-alive', 'proxy-connection', 'te', 'upgrade', 'proxy-authorization', 'http2-settings'];

/** A problem of a head, in a word. */
function wrong(first, lines) {
  if (!/^[A-Za-z!#$%&'*+.^`|~-]+ (\/[\x21-\x7e\x80-\xff]*|\*) HTTP\/1\.1$/.test(first)) return `request line ${JSON.stringify(first)}`;
  for (const [name, value] of lines) {
    if (value === undefined || !TOKEN.test(name) || !VALUE.test(value)) return `line ${JSON.stringify([name, value])}`;
  }
  const all = (wanted) => lines.filter(([name]) => name.toLowerCase() === wanted).map(([, value]) => value);
  if (all('host').length !== 1) return 'not one Host';
  const [lengths, codings] = [all('content-length'), all('transfer-encoding')];
  if (lengths.length + codings.length > 1) return 'framed twice';
  if (lengths.length > 0 && !/^(0|[1-9][0-9]*)$/.test(lengths[0])) return `length ${lengths[0]}`;
  if (codings.length > 0 && codings[0] !== 'chunked') return `coding ${codings[0]}`;
  const left = lines.find(([name, value]) => CONNECTION_FIELDS.includes(name.toLowerCase()) && value !== 'websocket' && value !== 'upgrade');
  return left && `field of the client's connection: ${left[0]}`;
}

/** The end of a chunked body that begins at `at`: `{ end, body, trailers }`, nothing while it is not whole, or a problem. */
function chunked(text, at) {
  let body = '';
  for (;;) {
    const line = text.indexOf('\r\n', at);
    if (line < 0) return undefined;
    if (!/^[0-9A-Fa-f]{1,8}$/.test(text.slice(at, line))) return `chunk size ${JSON.stringify(text.slice(at, line))}`;
    const size = Number.parseInt(text.slice(at, line), 16);
    at = line + 2;
    if (size === 0) break;
    if (text.length < at + size + 2) return undefined;
    body += text.slice(at, at + size);
    if (text.slice(at + size, at + size + 2) !== '\r\n') return 'a chunk without end';
    at += size + 2;
  }
  const trailers = [];
  for (;;) {
    const line = text.indexOf('\r\n', at);
    if (line < 0) return undefined;
    if (line === at) return { end: at + 2, body, trailers };
    trailers.push(text.slice(at, line));
    at = line + 2;
  }
}

/** The first request of `text`: `{ request, rest }`, nothing while it is not whole, or what is wrong with it. */
function first(text) {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [line, ...rest] = text.slice(0, end).split('\r\n');
  const lines = rest.map((one) => one.split(/: ?([^]*)/, 2));
  const problem = wrong(line, lines);
  if (problem) return problem;
  const [method, target] = line.split(' ');
  const headers = Object.fromEntries(lines.map(([name, value]) => [name.toLowerCase(), value]));
  const request = { method, target, headers, body: '', trailers: [] };
  if (headers['transfer-encoding']) {
    const found = chunked(text, end + 4);
    if (found === undefined || typeof found === 'string') return found;
    return { request: { ...request, body: found.body, trailers: found.trailers }, rest: text.slice(found.end) };
  }
  const until = end + 4 + Number(headers['content-length'] ?? 0);
  if (text.length < until) return undefined;
  return { request: { ...request, body: text.slice(end + 4, until) }, rest: text.slice(until) };
}

/** A strict app on a free port: `{ port, requests, problems }`. It answers each request with its target. */
export async function strictOrigin(t) {
  const [requests, problems, sockets] = [[], [], new Set()];
  const server = createServer((socket) => {
    sockets.add(socket);
    let text = '';
    socket.setEncoding('latin1').on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (chunk) => {
      text += chunk;
      for (let found = first(text); found !== undefined; found = first(text)) {
        if (typeof found === 'string') {
          problems.push(`${found} in ${JSON.stringify(text)}`);
          socket.destroy();
          return;
        }
        requests.push(found.request);
        text = found.rest;
        const body = found.request.method === 'HEAD' ? '' : found.request.target;
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${found.request.target.length}\r\n\r\n${body}`, 'latin1');
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo(t, () => {
    server.close();
    sockets.forEach((socket) => socket.destroy());
  });
  return { port: server.address().port, requests, problems };
}
