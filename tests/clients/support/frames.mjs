// HTTP/2 frame by frame (RFC 9113), so that a client can send what no library would, and see what exactly comes back.

import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

export const TYPES = ['DATA', 'HEADERS', 'PRIORITY', 'RST_STREAM', 'SETTINGS', 'PUSH_PROMISE', 'PING', 'GOAWAY', 'WINDOW_UPDATE', 'CONTINUATION'];
const ERRORS = ['NO_ERROR', 'PROTOCOL_ERROR', 'INTERNAL_ERROR', 'FLOW_CONTROL_ERROR', 'SETTINGS_TIMEOUT', 'STREAM_CLOSED', 'FRAME_SIZE_ERROR'];
ERRORS.push('REFUSED_STREAM', 'CANCEL', 'COMPRESSION_ERROR', 'CONNECT_ERROR', 'ENHANCE_YOUR_CALM', 'INADEQUATE_SECURITY', 'HTTP_1_1_REQUIRED');

/** Flags; END_STREAM of DATA and HEADERS is ACK of SETTINGS and PING. */
export const [END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED] = [0x1, 0x1, 0x4, 0x8, 0x20];
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const LONGEST_WAIT_MS = 20_000;

/** One frame; `payload` is bytes, or hexadecimal digits. `length` may lie. */
export function frame(type, flags, stream, payload = '', length) {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'hex') : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(length ?? body.length, 0, 3);
  head[3] = typeof type === 'string' ? TYPES.indexOf(type) : type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

/** `number` in four bytes. */
export function word(number) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return bytes;
}

/** SETTINGS of identifiers and values. */
export function settings(...pairs) {
  return frame('SETTINGS', 0, 0, Buffer.concat(pairs.map(([id, value]) => Buffer.concat([Buffer.from([0, id]), word(value)]))));
}

/** A length of RFC 7541 section 5.1 with a prefix of seven bits. */
function prefixed(length) {
  if (length < 127) return Buffer.from([length]);
  const bytes = [127];
  let rest = length - 127;
  for (; rest >= 128; rest >>= 7) bytes.push((rest & 127) | 128);
  return Buffer.from([...bytes, rest]);
}

/** A text as HPACK writes it without Huffman codes; texts are Latin-1 so that they can hold any byte. */
export function text(value) {
  return Buffer.concat([prefixed(value.length), Buffer.from(value, 'latin1')]);
}

/** A header block in which every field is a literal that no table remembers. */
export function block(fields) {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

/** The fields of a request for `path`, with `more` after them. */
export function request(path = '/', more = [], { method = 'GET', authority = 'localhost', scheme = 'https' } = {}) {
  return [[':method', method], [':scheme', scheme], [':path', path], [':authority', authority], ...more];
}

/** HEADERS with all of a block in it. */
export function headers(stream, fields, flags = END_STREAM | END_HEADERS) {
  return frame('HEADERS', flags, stream, Buffer.isBuffer(fields) ? fields : block(fields));
}

const INDEXED_STATUS = { 0x88: 200, 0x89: 204, 0x8a: 206, 0x8b: 304, 0x8c: 400, 0x8d: 404, 0x8e: 500 };
const DIGITS = { '00000': 0, '00001': 1, '00010': 2, '011001': 3, '011010': 4, '011011': 5, '011100': 6, '011101': 7, '011110': 8, '011111': 9 };

/** The status in a response's block, which begins with it; `undefined` for an entry of the dynamic table. */
function statusOf(block) {
  let at = 0;
  while ((block[at] & 0xe0) === 0x20) at += 1;
  if (INDEXED_STATUS[block[at]] !== undefined) return INDEXED_STATUS[block[at]];
  if (![0x08, 0x18, 0x48].includes(block[at])) return undefined;
  const length = block[at + 1] & 0x7f;
  const value = block.subarray(at + 2, at + 2 + length);
  if (block[at + 1] < 0x80) return Number(value.toString());
  const bits = [...value].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  let [digits, code] = ['', ''];
  for (const bit of bits) {
    code += bit;
    if (DIGITS[code] !== undefined) [digits, code] = [digits + DIGITS[code], ''];
  }
  return Number(digits);
}

function read(type, flags, stream, payload) {
  const seen = { type: TYPES[type] ?? type, flags, stream, payload };
  if (seen.type === 'HEADERS') seen.status = statusOf(payload);
  if (seen.type === 'RST_STREAM') seen.error = ERRORS[payload.readUInt32BE(0)];
  if (seen.type === 'GOAWAY') seen.error = ERRORS[payload.readUInt32BE(4)];
  return seen;
}

/** A connection on which bytes are sent and frames collected. */
export class Frames {
  /** Connects to the edge; `tls` is `{ ca, servername }`, without it the connection is in plain. */
  static async open(port, tls) {
    const made = tls ? connectTls({ port, host: '127.0.0.1', ALPNProtocols: ['h2'], ...tls }) : connect(port, '127.0.0.1');
    const self = new Frames();
    self.socket = made;
    self.frames = [];
    self.closed = false;
    self.wake = () => {};
    let rest = Buffer.alloc(0);
    made.setNoDelay(true);
    made.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      for (;;) {
        const length = rest.length >= 9 ? rest.readUIntBE(0, 3) : Infinity;
        if (rest.length < 9 + length) break;
        const one = read(rest[3], rest[4], rest.readUInt32BE(5) & 0x7fffffff, rest.subarray(9, 9 + length));
        self.frames.push(one);
        // Who wants to hold a connection answers this.
        if (one.type === 'PING' && !(one.flags & ACK)) self.send(frame('PING', ACK, 0, one.payload));
        rest = rest.subarray(9 + length);
      }
      self.wake();
    });
    const ended = () => {
      self.closed = true;
      self.wake();
    };
    made.on('end', ended).on('close', ended).on('error', ended);
    await new Promise((resolve, reject) => made.once(tls ? 'secureConnect' : 'connect', resolve).once('error', reject));
    return self;
  }

  /** As `open`, with the preface and SETTINGS exchanged. */
  static async ready(port, tls, first = settings()) {
    const self = await Frames.open(port, tls);
    self.send(PREFACE, first);
    await self.until(({ type, flags }) => type === 'SETTINGS' && flags & ACK);
    self.send(frame('SETTINGS', ACK, 0));
    return self;
  }

  send(...frames) {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(frames));
  }

  /** Waits for the first frame, also one that was there before, that `wanted` takes; `undefined` once the connection is closed. */
  async until(wanted) {
    const limit = Date.now() + LONGEST_WAIT_MS;
    for (;;) {
      const found = this.frames.find(wanted);
      if (found || this.closed) return found;
      const waited = limit - Date.now();
      if (waited <= 0) throw new Error(`neither the frame nor an end, but: ${this.told()}`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, waited);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Waits until the server has read everything that was sent: it answers PING in order. */
  async read() {
    const mark = Buffer.from(`read${String(this.marks = (this.marks ?? 0) + 1).padStart(4)}`);
    this.send(frame('PING', 0, 0, mark));
    return this.until(({ type, flags, payload }) => type === 'PING' && flags & ACK && payload.equals(mark));
  }

  /** What came, in a line. */
  told() {
    const words = this.frames.map(({ type, stream, status, error }) => `${type}${stream ? `(${stream})` : ''} ${status ?? error ?? ''}`.trim());
    return [...words, ...(this.closed ? ['closed'] : [])].join(', ');
  }

  close() {
    this.socket.destroy();
  }
}
