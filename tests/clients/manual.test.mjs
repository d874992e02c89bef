// What the manual tells readers to type works as it stands there: every program, every command, every piece of settings.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';

import { folder } from './support/folder.mjs';
import { command, settings, startMainstay } from './support/mainstay.mjs';
import { clients, mainstay, python, repository } from './support/paths.mjs';
import { output } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const chapters = join(repository, 'web/manual');

// What needs a machine of its own, and where it is tried instead.
const ELSEWHERE = [
  [/^apt install|^systemctl|\/etc\/mainstay\/mainstay\.toml|^sudo mainstay/m, 'packaging/try-deb'],
  [/^docker /m, 'packaging/try-image'],
  [/^ssh /m, 'another machine'],
  [/^mainstay import redis/m, 'import-redis.test.mjs'],
  [/^mainstay import s3/m, 'import-s3.test.mjs'],
  [/^mainstay certs renew/m, 'certificates.test.mjs'],
  [/^mainstay ca /m, 'internal-ca.test.mjs'],
  [/^mainstay upgrade/m, 'upgrade.test.mjs'],
  [/^mainstay analytics \S/m, 'analytics.test.mjs'],
  [/^mainstay objects rebuild-index/m, 'rebuild.test.mjs'],
  [/^mainstay key rotate|^mainstay buckets rotate-key|MASTER_KEY_PREVIOUS/m, 'rotation.test.mjs'],
  [/^mainstay objects move/m, 'remote.test.mjs'],
];

/** The blocks of `chapter` in these languages. */
function blocks(chapter, ...languages) {
  const text = readFileSync(join(chapters, `${chapter}.md`), 'utf8');
  const found = [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].map(([, language, block]) => ({ language, block }));
  return found.filter(({ language }) => languages.includes(language));
}

/** A server with an app behind it, and a folder in which a reader's programs run. */
async function reader(t) {
  const app = createServer((_request, response) => response.end('hello from the app\n')).listen(0, '127.0.0.1');
  await once(app, 'listening');
  undo(t, () => app.close());
  const [here, target, data] = [folder(t), folder(t), folder(t)];
  const extra = { MAINSTAY_BACKUP__TARGET: target };
  const server = await startMainstay({ data, app: `127.0.0.1:${app.address().port}`, extra });
  undo(t, () => server.stop());
  symlinkSync(join(clients, 'node_modules'), join(here, 'node_modules'));
  symlinkSync(mainstay, join(here, 'mainstay'));
  symlinkSync(data, join(here, 'mainstay-data'));
  // The database is the reader's own.
  writeFileSync(join(here, 'pg_dump'), '#!/bin/sh\necho "create table $1 (id bigint);"\n');
  chmodSync(join(here, 'pg_dump'), 0o755);
  const env = { ...settings(data, extra), ...server.env, PATH: `${here}:${process.env.PATH}` };
  const run = async (language, text, words = {}) => {
    const at = Object.entries({ 'localhost:8443': `localhost:${server.ports.https}`, '/mnt/backup': target, ...words });
    const program = join(here, `program.${language === 'js' ? 'mjs' : language}`);
    writeFileSync(program, at.reduce((whole, [old, now]) => whole.replaceAll(old, now), text));
    const how = { js: [process.execPath, [program]], python: [python, [program]], sh: ['bash', ['-eu', program]] };
    return output(...how[language], { env, cwd: here });
  };
  return { server, here, run, data };
}

/** Asks `mainstay words…` until what it prints fits. */
async function until(server, words, fits) {
  for (;;) {
    const { code, stdout, stderr } = await command(server.data, words);
    assert.equal(code, 0, stderr);
    if (fits.test(stdout)) return stdout;
  }
}

