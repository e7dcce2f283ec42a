"""Refills entries in threads of this process, while requests are served what was true until just now.

What is asked for most comes first; a few at a time, as each takes a connection to the database.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import close_old_connections, connections

from freshcache.background_thread import BackgroundThread

logger = logging.getLogger(__name__)
MOST_THREADS = 4
IDLE_SECONDS = 5.0  # Without work for so long a thread ends, and its database connection with it.


@dataclass(frozen=True)
class Waiting:
    """A refill that has not begun."""

    refill: Callable[[], object]
    demand: Callable[[], int]  # how often it has been asked for by now


class BackgroundRefresh:
    """What is to be refilled."""

    def __init__(self) -> None:
        self._threads = [BackgroundThread("refills", self._work) for _ in range(MOST_THREADS)]
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """After a fork: no thread, and nothing to do."""
        self._changed = threading.Condition()
        self._waiting: list[Waiting] = []
        self._idle = 0
        for thread in self._threads:
            thread.reset_after_fork()

    def add(self, refill: Callable[[], object], demand: Callable[[], int] = lambda: 0) -> bool:
        """Have `refill()` called soon, in another thread; what it raises is logged there.

        Of those that wait, the one whose `demand()` is largest comes first. Returns False, and does
        nothing, if no thread can be had.
        """
        with self._changed:
            self._waiting.append(Waiting(refill, demand))
            if self._idle >= len(self._waiting):
                self._changed.notify()
                return True
        # One more thread, or where there are as many as may be, one that looks again before it ends.
        for thread in sorted(self._threads, key=lambda thread: thread.is_running):
            if thread.ensure_running():
                return True
        with self._changed:
            self._waiting = [one for one in self._waiting if one.refill is not refill]
        return False

    def _work(self) -> None:
        try:
            while waiting := self._next():
                close_old_connections()  # As Django does around a request.
                try:
                    waiting.refill()
                except Exception:
                    logger.exception("An entry could not be refilled; the next request tries.")
        finally:
            connections.close_all()

    def _next(self) -> Waiting | None:
        """Return what is to be refilled next, waiting for it; None after IDLE_SECONDS of nothing."""
        until = time.monotonic() + IDLE_SECONDS
        with self._changed:
            while not self._waiting:
                self._idle += 1
                try:
                    self._changed.wait(until - time.monotonic())
                finally:
                    self._idle -= 1
                if not self._waiting and time.monotonic() >= until:
                    return None
            found = max(self._waiting, key=lambda one: one.demand())
            self._waiting.remove(found)
            return found
