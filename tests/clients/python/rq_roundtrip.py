"""RQ against REDIS_URL, unpatched: jobs, results, retries, dependencies, schedules, and a worker that is told to stop."""

import os
import threading
from datetime import timedelta

import redis
from rq import Queue, Retry, SimpleWorker, Worker
from rq.command import send_shutdown_command
from rq.job import JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry

connection = redis.Redis.from_url(os.environ["REDIS_URL"])


def double(n):
    return 2 * n


def add_results(*ids):
    return sum(queue.fetch_job(id).return_value() for id in ids)


def fail_once(key):
    if connection.incr(key) == 1:
        raise ValueError("the first time it fails")
    return "then it works"


def fail():
    raise ValueError("it never works")


queue = Queue("work", connection=connection)


def work(**options):
    SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR", **options)


def main():
    jobs = [queue.enqueue("rq_roundtrip.double", n) for n in (1, 2, 3)]
    total = queue.enqueue("rq_roundtrip.add_results", *(job.id for job in jobs), depends_on=jobs)
    again = queue.enqueue("rq_roundtrip.fail_once", "rq:times", retry=Retry(max=2))
    never = queue.enqueue("rq_roundtrip.fail")
    first = queue.enqueue("rq_roundtrip.double", 21, at_front=True)
    assert queue.job_ids[0] == first.id and len(queue) == 6, queue.job_ids
    assert total.get_status() == JobStatus.DEFERRED
    work()
    assert [job.return_value(refresh=True) for job in jobs] == [2, 4, 6]
    assert total.return_value(refresh=True) == 12 and first.return_value(refresh=True) == 42
    assert again.return_value(refresh=True) == "then it works" and again.get_status() == JobStatus.FINISHED
    assert never.get_status() == JobStatus.FAILED and "it never works" in never.latest_result().exc_string
    assert never.id in FailedJobRegistry(queue=queue).get_job_ids()
    assert total.id in FinishedJobRegistry(queue=queue).get_job_ids()
    never.requeue()
    assert len(queue) == 1
    queue.empty()
    assert len(queue) == 0

    later = queue.enqueue_in(timedelta(seconds=1000), "rq_roundtrip.double", 5)
    assert later.id in ScheduledJobRegistry(queue=queue).get_job_ids() and later.get_status() == JobStatus.SCHEDULED
    later.cancel()
    assert later.get_status() == JobStatus.CANCELED

    # A worker of its own process waits for jobs until it is told to go.
    if os.fork() == 0:
        Worker([queue], connection=redis.Redis.from_url(os.environ["REDIS_URL"]), name="waiting").work(logging_level="ERROR")
        os._exit(0)
    job = queue.enqueue("rq_roundtrip.double", 7)
    result = job.latest_result(timeout=60)
    assert result is not None and result.return_value == 14, result
    assert [worker.name for worker in Worker.all(connection=connection)] == ["waiting"]
    send_shutdown_command(connection, "waiting")
    assert os.wait()[1] == 0
    assert Worker.all(connection=connection) == []


if __name__ == "__main__":
    main()
    print("ok")