test('programs and commands run, chapter by chapter', async (t) => {
  const { server, here, run } = await reader(t);
  const done = [];
  const all = async (chapter, words) => {
    let sofar = '';
    for (const { language, block } of blocks(chapter, 'js', 'python', 'sh')) {
      if (ELSEWHERE.some(([what]) => what.test(block)) || /mainstay serve/.test(block)) continue;
      // A chapter's lines in Python go on where the last ones ended.
      if (language === 'python') sofar += block;
      await run(language, language === 'python' ? sofar : block, words);
      done.push(block);
    }
  };

  await run('js', `import { S3Client, CreateBucketCommand } from '@aws-sdk/client-s3';
await new S3Client({ forcePathStyle: true }).send(new CreateBucketCommand({ Bucket: 'photos' }));`);
  await all('clients');
  await run('js', `import { S3Client, PutObjectCommand } from '@aws-sdk/client-s3';
await new S3Client({ forcePathStyle: true }).send(new PutObjectCommand({ Bucket: 'photos', Key: '1.jpg', Body: 'picture' }));`);
  await all('start');
  await all('edge');
  await all('certificates');
  await all('analytics');
  await until(server, ['issues'], /hello from Python/);
  await all('errors');
  const [id] = /\b[0-9a-f]{32}\b/.exec(await until(server, ['mail'], /\b[0-9a-f]{32}\b/));
  const mail = blocks('mail', 'sh').map(({ block }) => block.replace(/^mainstay mail (retry|cancel) .*\n/gm, ''));
  for (const block of mail) await run('sh', block, { '019b76daa8062fddf885eb1a6b905c8c': id });
  await all('running');
  await all('limits');

  writeFileSync(join(here, 'master.key'), await run('sh', 'mainstay key export\n'));
  await all('keys');
  const [pipes, rest] = [/--stdin app\.sql/, /--stdin-name|--object|restore --from/];
  for (const { block } of blocks('backups', 'sh')) {
    // A running server is what `serve` says here.
    const printed = await run('sh', block.replace(/^.*mainstay serve.*\n/gm, ''));
    if (/--stdin-name/.test(block)) assert.match(printed, /create table app/);
    done.push(block);
  }
  assert.ok(done.some((block) => pipes.test(block)) && done.some((block) => rest.test(block)));
  assert.equal(readFileSync(join(here, '1.jpg'), 'utf8'), 'picture');
  await all('trouble', { 'show ID': `show ${id}` });
});

test('what a reader restored is served', async (t) => {
  const { run, here } = await reader(t);
  await run('sh', 'mainstay key export > master.key\nredis-cli -u "$REDIS_URL" set kept yes\nmainstay backup now\n');
  const [restore] = blocks('backups', 'sh').filter(({ block }) => /--data \.\/restored/.test(block));
  await run('sh', restore.block.replace(/^.*mainstay serve.*\n/gm, ''));
  const restored = await startMainstay({
    data: join(here, 'restored'),
    extra: { MAINSTAY_MASTER_KEY_FILE: join(here, 'master.key') },
  });
  undo(t, () => restored.stop());
  const kept = await output('redis-cli', ['-u', restored.env.REDIS_URL, '--no-auth-warning', 'get', 'kept']);
  assert.equal(kept.trim(), 'yes');
});

test('every piece of settings is taken as it stands', async (t) => {
  const here = folder(t);
  let pieces = 0;
  const own = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=people -days 2';
  await output('openssl', ['req', '-x509', ...own.split(' ')], { cwd: here });
  const ca = '[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=crlnumber\ndefault_md=sha256\n';
  for (const [name, text] of [['ca.cnf', ca], ['index', ''], ['crlnumber', '01\n']]) writeFileSync(join(here, name), text);
  const list = 'ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl -crldays 2 -out people.crl';
  await output('openssl', list.split(' '), { cwd: here });
  for (const chapter of readdirSync(chapters).map((name) => name.replace('.md', ''))) {
    for (const { block } of blocks(chapter, 'toml')) {
      writeFileSync(join(here, 'secret'), 'secret\n');
      const authorities = block.replace(/"\/etc\/mainstay\/[\w-]+\.pem"/g, `"${join(here, 'ca.pem')}"`);
      const lists = authorities.replace(/"\/etc\/mainstay\/[\w-]+\.crl"/g, `"${join(here, 'people.crl')}"`);
      const settled = lists.replace(/"\/etc\/mainstay\/\w+\.\w+"/g, `"${join(here, 'secret')}"`);
      writeFileSync(join(here, 'mainstay.toml'), settled);
      const checked = await output(mainstay, ['--config', join(here, 'mainstay.toml'), 'config', 'check'], {
        env: { PATH: process.env.PATH, MAINSTAY_DATA: join(here, 'data') },
      });
      assert.ok(checked.length > 0);
      pieces += 1;
    }
  }
  assert.ok(pieces >= 8, String(pieces));
});
