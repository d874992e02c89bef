// Command lines that people keep on their machines for object storage: the AWS CLI, s3cmd, rclone, restic.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { python } from './support/paths.mjs';
import { output } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';

const skip = onPile && 'proves Mainstay, not the pile';
const file = wholeFile();
const venv = join(python, '../..');
let server;

before(async () => {
  if (skip) return;
  server = await startMainstay({ data: folder(file) });
  undo(file, () => server.stop());
});

/** A folder of some files, with a name that needs care and one file that goes up in parts. */
function tree(t) {
  const here = folder(t);
  mkdirSync(join(here, 'tree/deep/er'), { recursive: true });
  for (const [name, size] of [['one.txt', 10], ['empty', 0], ['deep/two.bin', 300_000], ['deep/er/three ü+&.bin', 9 << 20]]) {
    writeFileSync(join(here, 'tree', name), randomBytes(size));
  }
  return { here, there: join(here, 'tree') };
}

/** Whether two folders hold the same. */
const same = (one, other) => output('diff', ['-r', one, other]);

test('the AWS CLI synchronises, signs links and sets what a bucket has', { skip }, async (t) => {
  const { here, there } = tree(t);
  const settings = { HOME: here, AWS_CONFIG_FILE: join(here, 'config'), AWS_EC2_METADATA_DISABLED: 'true', PYTHONPATH: join(venv, 'aws') };
  writeFileSync(settings.AWS_CONFIG_FILE, '[default]\ns3 =\n  signature_version = s3v4\n  addressing_style = path\n');
  const env = { ...process.env, ...server.env, ...settings };
  const aws = (...words) => output(python, [join(venv, 'aws/bin/aws'), ...words], { env });
  const json = async (...words) => JSON.parse(await aws('s3api', ...words, '--output', 'json'));
  await aws('s3', 'mb', 's3://cli');
  await aws('s3', 'sync', there, 's3://cli/tree', '--no-progress');
  assert.equal((await aws('s3', 'sync', there, 's3://cli/tree')).trim(), '', 'nothing is sent twice');
  await aws('s3', 'sync', 's3://cli/tree', join(here, 'back'), '--no-progress');
  await same(there, join(here, 'back'));
  rmSync(join(there, 'one.txt'));
  assert.match(await aws('s3', 'sync', there, 's3://cli/tree', '--delete'), /delete: s3:\/\/cli\/tree\/one.txt/);
  await aws('s3', 'mv', 's3://cli/tree/empty', 's3://cli/moved');
  const link = (await aws('s3', 'presign', 's3://cli/tree/deep/two.bin')).trim();
  const got = Buffer.from(await (await fetch(link)).arrayBuffer());
  assert.ok(got.equals(readFileSync(join(there, 'deep/two.bin'))));
  const policy = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: 'arn:aws:s3:::cli/open/*' }] };
  await aws('s3api', 'put-bucket-policy', '--bucket', 'cli', '--policy', JSON.stringify(policy));
  assert.equal((await json('get-bucket-policy-status', '--bucket', 'cli')).PolicyStatus.IsPublic, true);
  await aws('s3api', 'put-bucket-tagging', '--bucket', 'cli', '--tagging', 'TagSet=[{Key=team,Value=web}]');
  assert.deepEqual((await json('get-bucket-tagging', '--bucket', 'cli')).TagSet, [{ Key: 'team', Value: 'web' }]);
  await aws('s3', 'rb', 's3://cli', '--force');
});

