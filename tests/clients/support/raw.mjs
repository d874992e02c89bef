// Bytes on a socket, as no well-behaved client would send them.

import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

const LONGEST_WAIT_MS = 20_000;

/**
 * Sends `bytes` and collects what comes back until `enough(text)` or the other side closes; then closes.
 * @returns `{ text, closed }`: `closed` says that the other side ended the connection.
 */
export function exchange(port, bytes, { enough = () => false, tls, end = false } = {}) {
  return new Promise((resolve, reject) => {
    const socket = tls ? connectTls({ port, host: '127.0.0.1', ...tls }) : connect(port, '127.0.0.1');
    let text = '';
    const done = (closed) => {
      clearTimeout(limit);
      socket.destroy();
      resolve({ text, closed });
    };
    const limit = setTimeout(() => {
      socket.destroy();
      reject(new Error(`neither an answer nor an end within ${LONGEST_WAIT_MS} ms, so far: ${text.slice(0, 200)}`));
    }, LONGEST_WAIT_MS);
    socket.setEncoding('latin1');
    socket.on('data', (chunk) => {
      text += chunk;
      if (enough(text)) done(false);
    });
    socket.on('end', () => done(true));
    socket.on('close', () => done(true));
    // A reset while we still write is an end like any other.
    socket.on('error', () => done(true));
    socket.once(tls ? 'secureConnect' : 'connect', () => (end ? socket.end(bytes) : socket.write(bytes)));
  });
}

/** A whole HTTP/1.1 answer with a Content-Length, or with none to come. */
export function wholeAnswer(text) {
  const [head, body] = text.split(/\r\n\r\n([^]*)/);
  if (body === undefined) return false;
  const length = /^content-length: *(\d+)/im.exec(head);
  return length ? body.length >= Number(length[1]) : /transfer-encoding: *chunked/i.test(head) ? body.endsWith('0\r\n\r\n') : true;
}
