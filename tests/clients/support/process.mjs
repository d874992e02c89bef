// Child processes that tell when they are ready and that end with the test.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

const MOST_KEPT_LINES = 2000;

/**
 * Starts a program and waits until `ready(line)` gives something for a line of its output.
 * @returns the running program: `{ pid, value, lines, exited, stop(signal) }`; `value` is what `ready` gave.
 */
export async function start(command, args, { env = process.env, cwd, ready, name = command } = {}) {
  const child = spawn(command, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  const lines = [];
  const exited = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal, lines })));
  const program = { pid: child.pid, lines, exited, stop: (signal = 'SIGTERM') => stop(child, exited, signal) };
  const spawned = once(child, 'spawn');
  const isReady = new Promise((resolve, reject) => {
    if (!ready) resolve();
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        if (lines.push(line) > MOST_KEPT_LINES) lines.shift();
        const value = ready?.(line);
        if (value) resolve(value);
      });
    }
    exited.then(({ code, signal }) =>
      reject(new Error(`${name} ended before it was ready (${signal ?? code}):\n${lines.join('\n')}`)),
    );
  });
  await spawned;
  program.value = await isReady;
  return program;
}

async function stop(child, exited, signal) {
  if (child.exitCode === null && child.signalCode === null) child.kill(signal);
  return exited;
}

/** Runs a program to its end: `{ code, signal, stdout, stderr }`. */
export async function run(command, args, { env = process.env, cwd, input } = {}) {
  const child = spawn(command, args, { env, cwd, stdio: ['pipe', 'pipe', 'pipe'] });
  const out = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (text) => (out[name] += text));
  child.stdin.on('error', () => {}).end(input);
  const [code, signal] = await once(child, 'close');
  return { code, signal, ...out };
}

/** As `run`, and fails unless the program ends well; its standard output. */
export async function output(command, args, options) {
  const { code, signal, stdout, stderr } = await run(command, args, options);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${signal ?? code}\n${stdout}${stderr}`);
  return stdout;
}

/** A port on 127.0.0.1 that nobody held a moment ago, for programs that cannot choose one themselves. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Tries `attempt` until it gives something, each time after `signal()` resolved (an event, never a guess of time). */
export async function until(attempt, signal) {
  for (;;) {
    const value = await attempt();
    if (value) return value;
    await signal();
  }
}
