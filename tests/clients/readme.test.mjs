// Every program in README.md runs as it stands and prints what its arrows say.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { settings, startMainstay } from './support/mainstay.mjs';
import { clients, mainstay, python, repository } from './support/paths.mjs';
import { output } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const RUN = {
  js: (file) => [process.execPath, [file]],
  python: (file) => [python, [file]],
  sh: (file) => ['bash', ['-eu', file]],
};

const readme = readFileSync(join(repository, 'README.md'), 'utf8');
const programs = [...readme.matchAll(/^```(js|python|sh)\n([^]*?)^```$/gm)].map(([, language, text]) => ({
  language,
  text,
  expected: [...text.matchAll(/^(?:\/\/|#) → (.*)$/gm)].map(([, line]) => line),
}));

const file = wholeFile();
let server;

before(async () => {
  if (onPile) return;
  const app = createServer((_request, response) => response.end('hello from the app\n')).listen(0, '127.0.0.1');
  await once(app, 'listening');
  undo(file, () => app.close());
  server = await startMainstay({ data: folder(file), app: `127.0.0.1:${app.address().port}` });
  undo(file, () => server.stop());
});

test('README.md has programs, and each says what it prints', () => {
  assert.ok(programs.length >= 6);
  for (const { text, expected } of programs) assert.notEqual(expected.length, 0, text);
});

for (const [at, { language, text, expected }] of programs.entries()) {
  const title = /^(?:import|curl|mainstay).*$/m.exec(text)?.[0] ?? language;
  test(`program ${at + 1}: ${title}`, { skip: onPile && 'about Mainstay itself' }, async (t) => {
    const here = folder(t);
    symlinkSync(join(clients, 'node_modules'), join(here, 'node_modules'));
    const program = join(here, `program.${language === 'js' ? 'mjs' : language}`);
    // The reader's server has the default ports and its folder at hand; this one has its own.
    writeFileSync(program, text.replaceAll('localhost:8443', `localhost:${server.ports.https}`).replaceAll('mainstay-data/', `${server.data}/`));
    symlinkSync(mainstay, join(here, 'mainstay'));
    const env = { ...settings(server.data), ...server.env, PATH: `${here}:${process.env.PATH}` };
    const [command, words] = RUN[language](program);
    const printed = await output(command, words, { env, cwd: here });
    assert.deepEqual(printed.trimEnd().split('\n'), expected);
  });
}
