"""Reads that may be late, sent to replicas of the database; all others go to the primary.

A read may be late only if its code says so, by `read()`, and its request may have it late, by `late()`.
What is loaded for the cache is read from the primary: a write makes it stale at once, and a replica would
fill it with what was true before. Replicas that fail, or lag too far (`replication`), are passed
over; without any the primary is read.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from django.db import Error

from freshcache import is_loading, watched_connections
from store import metrics
from store.replication import Replica

T = TypeVar("T")

# Of what runs at the moment: may it read late, and which replica does it read?
_may_be_late: ContextVar[bool] = ContextVar("may_be_late", default=False)
_read_from: ContextVar[str | None] = ContextVar("read_from", default=None)


def read(ask: Callable[[], T], primary: Callable[[Callable[[], T]], T] | None = None) -> T:
    """Return what `ask()` reads: on a replica if it may be late, else on the primary.

    `ask()` begins anew elsewhere if a replica fails, and on the primary if only the query does; it reads
    all that it returns, and writes nothing.
    `primary(ask)` is called in the place of `ask()` where the primary is asked. Raises what they raise.
    """
    may_be_late = _may_be_late.get() and not watched_connections.in_transaction()
    for replica in _choices() if may_be_late else ():
        replica.renew_connection()
        token = _read_from.set(replica.alias)
        try:
            found = ask()
        except Error as error:
            if replica.answers():
                break  # It is the query that fails or takes too long, and would on each of them.
            replica.fail(error)
        else:
            metrics.late_reads.labels(replica.alias).inc()
            return found
        finally:
            _read_from.reset(token)
    found = primary(ask) if primary else ask()
    if may_be_late:
        metrics.late_reads.labels("primary").inc()
    return found


@contextmanager
def late() -> Iterator[None]:
    """Let `read()` in the body read replicas."""
    token = _may_be_late.set(True)
    try:
        yield
    finally:
        _may_be_late.reset(token)


class Router:
    """Sends the queries of `read()` to the replica that it has chosen; DATABASE_ROUTERS names it."""

    def db_for_read(self, _model: Any, **_hints: Any) -> str:
        return (None if is_loading() else _read_from.get()) or "default"

    def db_for_write(self, _model: Any, **_hints: Any) -> str:
        return "default"

    def allow_relation(self, *_objects: Any, **_hints: Any) -> bool:
        return True  # All of them are one database.

    def allow_migrate(self, db: str, *_: Any, **_hints: Any) -> bool:
        return db == "default"


@cache
def _replicas() -> list[Replica]:
    aliases = [alias for alias in settings.DATABASES if alias != "default"]
    return [
        Replica(alias, settings.MYSQL_REPLICA_MAX_LAG, settings.MYSQL_TIMEOUT_SECONDS)
        for alias in aliases
    ]


def _choices() -> Iterator[Replica]:
    """Yield replicas that may be read, in random order, looking anew for each."""
    replicas = _replicas()
    for replica in random.sample(replicas, len(replicas)):
        if replica.is_usable():
            yield replica
