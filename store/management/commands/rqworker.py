import logging
import signal
import sys
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django_rq.management.commands.rqworker import Command as RQWorkerCommand
from redis.exceptions import RedisError
from rq.exceptions import StopRequested

from freshcache.redis.errors import describe
from freshcache.sparing_log import Sparingly, kind_of
from store.worker import WORKER_TTL_SECONDS, StoreWorker, end_scheduler_with_worker

logger = logging.getLogger(__name__)
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class Command(RQWorkerCommand):
    help = "Do the jobs of all queues, JSON only, and keep the timetable; nothing has to be named."

    _complaints = Sparingly()

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)  # type: ignore[no-untyped-call]
        parser.set_defaults(
            worker_class="store.worker.StoreWorker",
            serializer="rq.serializers.JSONSerializer",
            with_scheduler=True,
            worker_ttl=WORKER_TTL_SECONDS,
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Begin anew for as long as Redis is what ends the worker; RQ's ends for good then."""
        pause = PAUSE_SECONDS
        end_scheduler_with_worker()
        while True:
            began = time.monotonic()
            _exit_when_asked()  # Until there is a worker that is asked.
            try:
                super().handle(*(args or settings.RQ_QUEUES), **options)  # type: ignore[no-untyped-call]
            except (RedisError, SystemExit, StopRequested) as error:
                if StoreWorker.asked_to_stop:
                    return
                if options["burst"] or (isinstance(error, SystemExit) and not error.code):
                    raise
                if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                    pause = PAUSE_SECONDS
                _exit_when_asked()
                cause = error if isinstance(error, RedisError) else error.__context__ or error
                if self._complaints.allows(kind_of(cause)):
                    said = describe(cause, settings.QUEUE_REDIS_URL)
                    logger.warning("The worker has lost Redis and begins anew: %s", said)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                return


def _exit_when_asked() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _exit)


def _exit(_signum: int, _frame: FrameType | None) -> None:
    sys.exit()
