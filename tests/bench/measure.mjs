// What a run costs: operations a second, processor time an operation, memory.

import { readFileSync, readdirSync } from 'node:fs';

/** The text of a file of /proc; empty when its thread has ended. */
function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

const TICK_US = 10_000; // CLK_TCK is 100 on Linux.

/** Process ids of `pid` and all its descendants. */
function tree(pid) {
  const children = (one) =>
    readdirSync(`/proc/${one}/task`).flatMap((thread) => {
      const text = read(`/proc/${one}/task/${thread}/children`).trim();
      return text ? text.split(' ').map(Number) : [];
    });
  return [pid, ...children(pid).flatMap(tree)];
}

/** Microseconds of processor time `pid` and its children have used so far, threads included. */
export function processorUs(pid) {
  return tree(pid).reduce((sum, one) => {
    const fields = read(`/proc/${one}/stat`).replace(/^.*\) /, '').split(' ');
    return sum + (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * TICK_US;
  }, 0);
}

/** Resident memory of `pid` and its children in MiB. */
export function residentMib(pid) {
  return tree(pid).reduce((sum, one) => {
    const [, kib] = /^VmRSS:\s+(\d+)/m.exec(read(`/proc/${one}/status`)) ?? [0, 0];
    return sum + Number(kib) / 1024;
  }, 0);
}

/** Memory of `pid` and its children in MiB, what they share with others counted in part. */
export function pssMib(pid) {
  return tree(pid).reduce((sum, one) => {
    const [, kib] = /^Pss:\s+(\d+)/m.exec(read(`/proc/${one}/smaps_rollup`)) ?? [0, 0];
    return sum + Number(kib) / 1024;
  }, 0);
}

/** Runs `load`, which gives the number of operations it did; what they cost `pid`. */
export async function measure(pid, load) {
  const before = processorUs(pid);
  const began = process.hrtime.bigint();
  const operations = await load();
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  return { rate: operations / seconds, cost: (processorUs(pid) - before) / operations, memory: residentMib(pid) };
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Prints rows of texts in columns. */
export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) => row.map((text, at) => (at === 0 ? text.padEnd(widths[at]) : text.padStart(widths[at]))).join('  ');
  for (const row of rows) console.log(line(row));
}

export function number(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)}k`;
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
