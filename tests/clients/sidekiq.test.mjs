// Sidekiq as Debian has it (Ruby) on the Redis door: queues, schedules, retries, the dead set, a stop in the middle of a job.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { Redis } from 'ioredis';

import { startBackend } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { clients } from './support/paths.mjs';
import { output, start } from './support/process.mjs';
import { undo } from './support/scope.mjs';

const JOBS = join(clients, 'ruby/sidekiq_jobs.rb');

test('jobs are done once, later, again, or given up, and one that is stopped is done by the next', async (t) => {
  const backend = await startBackend({ data: folder(t) });
  undo(t, () => backend.stop());
  const cwd = folder(t);
  const env = { ...process.env, REDIS_URL: backend.env.REDIS_URL };
  const say = (word) => output('ruby', [JOBS, word], { env, cwd });
  const worker = async (...flags) => {
    const words = ['-r', JOBS, '-c', '5', '-q', 'default', '-q', 'low', ...flags];
    const running = await start('sidekiq', words, { env, cwd, ready: (line) => line.includes('Booting Sidekiq') });
    undo(t, () => running.stop('SIGKILL'));
    return running;
  };
  const redis = new Redis(backend.env.REDIS_URL, { retryStrategy: null });
  undo(t, () => redis.disconnect());
  const heard = async () => (await redis.blpop('results', 60))?.[1];

  await say('put');
  // Longer than an idle thread waits for a job, or the one that goes back could still be given to it.
  const first = await worker('-t', '5');
  const results = [];
  while (results.length < 503) results.push(await heard());
  assert.ok(results.includes('tried flaky 2') && results.includes('dead lost') && results.includes('counted 1000'));
  assert.equal(new Set(results).size, 503, 'none came twice');
  assert.equal(await redis.get('sum'), String((500 * 501) / 2 + 1000));

  await say('long');
  assert.equal(await heard(), 'begun patience');
  await first.stop();
  assert.equal(await redis.llen('queue:default'), 1, 'it is back in its queue');
  const second = await worker();
  assert.equal(await heard(), 'begun patience');
  await redis.rpush('go', 'now');
  assert.equal(await heard(), 'done patience');
  await second.stop();
  const [processed, failed, enqueued, retries, dead, name, processes] = (await say('check')).trim().split(' ');
  assert.deepEqual([failed, enqueued, retries, dead, name, processes], ['3', '0', '0', '1', 'lost', '0']);
  assert.equal(processed, '506');
});
