// The script in every repository reads it without Mainstay: with the printed key, Python and three packages.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync, mkdirSync, openSync, readSync, statSync, symlinkSync, linkSync, writeFileSync, writeSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { randomBytes } from 'node:crypto';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { settings, startMainstay } from './support/mainstay.mjs';
import { mainstay, python } from './support/paths.mjs';
import { output, run } from './support/process.mjs';

const skip = onPile && 'about Mainstay, not the pile';

/** A folder of files, a repository with a snapshot of it, and the key. */
async function repository(t) {
  const [files, data, target] = [folder(t), folder(t), join(folder(t), 'backups')];
  mkdirSync(join(files, 'deep/er'), { recursive: true });
  writeFileSync(join(files, 'text'), 'the same line\n'.repeat(50_000));
  writeFileSync(join(files, 'deep/er/noise'), randomBytes(9 << 20));
  writeFileSync(join(files, 'deep/umlaut-ä'), 'ä');
  writeFileSync(join(files, 'empty'), '');
  symlinkSync('text', join(files, 'link'));
  linkSync(join(files, 'text'), join(files, 'z-same'));
  const config = join(data, 'mainstay.toml');
  writeFileSync(config, `[backup]\nfolders = [${JSON.stringify(files)}]\n`);
  const [place, flags] = [join(data, 'data'), ['--config', config]];
  await (await startMainstay({ data: place, flags, quick: true })).stop();
  const env = settings(place);
  await output(mainstay, ['backup', 'now', '--target', target, ...flags], { env });
  const key = join(data, 'key');
  writeFileSync(key, await output(mainstay, ['key', 'export', ...flags], { env }), { mode: 0o600 });
  return { files, target, key };
}

/** The script of the repository itself. */
const script = ({ target, key }, ...words) => run(python, [join(target, 'restore.py'), '--key-file', key, ...words]);

/** The name of the snapshot that holds the folder. */
async function snapshotOf(made) {
  const { code, stdout, stderr } = await script(made, 'list');
  assert.equal(code, 0, stderr);
  const names = stdout.split('\n').filter((line) => line.includes(made.files)).map((line) => line.split(' ')[0]);
  assert.equal(names.length, 1, stdout);
  return names[0];
}

test('restore.py lists and restores a snapshot byte for byte', { skip }, async (t) => {
  const made = await repository(t);
  const name = await snapshotOf(made);
  const listed = await script(made, 'files', name);
  assert.match(listed.stdout, /deep\/er\/noise/, listed.stderr);
  const into = folder(t);
  const restored = await script(made, 'restore', name, into);
  assert.equal(restored.code, 0, restored.stderr);
  await output('diff', ['--recursive', '--no-dereference', made.files, into]);
  assert.equal(statSync(join(into, 'text')).ino, statSync(join(into, 'z-same')).ino);
  assert.equal(Math.round(statSync(join(into, 'text')).mtimeMs), Math.round(statSync(join(made.files, 'text')).mtimeMs));
  const part = folder(t);
  assert.equal((await script(made, 'restore', name, part, 'deep')).code, 0);
  assert.deepEqual(readdirSync(part), ['deep']);
});

test('restore.py names what is damaged and restores the rest', { skip }, async (t) => {
  const made = await repository(t);
  const name = await snapshotOf(made);
  const packs = readdirSync(join(made.target, 'packs'), { recursive: true }).map((pack) => join(made.target, 'packs', pack));
  const largest = packs.filter((pack) => statSync(pack).isFile()).sort((a, b) => statSync(b).size - statSync(a).size)[0];
  const file = openSync(largest, 'r+');
  const middle = statSync(largest).size >> 1;
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, middle);
  writeSync(file, Buffer.from([byte[0] ^ 1]), 0, 1, middle);
  closeSync(file);
  const into = folder(t);
  const { code, stderr } = await script(made, 'restore', name, into);
  assert.equal(code, 1);
  assert.match(stderr, /^damaged: deep\/er\/noise: packs\//m);
  assert.deepEqual(readFileSync(join(into, 'text')), readFileSync(join(made.files, 'text')));
  assert.deepEqual(readdirSync(join(into, 'deep/er')), []);
});

test('restore.py refuses another key', { skip }, async (t) => {
  const made = await repository(t);
  writeFileSync(made.key, '0a'.repeat(32));
  const { code, stderr } = await script(made, 'list');
  assert.equal(code, 1);
  assert.match(stderr, /the key does not open this repository/);
});
