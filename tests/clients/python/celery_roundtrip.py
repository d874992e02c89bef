"""Celery against REDIS_URL as broker and as the place of results, unpatched: a worker of its own, and what it is asked."""

import os
import subprocess
import sys

from celery import Celery, chain, chord, group

app = Celery("celery_roundtrip", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"queue_order_strategy": "priority"},
)

WAIT = 60


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def fail():
    raise KeyError("nothing there")


@app.task(bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 1})
    return "x" * 100_000


def main():
    command = [sys.executable, "-m", "celery", "--app", "celery_roundtrip", "worker", "--pool", "threads", "--concurrency", "2"]
    worker = subprocess.Popen(command + ["--loglevel", "ERROR"], cwd=os.path.dirname(os.path.abspath(__file__)))
    try:
        # Answers come through publish and subscribe, and only once the worker is there.
        while not app.control.ping(timeout=1):
            assert worker.poll() is None, "the worker has ended"
        assert add.delay(2, 3).get(timeout=WAIT) == 5
        assert chain(add.s(1, 2), add.s(10))().get(timeout=WAIT) == 13
        assert group(add.s(n, n) for n in range(5))().get(timeout=WAIT) == [0, 2, 4, 6, 8]
        assert chord((add.s(n, 1) for n in range(4)), total.s())().get(timeout=WAIT) == 10
        assert third_time.delay().get(timeout=WAIT) == 2
        failed = fail.delay()
        try:
            failed.get(timeout=WAIT)
            raise AssertionError("a task that fails has a result")
        except KeyError:
            assert failed.state == "FAILURE"
        assert len(progress.delay().get(timeout=WAIT)) == 100_000
        assert add.apply_async((1, 1), countdown=1).get(timeout=WAIT) == 2
        assert add.apply_async((1, 1), priority=9).get(timeout=WAIT) == 2
        kept = add.delay(4, 4)
        assert kept.get(timeout=WAIT) == 8 and app.AsyncResult(kept.id).result == 8
        kept.forget()
        assert app.AsyncResult(kept.id).state == "PENDING"
        revoked = add.apply_async((1, 1), countdown=1000)
        app.control.revoke(revoked.id, reply=True, timeout=WAIT, limit=1)
        [stats] = app.control.inspect(timeout=WAIT, limit=1).stats().values()
        assert stats["total"]["celery_roundtrip.add"] >= 10, stats["total"]
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
    print("ok")
