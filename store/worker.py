"""The worker process: RQ's, with what running it in containers and beside Redis outages takes."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from redis.exceptions import RedisError
from rq import Worker
from rq.exceptions import ShutDownImminentException
from rq.job import Job
from rq.queue import Queue

from freshcache.circuit_breaker import Unavailable
from freshcache.runtime import cache_of
from store import timetable
from store.allowed_jobs import NotAllowed
from store.event_announcer import announcer

# A worker that waits for jobs looks up this often: is Redis there, is the timetable planned?
IDLE_SECONDS = 10
# RQ waits for jobs 15 s shorter than a worker may be silent.
WORKER_TTL_SECONDS = IDLE_SECONDS + 15
MAINTENANCE_SECONDS = 5
# How long a job that is done waits for Redis to take the events that it owes.
EVENTS_SECONDS = 60
STOP_SIGNAL = signal.SIGUSR1  # from the worker to the process that does the job
PR_SET_PDEATHSIG = 1

T = TypeVar("T")


class StoreWorker(Worker):
    """Plans the timetable, and stops at once when asked to: jobs go on where they left off.

    RQ's own worker ends the job under way first, for which nobody who stops a container waits.
    """

    asked_to_stop = False  # Of the process, which may have had several workers one after the other.

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.maintenance_interval = MAINTENANCE_SECONDS

    def work(self, *args: Any, **options: Any) -> bool:
        """Do jobs until asked to stop; raises RedisError if it is Redis that ends it."""
        try:
            worked = super().work(*args, **options)
        finally:
            if self.pubsub_thread:  # RQ leaves it, and its connection, where Redis cannot be told.
                self.pubsub_thread.stop()
        is_bounded = any(options.get(name) for name in ("burst", "max_jobs", "max_idle_time"))
        if not (is_bounded or self.asked_to_stop):
            raise RedisError("the worker ended in the middle of a job")
        return worked

    def run_maintenance_tasks(self) -> None:
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        try:
            timetable.plan()
        except Unavailable as error:
            self.log.warning("Nothing regular is planned: %s", error)

    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        StoreWorker.asked_to_stop = True
        if self.horse_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.horse_pid, STOP_SIGNAL)

    def setup_work_horse_signals(self) -> None:
        # What a terminal or a container sends reaches the worker, which passes it on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(STOP_SIGNAL, _stopping.ask)

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        if isinstance(
            exc_info[1], NotAllowed
        ):  # RQ's own line has a traceback, and names of any length.
            self.log.error("Refused job %s: %s", job.id, exc_info[1])
        else:
            super().handle_exception(job, *exc_info)

    def perform_job(self, job: Job, queue: Queue) -> bool:
        perform = job.perform
        job.perform = lambda: _stopping.end_in_the_middle_of(perform)  # type: ignore[method-assign]
        try:
            return super().perform_job(job, queue)
        finally:  # RQ ends this process without any exit handlers.
            cache_of().outage.settle()
            announcer.settle_within(EVENTS_SECONDS)


def end_scheduler_with_worker() -> None:
    """From now on have the kernel end what this process forks if it is killed (Linux, prctl(2)).

    RQ's scheduler would go on for ever; the process that does a job ignores the signal and finishes it.
    """
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        os.register_at_fork(after_in_child=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM))


class _Stopping:
    """Whether the process that does a job is asked to stop: once the job is done it ends by itself."""

    def __init__(self) -> None:
        self._is_asked = self._is_in_the_middle = False

    def end_in_the_middle_of(self, perform: Callable[[], T]) -> T:
        """Return what `perform()` does; raises ShutDownImminentException if that is to stop."""
        self._is_in_the_middle = True
        try:
            if self._is_asked:
                self.ask()
            return perform()
        finally:
            self._is_in_the_middle = False

    def ask(self, *_signal: object) -> None:
        self._is_asked = True
        if self._is_in_the_middle:
            raise ShutDownImminentException("the worker is being stopped", {})  # type: ignore[no-untyped-call]


_stopping = _Stopping()