test('s3cmd synchronises, describes and cleans up', { skip }, async (t) => {
  const { here, there } = tree(t);
  const { host } = new URL(server.env.AWS_ENDPOINT_URL_S3);
  const config = join(here, 's3cfg');
  const lines = {
    access_key: server.env.AWS_ACCESS_KEY_ID, secret_key: server.env.AWS_SECRET_ACCESS_KEY, host_base: host,
    host_bucket: host, use_https: 'False', bucket_location: server.env.AWS_REGION, multipart_chunk_size_mb: 5,
  };
  writeFileSync(config, `[default]\n${Object.entries(lines).map(([name, value]) => `${name} = ${value}`).join('\n')}\n`);
  const s3cmd = (...words) => output(python, [join(venv, 'bin/s3cmd'), '-c', config, '--no-progress', ...words], { env: { ...process.env, HOME: here } });
  await s3cmd('mb', 's3://cmd');
  await s3cmd('sync', `${there}/`, 's3://cmd/tree/');
  await s3cmd('sync', 's3://cmd/tree/', `${join(here, 'back')}/`);
  await same(there, join(here, 'back'));
  assert.doesNotMatch(await s3cmd('sync', '--dry-run', `${there}/`, 's3://cmd/tree/'), /upload:/, 'nothing is sent twice');
  assert.match(await s3cmd('info', 's3://cmd'), /Location:/);
  assert.match(await s3cmd('info', 's3://cmd/tree/one.txt'), /File size: +10/);
  await s3cmd('cp', 's3://cmd/tree/one.txt', 's3://cmd/copied');
  // It sets the copy's ACL to what that of the first was.
  await s3cmd('mv', 's3://cmd/copied', 's3://cmd/copy');
  await s3cmd('setacl', '--acl-private', 's3://cmd/copy');
  await assert.rejects(s3cmd('setacl', '--acl-public', 's3://cmd/copy'), /NotImplemented.*policy/);
  const link = (await s3cmd('signurl', 's3://cmd/copy', '+60')).trim();
  assert.ok(Buffer.from(await (await fetch(link)).arrayBuffer()).equals(readFileSync(join(there, 'one.txt'))));
  assert.match(await s3cmd('du', 's3://cmd/copy'), /^ *10 +1 objects/);
  const policy = join(here, 'policy.json');
  writeFileSync(policy, JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: 'arn:aws:s3:::cmd/copy' }] }));
  await s3cmd('setpolicy', policy, 's3://cmd');
  assert.equal((await fetch(`${server.env.AWS_ENDPOINT_URL_S3}/cmd/copy`)).status, 200);
  await s3cmd('delpolicy', 's3://cmd');
  assert.equal((await fetch(`${server.env.AWS_ENDPOINT_URL_S3}/cmd/copy`)).status, 403);
  await s3cmd('rb', '--recursive', '--force', 's3://cmd');
});

test('rclone synchronises both ways, and finds no difference', { skip }, async (t) => {
  const { here, there } = tree(t);
  const env = {
    ...process.env,
    RCLONE_CONFIG: join(here, 'rclone.conf'),
    RCLONE_CONFIG_S_TYPE: 's3',
    RCLONE_CONFIG_S_PROVIDER: 'Minio',
    RCLONE_CONFIG_S_ENDPOINT: server.env.AWS_ENDPOINT_URL_S3,
    RCLONE_CONFIG_S_REGION: server.env.AWS_REGION,
    RCLONE_CONFIG_S_ACCESS_KEY_ID: server.env.AWS_ACCESS_KEY_ID,
    RCLONE_CONFIG_S_SECRET_ACCESS_KEY: server.env.AWS_SECRET_ACCESS_KEY,
    RCLONE_S3_CHUNK_SIZE: '5M',
    RCLONE_S3_UPLOAD_CUTOFF: '8M',
    RCLONE_RETRIES: '1',
  };
  writeFileSync(env.RCLONE_CONFIG, '');
  const rclone = (...words) => output(join(venv, 'bin/rclone'), words, { env });
  await rclone('mkdir', 's:both');
  await rclone('sync', there, 's:both');
  await rclone('check', there, 's:both');
  rmSync(join(there, 'one.txt'));
  writeFileSync(join(there, 'deep/two.bin'), 'changed');
  await rclone('sync', there, 's:both');
  await rclone('check', '--download', there, 's:both');
  // The other way: what the bucket says counts.
  await rclone('rcat', 's:both/new', '--size', '0');
  await rclone('deletefile', 's:both/deep/two.bin');
  await rclone('sync', 's:both', there);
  await rclone('check', '--download', 's:both', there);
  await rclone('purge', 's:both');
});

test('restic keeps its repository here: back up, verify, forget, prune, restore', { skip }, async (t) => {
  const { here, there } = tree(t);
  const env = {
    ...process.env,
    HOME: here,
    AWS_ACCESS_KEY_ID: server.env.AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY: server.env.AWS_SECRET_ACCESS_KEY,
    AWS_DEFAULT_REGION: server.env.AWS_REGION,
    RESTIC_REPOSITORY: `s3:${server.env.AWS_ENDPOINT_URL_S3}/restic/repository`,
    RESTIC_PASSWORD: 'a password of the test',
    RESTIC_CACHE_DIR: join(here, 'cache'),
  };
  const restic = (...words) => output('restic', words, { env });
  await restic('init');
  await restic('backup', there);
  writeFileSync(join(there, 'deep/er/three ü+&.bin'), randomBytes(3 << 20));
  await restic('backup', there);
  await restic('check', '--read-data');
  await restic('forget', '--keep-last', '1', '--prune');
  await restic('check', '--read-data');
  assert.equal(JSON.parse(await restic('snapshots', '--json')).length, 1);
  await restic('restore', 'latest', '--target', join(here, 'back'));
  await same(there, join(here, 'back', there));
});
