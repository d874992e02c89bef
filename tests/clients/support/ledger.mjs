// The ledger: what was acknowledged, written down and synced before the next request goes out.

import { createCipheriv, createHash } from 'node:crypto';
import { closeSync, fdatasyncSync, openSync, readFileSync, writeSync } from 'node:fs';

export class Ledger {
  constructor(path) {
    this.path = path;
    this.file = openSync(path, 'a');
    this.counts = {};
    this.waiting = [];
  }

  /** Writes that `worker` got its operation `number` acknowledged; returns once that is on the disk. */
  acknowledged(worker, number) {
    writeSync(this.file, `${JSON.stringify([worker, number])}\n`);
    fdatasyncSync(this.file);
    const door = worker[0];
    this.counts[door] = (this.counts[door] ?? 0) + 1;
    this.waiting = this.waiting.filter((wait) => (this.counts[wait.door] ?? 0) < wait.count || wait.resolve());
  }

  /** Resolves when `more` further operations on `door`, the first letter of its workers' names, were acknowledged. */
  after(more, door) {
    const count = (this.counts[door] ?? 0) + more;
    return new Promise((resolve) => this.waiting.push({ door, count, resolve: () => void resolve() }));
  }

  /** How many operations each worker got acknowledged, read back from the file; operations count from 0 without gaps. */
  read() {
    const counts = new Map();
    for (const line of readFileSync(this.path, 'utf8').split('\n').filter(Boolean)) {
      const [worker, number] = JSON.parse(line);
      if (number !== (counts.get(worker) ?? 0)) throw new Error(`${worker}: ${number} follows ${counts.get(worker)}`);
      counts.set(worker, number + 1);
    }
    return counts;
  }

  close() {
    closeSync(this.file);
  }
}

/** `size` bytes that depend on nothing but `seed`. */
export function content(seed, size) {
  const key = createHash('md5').update(seed).digest();
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

/** Runs `step(0)`, `step(1)`, … and writes each down, until the server is gone. How many were tried. */
export async function work(ledger, worker, step) {
  for (let number = 0; ; number += 1) {
    try {
      await step(number);
    } catch (error) {
      if (!isGone(error)) throw error;
      return number + 1;
    }
    ledger.acknowledged(worker, number);
  }
}

/** Whether the error is what a client sees of a killed server. */
function isGone(error) {
  const texts = [error, error.cause, error.previousErrors?.at(-1), ...(error.errors ?? [])].map((e) => `${e?.name} ${e?.code} ${e?.message}`);
  return /ECONNREFUSED|ECONNRESET|EPIPE|socket hang up|Connection is closed|other side closed|TimeoutError|ERR_HTTP2|aborted|ESOCKET|ECONNECTION|Connection closed|HTTP 50[234]/.test(
    texts.join(' '),
  );
}
