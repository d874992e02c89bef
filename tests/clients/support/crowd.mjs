// Thousands of encrypted connections at once, in plain HTTP/1.1 and as WebSockets, with little memory for each.

import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';

import { TEXT, wsFrame } from './websocket.mjs';

/** Connections made at the same time; the rest wait. */
const AT_ONCE = 100;
const HANDSHAKE = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';

/** Calls `one` for each of `all`, so many at once. */
async function each(all, one, width = all.length) {
  let at = 0;
  const lane = async () => {
    while (at < all.length) await one(all[at++]);
  };
  await Promise.all(Array.from({ length: Math.min(width, all.length) }, lane));
}

/** One connection and what it waits for. */
class Member {
  async open({ port, ca, servername = 'localhost' }) {
    this.buffer = Buffer.alloc(0);
    this.socket = connect({ port, host: '127.0.0.1', ca, servername, ALPNProtocols: ['http/1.1'] });
    this.socket.setNoDelay(true).on('error', (error) => this.fail(error)).on('close', () => this.fail(new Error('closed')));
    this.socket.on('data', (chunk) => {
      this.buffer = this.buffer.length === 0 ? chunk : Buffer.concat([this.buffer, chunk]);
      const length = this.whole?.(this.buffer);
      if (length === undefined) return;
      const found = this.buffer.subarray(0, length);
      this.buffer = Buffer.from(this.buffer.subarray(length));
      this.whole = undefined;
      this.resolve(found);
    });
    await new Promise((resolve, reject) => {
      this.reject = reject;
      this.socket.once('secureConnect', resolve);
    });
  }

  fail(error) {
    this.failure ??= error;
    this.reject?.(this.failure);
  }

  /** Sends `bytes`, and gives what comes back once `whole` tells its length. */
  exchange(bytes, whole) {
    return new Promise((resolve, reject) => {
      if (this.failure) reject(this.failure);
      [this.whole, this.resolve, this.reject] = [whole, resolve, reject];
      this.socket.write(bytes);
    });
  }

  async get(path) {
    const answer = await this.exchange(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`, (buffer) => {
      const head = buffer.indexOf('\r\n\r\n');
      if (head < 0) return undefined;
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(buffer.toString('latin1', 0, head))[1]);
      return buffer.length >= head + 4 + length ? head + 4 + length : undefined;
    });
    if (!answer.subarray(0, 15).equals(Buffer.from('HTTP/1.1 200 OK'))) throw new Error(answer.toString());
  }

  async upgrade(path) {
    const ended = (buffer) => (buffer.includes('\r\n\r\n') ? buffer.indexOf('\r\n\r\n') + 4 : undefined);
    const answer = (await this.exchange(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${HANDSHAKE}\r\n`, ended)).toString();
    if (!answer.startsWith('HTTP/1.1 101')) throw new Error(answer);
  }

  async echo(text) {
    const came = await this.exchange(wsFrame(TEXT, text), (buffer) => (buffer.length >= text.length + 2 ? text.length + 2 : undefined));
    if (came.subarray(2).toString() !== text) throw new Error(`echoed ${came.toString()}`);
  }
}

/** Connections that do the same thing. */
export class Crowd {
  /** Opens `count` connections to the edge: `{ port, ca }`. */
  static async open(count, edge) {
    const crowd = new Crowd();
    crowd.members = Array.from({ length: count }, () => new Member());
    crowd.errors = [];
    await crowd.each((member) => member.open(edge), AT_ONCE);
    return crowd;
  }

  /** Does `one` with each of them, all at once; what goes wrong is kept in `errors`. */
  async each(one, width) {
    await each(this.members, (member) => one(member).catch((error) => this.errors.push(error)), width);
  }

  close() {
    this.members.forEach(({ socket }) => socket?.destroy());
  }
}

/** Times of `count` requests for `path` on a connection of its own, in ms: the median, and what 99 of 100 took at most. */
export async function probe(edge, path, count) {
  const member = new Member();
  await member.open(edge);
  const times = [];
  for (let at = 0; at < count; at += 1) {
    const began = performance.now();
    await member.get(path);
    times.push(performance.now() - began);
  }
  member.socket.destroy();
  times.sort((a, b) => a - b);
  return { median: times[Math.floor(count / 2)], p99: times[Math.floor(count * 0.99)] };
}

/** Memory of a process that no file backs, in MiB. */
export function anonymousMib(pid) {
  const [, kib] = /^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(kib) / 1024;
}
