"""A circuit breaker: what has just failed is not waited for again by everybody.

After a failure one call a second tries again; the others are refused at once, until one is answered
(Michael Nygard, Release It!, 2007, "Circuit Breaker"). One call that goes wrong is not an outage: what
counts is whether the server answers, whatever the answer is.
"""

import logging
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from freshcache.sparing_log import Sparingly, kind_of

logger = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
MOST_CHANGES = 5  # that are logged within a minute

T = TypeVar("T")


class Unavailable(Exception):
    """What was asked cannot answer at the moment; try again in `retry_after_seconds`."""

    retry_after_seconds = int(RETRY_SECONDS)


class Verdict(Enum):
    """What an exception says about the server that was asked."""

    DOWN = "down"
    ANSWERED = "answered"  # it refused, or stopped, this one call
    UNKNOWN = "unknown"  # it was not asked


class Breaker:
    """Guards calls to something that may be down, for one process.

    `judge(error, was_down)` says what an exception says about the server. It may ask the server, which is
    not needed if it is known to have been down. Callers get `failures`
    as Unavailable, other exceptions (of an answer, such as that there is no such product) as they are.
    """

    def __init__(
        self,
        name: str,
        failures: tuple[type[Exception], ...],
        judge: Callable[[Exception, bool], Verdict],
        clock: Callable[[], float] = time.monotonic,
        describe: Callable[[Exception], str] = lambda error: f"{type(error).__name__}: {error}",
    ) -> None:
        self.name = name
        self._failures = failures
        self._judge = judge
        self._clock = clock
        self._lock = threading.Lock()
        self._next_try: float | None = None  # None: closed
        self._local = threading.local()
        self._describe = describe
        self._refusals = Sparingly(clock=clock)
        self._changes = Sparingly(MOST_CHANGES, clock)
        self._is_told = False

    def call(self, function: Callable[[], T]) -> T:
        """Return what `function()` returns.

        Raises Unavailable if what is asked is, or is known to be, down, or refuses this call.
        """
        if getattr(self._local, "is_inside", False):  # Who tries may ask more than once.
            return function()
        if not self._may_try():
            raise Unavailable(f"{self.name} is down")
        self._local.is_inside = True
        try:
            result = function()
        except Unavailable:
            raise
        except Exception as error:
            verdict = self._judge(error, self._next_try is not None)
            if verdict is Verdict.DOWN:
                self._open(error)
                raise Unavailable(f"{self.name} is down") from error
            if verdict is Verdict.ANSWERED:
                self._close()
            if not isinstance(error, self._failures):
                raise
            self.log_refusal(error)
            raise Unavailable(f"{self.name} did not do what was asked") from error
        finally:
            self._local.is_inside = False
        self._close()
        return result

    def log_refusal(self, error: Exception) -> None:
        """Log that one call failed, once a minute for each kind of error."""
        if self._refusals.allows(kind_of(error)):
            logger.error("%s did not do what was asked: %s", self.name, self._describe(error))

    def reset(self) -> None:
        """Forget about failures."""
        self._next_try = None
        self._refusals.forget()
        self._changes.forget()

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
            self._is_told = self._changes.allows("down")
            if self._is_told:
                logger.error("%s is down: %s", self.name, self._describe(error), exc_info=error)

    def _close(self) -> None:
        if self._next_try is not None:
            self._next_try = None
            if self._is_told:
                logger.warning("%s is back", self.name)
