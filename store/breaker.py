"""A circuit breaker: what has just failed is not waited for again by everybody.

After a failure one call a second tries again; the others are refused at once, until one succeeds
(Michael Nygard, Release It!, 2007, "Circuit Breaker").
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)
RETRY_SECONDS = 1.0

T = TypeVar("T")


class Unavailable(Exception):
    """What was asked cannot answer at the moment; try again in `retry_after_seconds`."""

    retry_after_seconds = int(RETRY_SECONDS)


class Breaker:
    """Guards calls to something that may be down, for one process.

    `failures` are the exceptions that mean that it is down; `on_failure()` is called after each,
    to clean up.
    """

    def __init__(
        self,
        name: str,
        failures: tuple[type[Exception], ...],
        on_failure: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._failures = failures
        self._on_failure = on_failure
        self._clock = clock
        self._lock = threading.Lock()
        self._next_try: float | None = None  # None: closed

    def call(self, function: Callable[[], T]) -> T:
        """Return what `function()` returns; raises Unavailable if it is, or is known to be, down."""
        if not self._may_try():
            raise Unavailable(f"{self.name} is down")
        try:
            result = function()
        except self._failures as error:
            self._on_failure()
            self._open(error)
            raise Unavailable(f"{self.name} is down") from error
        if self._next_try is not None:
            self.reset()
            logger.warning("%s is back", self.name)
        return result

    def reset(self) -> None:
        """Forget about failures."""
        self._next_try = None

    def _may_try(self) -> bool:
        if self._next_try is None:
            return True
        with self._lock:
            if self._next_try is not None and self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + RETRY_SECONDS
            return True

    def _open(self, error: Exception) -> None:
        with self._lock:
            was_closed = self._next_try is None
            self._next_try = self._clock() + RETRY_SECONDS
        if was_closed:
            logger.error("%s is down: %s", self.name, error, exc_info=error)
