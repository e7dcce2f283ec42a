"""Announces events without ever failing a write: what Redis cannot be told is made up for.

A process that could not announce an event owes all clients a `bulk`, which says that they have to read
again. A thread tries once a second to send it; until then no write waits for Redis.
"""

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from redis.exceptions import RedisError

from freshcache.circuit_breaker import RETRY_SECONDS, Unavailable
from freshcache.redis import budget as redis_budget
from freshcache.redis.errors import NotThisTime, describe
from store import event_stream

logger = logging.getLogger(__name__)
BULK = "bulk"  # Something has changed, nobody says what.


class Announcer:
    """What one process announces, and what it still owes."""

    def __init__(self) -> None:
        self._owed = 0
        self._complained = False
        self.reset_after_fork()
        atexit.register(self._settle_at_exit)

    def reset_after_fork(self) -> None:
        """After a fork: the locks may be held, and the thread is, by nobody."""
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def owes(self) -> bool:
        """Whether an event could not be announced, which a `bulk` is going to make up for."""
        return self._owed > 0

    def announce(self, events: Iterable[dict[str, Any]]) -> None:
        """Announce events to all clients of all processes; never raises."""
        with self._lock:
            waits = self._owed > 0
            self._owed += waits  # The `bulk` that is on its way may be too early for these.
        if waits:
            self._see_to_it()
            return
        try:
            redis_budget.check()
            event_stream.append(events)
        except (RedisError, Unavailable) as error:
            self._owe(error)

    def settle(self) -> bool:
        """Try once to announce what is owed; return whether nothing is, now."""
        with self._settling:
            owed = self._owed
            if not owed:
                return True
            try:
                event_stream.append([{"event": BULK}])
            except (RedisError, Unavailable):
                return False
            with self._lock:
                self._owed -= owed
                is_settled = not self._owed
            if is_settled and self._complained:
                self._complained = False
                logger.warning("Redis takes events again")
            return is_settled

    def settle_within(self, seconds: float) -> bool:
        """Try once a second, for so long, to announce what is owed; return whether nothing is, now."""
        until = time.monotonic() + seconds
        while not self.settle():
            if time.monotonic() + RETRY_SECONDS > until:
                logger.error("Ending with an event that nobody was told of.")
                return False
            time.sleep(RETRY_SECONDS)
        return True

    def _owe(self, error: Exception) -> None:
        with self._lock:
            self._owed += 1
            is_news = not self._complained and not isinstance(error, Unavailable | NotThisTime)
            self._complained |= is_news
        if is_news:  # The breaker tells of outages, but not of a server that is full or read-only.
            why = describe(error, settings.QUEUE_REDIS_URL)
            logger.error("Redis refuses events; they wait: %s", why)
        self._see_to_it()

    def _see_to_it(self) -> None:
        with self._lock:
            if self._thread and self._thread.is_alive():
                return
            self._thread = threading.Thread(
                target=self._go_on_trying, name="events-owed", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # No thread to be had: the next write tries.
                self._thread.start()

    def _go_on_trying(self) -> None:
        while True:
            time.sleep(RETRY_SECONDS)
            self.settle()
            with self._lock:
                if not self._owed:
                    self._thread = None
                    return

    def _settle_at_exit(self) -> None:
        self.settle_within(0)


announcer = Announcer()
os.register_at_fork(after_in_child=announcer.reset_after_fork)
