// A WebSocket frame by frame (RFC 6455), so that a client can send what no library would.

import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

const LONGEST_WAIT_MS = 60_000;
export const [TEXT, BINARY, CLOSE, PING, PONG] = [1, 2, 8, 9, 10];
export const CONTINUATION = 0;

/** A client's frame. `mask` may be `null`, `length` a form that is longer than it must be (7, 16 or 64). */
export function wsFrame(opcode, payload = '', { fin = true, rsv = 0, mask = [1, 2, 3, 4], length } = {}) {
  const body = Buffer.from(payload);
  const form = length ?? (body.length < 126 ? 7 : body.length < 65_536 ? 16 : 64);
  const head = Buffer.alloc({ 7: 2, 16: 4, 64: 10 }[form]);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (mask ? 0x80 : 0) | { 7: body.length, 16: 126, 64: 127 }[form];
  if (form === 16) head.writeUInt16BE(body.length, 2);
  if (form === 64) head.writeBigUInt64BE(BigInt(body.length), 2);
  if (!mask) return Buffer.concat([head, body]);
  const masked = Buffer.from(body);
  for (let at = 0; at < masked.length; at += 1) masked[at] ^= mask[at & 3];
  return Buffer.concat([head, Buffer.from(mask), masked]);
}

/** A close frame of `code`; without one an empty frame. */
export function wsClose(code, reason = '') {
  return wsFrame(CLOSE, code === undefined ? '' : Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]));
}

/** The frames of a server in `bytes`, as `{ opcode, fin, rsv, payload }`. */
function framesOf(bytes, from) {
  const frames = [];
  let at = from;
  for (;;) {
    if (bytes.length < at + 2) break;
    let [length, start] = [bytes[at + 1] & 0x7f, at + 2];
    if (length === 126 && bytes.length >= at + 4) [length, start] = [bytes.readUInt16BE(at + 2), at + 4];
    else if (length === 127 && bytes.length >= at + 10) [length, start] = [Number(bytes.readBigUInt64BE(at + 2)), at + 10];
    else if (length >= 126) break;
    if (bytes.length < start + length) break;
    const first = bytes[at];
    frames.push({ opcode: first & 15, fin: first >= 0x80, rsv: (first >> 4) & 7, payload: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return { frames, end: at };
}

/**
 * Opens a WebSocket and goes through `steps`: bytes are sent, a number waits for so many frames in all. Then waits until
 * the server has closed the connection. When a close frame comes, this side ends what it sends.
 * @returns `{ head, frames, rest }`: the status line and the fields about WebSockets, the frames, bytes that are no frame.
 */
export function converse(port, steps, { tls, extensions, host = 'localhost' } = {}) {
  return new Promise((resolve, reject) => {
    const socket = tls ? connectTls({ port, host: '127.0.0.1', ALPNProtocols: ['http/1.1'], ...tls }) : connect(port, '127.0.0.1');
    socket.setNoDelay(true);
    let [head, parts, held, frames, at] = [undefined, [], 0, [], 0];
    const limit = setTimeout(() => socket.destroy(new Error(`no end after ${frames.length} frames`)), LONGEST_WAIT_MS);
    const proceed = () => {
      while (at < steps.length && head && (typeof steps[at] !== 'number' || frames.length >= steps[at])) {
        if (typeof steps[at] !== 'number') socket.write(steps[at]);
        at += 1;
      }
    };
    const read = () => {
      // Joined only when what is expected may be whole: large messages come in thousands of pieces.
      let bytes = Buffer.concat(parts);
      if (!head) {
        const end = bytes.indexOf('\r\n\r\n');
        if (end < 0) return;
        const lines = bytes.subarray(0, end).toString().split('\r\n');
        head = [lines[0], ...lines.filter((line) => /^(sec-websocket|upgrade|connection)/i.test(line)).map((line) => line.toLowerCase()).sort()];
        bytes = bytes.subarray(end + 4);
      }
      const found = framesOf(bytes, 0);
      frames.push(...found.frames);
      parts = [bytes.subarray(found.end)];
      held = parts[0].length;
      proceed();
      if (found.frames.some(({ opcode }) => opcode === CLOSE)) socket.end();
    };
    let wanted = 0;
    socket.on('data', (chunk) => {
      parts.push(chunk);
      held += chunk.length;
      if (held < wanted) return;
      read();
      const [rest] = parts;
      wanted = rest.length >= 10 && (rest[1] & 0x7f) === 127 ? Number(rest.readBigUInt64BE(2)) + 10 : 0;
    });
    socket.on('close', () => {
      clearTimeout(limit);
      if (held > 0) read();
      resolve({ head, frames, rest: Buffer.concat(parts) });
    });
    let failure;
    socket.on('error', (error) => {
      failure = error;
      if (!['ECONNRESET', 'EPIPE'].includes(error.code)) reject(failure);
    });
    socket.once(tls ? 'secureConnect' : 'connect', () => {
      const offer = extensions ? `Sec-WebSocket-Extensions: ${extensions}\r\n` : '';
      socket.write(
        `GET /echo?a=b HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${offer}\r\n`,
      );
    });
  });
}
