// A client of HTTP/3: aioquic in a process of its own, told what to do line by line.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { clients, python } from './paths.mjs';
import { undo } from './scope.mjs';

/** A connection to `port`, gone with `t`; `ca` is a file with the certificate that is trusted, for `name`. */
export async function openHttp3(t, { port, ca, name, ...options }) {
  const words = [join(clients, 'python/http3_client.py'), JSON.stringify({ port, ca, name, ...options })];
  const child = spawn(python, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting = new Map();
  let ids = 0;
  const first = new Promise((answered) => waiting.set(0, answered));
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id, ...told } = JSON.parse(line);
    waiting.get(id)?.(told);
    waiting.delete(id);
  });
  const ended = { failed: 'the client has ended' };
  let over = false;
  const exited = once(child, 'exit').then(() => {
    over = true;
    // Whoever waits for it hears so.
    waiting.forEach((answered) => answered(ended));
  });
  child.stdin.on('error', () => {});
  undo(t, async () => {
    child.stdin.end();
    child.kill('SIGKILL');
    await exited;
  });
  const { opened, failed } = await first;
  const order = (what) => {
    if (over || !opened) return Promise.reject(new Error(failed ?? ended.failed));
    ids += 1;
    const id = ids;
    return new Promise((answered, refused) => {
      waiting.set(id, (told) => (told.error || told.failed ? refused(new Error(told.error ?? told.failed)) : answered(told)));
      child.stdin.write(`${JSON.stringify({ id, ...what })}\n`);
    });
  };
  const begin = async (path, { method = 'GET', fields = [], head, ...rest } = {}) => {
    const all = head ?? [[':method', method], [':scheme', 'https'], [':authority', `${name}:${port}`], [':path', path], ...fields];
    return (await order({ do: 'begin', fields: all, ...rest })).stream;
  };
  const answer = (stream) => order({ do: 'answer', stream });
  return {
    opened: opened === true,
    failed,
    begin,
    answer,
    /** The whole answer to a request. */
    ask: async (path, options) => answer(await begin(path, options)),
    head: (stream) => order({ do: 'head', stream }),
    more: (stream, rest) => order({ do: 'more', stream, ...rest }),
    cancel: (stream) => order({ do: 'cancel', stream }),
    stop: (stream) => order({ do: 'stop', stream }),
    /** Bytes on a stream of their own; its number. */
    raw: async (hex, options) => (await order({ do: 'raw', hex, ...options })).stream,
    /** How the connection ended, once it has. */
    gone: () => order({ do: 'gone' }),
    control: async () => (await order({ do: 'control' })).hex,
    stall: () => order({ do: 'stall' }),
  };
}
