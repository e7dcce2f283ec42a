"""Loading from the database: behind a circuit breaker for each process, and never from a replica.

What has just failed to answer is not waited for by everybody, and a last good value can bridge it.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from django.db import InterfaceError, OperationalError

from freshcache import database_errors
from freshcache.circuit_breaker import Breaker

T = TypeVar("T")

database = Breaker(
    "The database",
    failures=(OperationalError, InterfaceError),
    judge=database_errors.judge,
    describe=database_errors.describe,
)
_is_loading: ContextVar[bool] = ContextVar("is_loading", default=False)


def is_loading() -> bool:
    """Say whether a value is being loaded for the cache.

    A database router that knows replicas has to name the primary then: a replica may not have yet what
    made the last entry stale.
    """
    return _is_loading.get()


def load(function: Callable[[], T]) -> T:
    """Return what `function()` loads for the cache; raises Unavailable if the database is down."""
    token = _is_loading.set(True)
    try:
        return database.call(function)
    finally:
        _is_loading.reset(token)
