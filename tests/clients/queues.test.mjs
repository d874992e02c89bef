// Stock queues on the Redis door, unpatched: BullMQ, RQ, Celery.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';

import { onPile, startBackend } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { clients, python } from './support/paths.mjs';
import { output } from './support/process.mjs';
import { undo, wholeFile } from './support/scope.mjs';

let backend;
let connection;
const file = wholeFile();
const options = { skip: onPile && 'proves Mainstay, not the pile' };

before(async () => {
  if (onPile) return;
  backend = await startBackend({ data: folder(file) });
  undo(file, () => backend.stop());
  const { hostname, port, password } = new URL(backend.env.REDIS_URL);
  connection = { host: hostname, port: Number(port), password: decodeURIComponent(password), maxRetriesPerRequest: null };
});

/** A queue with its events, closed with the test. */
async function open(t, name) {
  const queue = new Queue(name, { connection });
  const events = new QueueEvents(name, { connection });
  undo(t, () => Promise.all([events.close(), queue.close()]));
  await events.waitUntilReady();
  return { queue, events };
}

function work(t, name, process, extra = {}) {
  const worker = new Worker(name, process, { connection, ...extra });
  undo(t, () => worker.close());
  worker.on('error', () => {});
  return worker;
}

test('jobs are worked off in the order of their priorities, and their results are kept', options, async (t) => {
  const { queue, events } = await open(t, 'priorities');
  const seen = [];
  await queue.addBulk([
    { name: 'low', data: { n: 3 }, opts: { priority: 10 } },
    { name: 'high', data: { n: 2 }, opts: { priority: 1 } },
    { name: 'first', data: { n: 1 } },
  ]);
  assert.deepEqual(await queue.getJobCounts('waiting', 'prioritized'), { waiting: 1, prioritized: 2 });
  const last = (await queue.getJobs(['prioritized'])).find((job) => job.name === 'low');
  work(t, 'priorities', async (job) => {
    seen.push(job.name);
    await job.updateProgress(50);
    await job.log(`working on ${job.name}`);
    return job.data.n * 2;
  });
  assert.equal(await last.waitUntilFinished(events), 6);
  assert.deepEqual(seen, ['first', 'high', 'low']);
  const done = await queue.getJob(last.id);
  assert.deepEqual([done.returnvalue, done.progress, await done.getState()], [6, 50, 'completed']);
  assert.deepEqual((await queue.getJobLogs(last.id)).logs, ['working on low']);
});

test('a job that fails is tried again, waits in between, and fails for good in the end', options, async (t) => {
  const { queue, events } = await open(t, 'retries');
  work(t, 'retries', async (job) => {
    if (job.data.good && job.attemptsMade === 1) return 'at last';
    throw new Error(`attempt ${job.attemptsMade}`);
  });
  const backoff = { type: 'fixed', delay: 5 };
  const good = await queue.add('good', { good: true }, { attempts: 3, backoff });
  assert.equal(await good.waitUntilFinished(events), 'at last');
  const bad = await queue.add('bad', {}, { attempts: 2, backoff });
  await assert.rejects(bad.waitUntilFinished(events), /attempt 1/);
  assert.equal((await queue.getFailed()).length, 1);
  assert.equal((await queue.getJob(bad.id)).attemptsMade, 2);
});

test('a delayed job waits for its time, and a repeatable one comes again', options, async (t) => {
  const { queue, events } = await open(t, 'times');
  const times = [];
  let again;
  const thrice = new Promise((resolve) => (again = resolve));
  work(t, 'times', async (job) => {
    if (job.name === 'tick') {
      times.push(job.id);
      if (times.length === 3) again();
    }
    return Date.now();
  });
  const asked = Date.now();
  const late = await queue.add('late', {}, { delay: 120 });
  assert.equal(await late.getState(), 'delayed');
  assert.ok((await late.waitUntilFinished(events)) - asked >= 120);
  await queue.upsertJobScheduler('ticks', { every: 60 }, { name: 'tick' });
  assert.equal((await queue.getJobSchedulers()).length, 1);
  await thrice;
  assert.equal(new Set(times).size, times.length);
  assert.ok(await queue.removeJobScheduler('ticks'));
  assert.equal((await queue.getJobSchedulers()).length, 0);
});

test('a parent waits for its children and sees what they made', options, async (t) => {
  const { events } = await open(t, 'flow');
  const flows = new FlowProducer({ connection });
  undo(t, () => flows.close());
  work(t, 'flow', async (job) => {
    if (job.name === 'child') return job.data.n ** 2;
    return Object.values(await job.getChildrenValues()).reduce((sum, n) => sum + n, 0);
  });
  const children = [1, 2, 3].map((n) => ({ name: 'child', data: { n }, queueName: 'flow' }));
  const { job } = await flows.add({ name: 'parent', queueName: 'flow', children });
  assert.equal(await job.waitUntilFinished(events), 14);
});

test('a rate limit lets no more jobs through than it says', options, async (t) => {
  const { queue, events } = await open(t, 'limited');
  const limiter = { max: 2, duration: 1_000_000 };
  work(t, 'limited', async (job) => job.data.n, { limiter });
  const jobs = await queue.addBulk(Array.from({ length: 5 }, (_, n) => ({ name: 'job', data: { n } })));
  await Promise.all(jobs.slice(0, 2).map((job) => job.waitUntilFinished(events)));
  assert.ok((await queue.getRateLimitTtl(limiter.max)) > 0);
  assert.equal(await queue.getCompletedCount(), 2);
  assert.equal(await queue.getWaitingCount(), 3);
});

test('what a worker that died had taken is given to another', options, async (t) => {
  const { queue, events } = await open(t, 'stalled');
  let taken;
  const begun = new Promise((resolve) => (taken = resolve));
  const dead = work(t, 'stalled', () => new Promise(() => taken()), {
    lockDuration: 100,
    skipLockRenewal: true,
    skipStalledCheck: true,
  });
  const job = await queue.add('job', {});
  await begun;
  await dead.close(true);
  work(t, 'stalled', async () => 'recovered', { stalledInterval: 50, lockDuration: 1000 });
  const [{ jobId }] = await once(events, 'stalled');
  assert.equal(jobId, job.id);
  assert.equal(await job.waitUntilFinished(events), 'recovered');
});

test('a queue is paused, drained and removed', options, async (t) => {
  const { queue, events } = await open(t, 'paused');
  await queue.pause();
  const job = await queue.add('job', {});
  work(t, 'paused', async () => 'done');
  assert.equal(await queue.isPaused(), true);
  assert.equal(await job.getState(), 'waiting');
  await queue.resume();
  assert.equal(await job.waitUntilFinished(events), 'done');
  await queue.add('later', {}, { delay: 1_000_000 });
  await queue.drain(true);
  assert.deepEqual(await queue.getJobCounts('waiting', 'delayed'), { waiting: 0, delayed: 0 });
  assert.deepEqual(await queue.clean(0, 10, 'completed'), [job.id]);
  await queue.obliterate({ force: true });
  assert.equal(await queue.count(), 0);
});

for (const name of ['rq', 'celery']) {
  test(`${name} does what it does with Redis`, options, async () => {
    const env = { ...process.env, ...backend.env };
    assert.match(await output(python, [join(clients, `python/${name}_roundtrip.py`)], { env }), /ok/);
  });
}
