"""Jobs for the workers: RQ's queues in Redis, as the store uses them.

Names and arguments of jobs are JSON, results and failures are kept for a bounded time, and what fails is
tried again with growing pauses. Asked with the cache's short timeouts; Redis down: Unavailable,
from every function here, and for the next second without waiting for it again.
"""

from datetime import datetime
from typing import Any

from django_rq import get_queue
from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus

from store.connections import ask_queue_redis
from store.keys import JOB_FAILURE_SECONDS, JOB_RESULT_SECONDS

DEFAULT, LOW = "default", "low"
RETRY_PAUSES_SECONDS = (10, 30, 60)
WAITING = frozenset([JobStatus.CREATED, JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED])


def check() -> None:
    """Raise Unavailable now rather than in the middle of something."""
    ask_queue_redis(lambda redis: redis.ping())


def enqueue(
    function: str,
    *arguments: int | str,
    job_id: str | None = None,
    queue: str = DEFAULT,
    timeout_seconds: int | None = None,
) -> None:
    """Have a worker call `function`, named by its dotted path, once the transaction has committed.

    A job with the same `job_id` is replaced. One that raises, or whose process is killed, is tried
    again after each of RETRY_PAUSES_SECONDS.
    """

    def put(redis: Redis) -> None:
        get_queue(queue, connection=redis).enqueue(
            function,
            args=arguments,
            job_id=job_id,
            job_timeout=timeout_seconds,
            result_ttl=JOB_RESULT_SECONDS,
            failure_ttl=JOB_FAILURE_SECONDS,
            retry=Retry(max=len(RETRY_PAUSES_SECONDS), interval=list(RETRY_PAUSES_SECONDS)),
        )

    ask_queue_redis(put)


def enqueue_once_at(moment: datetime, function: str, job_id: str, queue: str = LOW) -> None:
    """Have a worker call `function` at `moment`, unless there is, or was, a job with this id.

    It is not tried again: whatever runs regularly comes again by itself.
    """

    def schedule(redis: Redis) -> None:
        target: Queue = get_queue(queue, connection=redis)
        job = target.create_job(
            function,
            job_id=job_id,
            timeout=target._default_timeout,
            result_ttl=JOB_RESULT_SECONDS,
            failure_ttl=JOB_FAILURE_SECONDS,
            status=JobStatus.SCHEDULED,
        )
        target.schedule_job(job, moment, unique=True)

    try:
        ask_queue_redis(schedule)
    except DuplicateJobError:
        return


def find(job_id: str, queue: str = DEFAULT) -> Job | None:
    """Return the job, from whichever queue, or None if RQ does not know it (any more)."""

    def fetch(redis: Redis) -> Job:
        job: Job = Job.fetch(job_id, redis, get_queue(queue, connection=redis).serializer)
        return job

    try:
        return ask_queue_redis(fetch)
    except NoSuchJobError:
        return None


def result(job: Job) -> Any:
    """Return what a job that is done has returned."""
    return ask_queue_redis(lambda _: job.return_value())


def is_waiting(job_id: str) -> bool:
    """Say whether the job is yet to be begun, now or at its time."""
    job = find(job_id)
    return job is not None and job.get_status(refresh=False) in WAITING
