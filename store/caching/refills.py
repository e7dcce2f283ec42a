"""Refills entries in a thread of this process, while requests are served what was true until just now."""

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from django.db import close_old_connections, connections

logger = logging.getLogger(__name__)
IDLE_SECONDS = 5.0  # Without work for so long the thread ends, and its database connection with it.


class Refills:
    """What is to be refilled, one after the other."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """After a fork: no thread, and nothing to do."""
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, refill: Callable[[], object]) -> None:
        """Have `refill()` called soon, in another thread; what it raises is logged there."""
        with self._lock:
            self._waiting.put(refill)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="refills", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        try:
            while refill := self._next():
                close_old_connections()  # As Django does around a request.
                try:
                    refill()
                except Exception:
                    logger.exception("An entry could not be refilled; the next request tries.")
        finally:
            connections.close_all()

    def _next(self) -> Callable[[], object] | None:
        try:
            return self._waiting.get(timeout=IDLE_SECONDS)
        except Empty:
            pass
        with self._lock:
            if self._waiting.empty():
                self._thread = None
                return None
        return self._next()
