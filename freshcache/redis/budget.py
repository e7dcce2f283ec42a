"""What one HTTP request spends on Redis in all: CACHE_BUDGET_SECONDS, in the process' own time.

The pools (connections.WaitingPool) count for how long a request has their connections. Once the budget
has no room for one more answer, whatever the request can do without is left out: `check()` raises
OverBudget, which its caller takes as it takes a Redis that is down, and no circuit opens by it. What is
asked without `check()` is asked however late it is. Jobs, threads and streams have no budget.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from freshcache import conf
from freshcache.process_clock import Stopwatch
from freshcache.redis.errors import NotThisTime
from freshcache.sparing_log import Sparingly

logger = logging.getLogger(__name__)
_complaints = Sparingly()


class OverBudget(NotThisTime):
    """The request has spent the time that it may spend on Redis."""


class Budget:
    """What one request has spent so far."""

    def __init__(self) -> None:
        self.spent_seconds = 0.0
        self.times = 0  # that a connection was taken
        self.held: dict[int, Stopwatch] = {}
        self._watch = Stopwatch()

    def has_room(self, trips: int) -> bool:
        """Say whether `trips` more answers fit, one if it is as slow as it may be.

        Where this process is late, so is a Redis on the same machine: patience is the limit then.
        """
        slow = self.spent_seconds / self.times * trips if trips > 1 and self.times else 0.0
        expected = self.spent_seconds + max(conf.current().read_timeout, slow)
        if expected <= conf.current().budget_seconds:
            return True
        return self._watch.was_late and self._watch.own_seconds < conf.current().wait_seconds


_budget: ContextVar[Budget | None] = ContextVar("redis_budget", default=None)


class RedisBudgetMiddleware:
    """Gives each request its budget; it has to be ahead of all that asks Redis."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        token = _budget.set(Budget())
        try:
            return self.get_response(request)
        finally:
            _budget.reset(token)


def check(trips: int = 1) -> None:
    """Raise OverBudget if the request has no time for `trips` more answers, as slow as those before."""
    if not has_room(trips):
        if _complaints.allows("over budget"):
            logger.warning("Redis is slow: a request has spent its CACHE_BUDGET_SECONDS on it")
        raise OverBudget("this request has spent its time for Redis")


def has_room(trips: int = 1) -> bool:
    """Say whether `check()` would raise nothing."""
    budget = _budget.get()
    return budget is None or budget.has_room(trips)


@contextmanager
def waiting() -> Iterator[None]:
    """Count the time that the body takes."""
    budget = _budget.get()
    if budget is None:
        yield
        return
    watch = Stopwatch()
    try:
        yield
    finally:
        budget.spent_seconds += watch.own_seconds


def taken(connection: object) -> None:
    """Count the time from now on, until the connection is `released()`."""
    if budget := _budget.get():
        budget.times += 1
        budget.held[id(connection)] = Stopwatch()


def released(connection: object) -> None:
    """Stop counting for a connection."""
    if (budget := _budget.get()) and (watch := budget.held.pop(id(connection), None)):
        budget.spent_seconds += watch.own_seconds
