// When Mainstay cannot do what it is asked it says why and what to do, ends with code 1, and touches nothing.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { once } from 'node:events';
import { test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';
import { mountTmpfs } from './support/tmpfs.mjs';

const own = { skip: onPile && 'about Mainstay itself' };

/** Names and contents of everything under `path`, the lock file's process id apart. */
function fingerprint(path) {
  const digest = createHash('sha256');
  for (const name of readdirSync(path, { recursive: true }).sort()) {
    const file = join(path, name);
    digest.update(`${name}\0`);
    if (statSync(file).isFile() && name !== 'lock') digest.update(readFileSync(file));
  }
  return digest.digest('hex');
}

/** A data folder that a server made and left in good order. */
async function usedFolder(t) {
  const data = folder(t);
  const server = await startMainstay({ data });
  assert.equal((await server.stop()).code, 0);
  return data;
}

/** `mainstay serve` on `data` ends with code 1 and says all of `texts`. */
async function refuses(data, texts, extra, words = ['serve']) {
  const { code, stderr } = await command(data, words, extra);
  assert.equal(code, 1, stderr);
  for (const text of texts) assert.match(stderr, text);
}

const DOORS = ['edge.http', 'edge.https', 'console.listen', 's3.listen', 'redis.listen'];
for (const setting of DOORS) {
  test(`a taken port is told by its setting: ${setting}`, own, async (t) => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    undo(t, () => holder.close());
    const variable = `MAINSTAY_${setting.toUpperCase().replace('.', '__')}`;
    const address = `127.0.0.1:${holder.address().port}`;
    const texts = [setting, address, 'taken by another program', 'to turn it off'].map((text) => new RegExp(text));
    await refuses(folder(t), texts, { [variable]: address });
  });
}

test('a data folder below a file cannot be made', own, async (t) => {
  const file = join(folder(t), 'file');
  writeFileSync(file, 'not a folder');
  await refuses(join(file, 'data'), [/file\/data/, /Not a directory/i, /--data/]);
  assert.equal(readFileSync(file, 'utf8'), 'not a folder');
});

test('a data folder on a read-only file system is told', own, async (t) => {
  const mount = await mountTmpfs(t, { size: '8m', readOnly: true });
  if (!mount) return;
  await refuses(join(mount, 'data'), [/Read-only file system/i, /--data/]);
});

test('a wrong master key opens nothing and harms nothing', own, async (t) => {
  const data = await usedFolder(t);
  const other = await usedFolder(t);
  const key = readFileSync(join(other, 'keys/master.key'), 'utf8').trim();
  const before = fingerprint(data);
  await refuses(data, [/MAINSTAY_MASTER_KEY/], { MAINSTAY_MASTER_KEY: key });
  assert.equal(fingerprint(data), before);
  assert.ok(!(await command(data, ['serve'], { MAINSTAY_MASTER_KEY: key })).stderr.includes(key), 'the key is not printed');
});

test('a data folder whose master key is gone is not given a new one', own, async (t) => {
  const data = await usedFolder(t);
  rmSync(join(data, 'keys'), { recursive: true });
  const before = fingerprint(data);
  await refuses(data, [/master key|keys/i]);
  assert.equal(fingerprint(data), before);
});

test('a data folder of a newer release is refused untouched', own, async (t) => {
  const data = await usedFolder(t);
  const ring = join(data, 'keys/ring');
  const newer = { ...JSON.parse(readFileSync(ring, 'utf8')), version: 99 };
  writeFileSync(ring, JSON.stringify(newer));
  const before = fingerprint(data);
  await refuses(data, [/newer|version 99/i]);
  assert.equal(fingerprint(data), before);
});

test('a second server on a data folder is refused and the first goes on', own, async (t) => {
  const server = await startMainstay({ data: folder(t) });
  undo(t, () => server.stop());
  await refuses(server.data, [new RegExp(`process id ${server.pid}`), /--data/]);
  assert.equal((await command(server.data, ['healthcheck'])).code, 0);
});

const BROKEN_SETTINGS = {
  'no TOML': ['[s3\nlisten = 1', [/line 1|:1:/]],
  'an unknown section': ['[s4]\nlisten = "127.0.0.1:1"\n', [/s4/, /s3/]],
  'an unknown setting': ['[s3]\nlisen = "127.0.0.1:1"\n', [/lisen/, /listen/, /:2/]],
  'a value of another kind': ['[s3]\nlisten = true\n', [/listen/, /:2/]],
  'an address that is none': ['[redis]\nlisten = "localhost"\n', [/localhost/, /:2/]],
  'an upstream that is none': ['[edge]\napp = "ftp://x"\n', [/edge.app/, /ftp:\/\/x/]],
};

for (const [name, [text, answers]] of Object.entries(BROKEN_SETTINGS)) {
  test(`a settings file with ${name} is told with its place`, own, async (t) => {
    const here = folder(t);
    const file = join(here, 'mainstay.toml');
    writeFileSync(file, text);
    const data = join(here, 'data');
    for (const words of [['config', 'check'], ['serve']]) {
      await refuses(data, answers, { MAINSTAY_CONFIG: file }, words);
    }
    assert.throws(() => statSync(data), 'no data folder is made');
  });
}

test('commands without a server or a folder say so', own, async (t) => {
  const here = folder(t);
  await refuses(join(here, 'none'), [/no server runs|no data folder/i], {}, ['status']);
  await refuses(join(here, 'none'), [/no data folder/i], {}, ['env']);
  mkdirSync(join(here, 'none'));
  await refuses(join(here, 'none'), [/no server runs/i], {}, ['healthcheck']);
});
