"""Reads that may be late, sent to replicas of the database; all others go to the primary.

A read may be late only if its code says so, by `read()`, and its request may have it late, by `late()`:
what is forgotten is slow, not wrong. What is stored in a cache is read `on_primary()`, as a write makes
the cache forget at once, and a replica would fill it with what was true before.

A replica is read while its last proof of having all that the primary had is younger than
MYSQL_REPLICA_MAX_LAG; a thread for each asks for proofs while there are reads. One that fails or hangs
is left alone until the next proof. Without a proof of any the primary is read, and nothing is late.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from django.db import Error, connection, connections

from store import metrics, replication
from store.replication import NoPosition

logger = logging.getLogger(__name__)
IDLE_SECONDS = 5.0  # Without reads for so long a thread ends, and its connections with it.
LONGEST_PAUSE_SECONDS = 1.0

T = TypeVar("T")

# Of what runs at the moment: may it read late, and which replica does it read?
_may_be_late: ContextVar[bool] = ContextVar("may_be_late", default=False)
_read_from: ContextVar[str | None] = ContextVar("read_from", default=None)


def read(ask: Callable[[], T], on_primary: Callable[[Callable[[], T]], T] | None = None) -> T:
    """Return what `ask()` reads: on a replica if it may be late, else on the primary.

    `ask()` begins anew elsewhere if a replica fails; it reads all that it returns, and writes nothing.
    `on_primary(ask)` is called in the place of `ask()` where the primary is asked. Raises what they do.
    """
    for replica in _choices() if _may_be_late.get() and not _in_transaction() else ():
        replica.renew_connection()
        token = _read_from.set(replica.alias)
        try:
            found = ask()
        except Error as error:
            replica.fail(error)
        else:
            metrics.late_reads.labels(replica.alias).inc()
            return found
        finally:
            _read_from.reset(token)
    metrics.late_reads.labels("primary").inc()
    return on_primary(ask) if on_primary else ask()


@contextmanager
def late() -> Iterator[None]:
    """Let `read()` in the body read replicas."""
    token = _may_be_late.set(True)
    try:
        yield
    finally:
        _may_be_late.reset(token)


def on_primary(ask: Callable[[], T]) -> T:
    """Return what `ask()` does, reading the primary whatever `read()` is used in it."""
    may, source = _may_be_late.set(False), _read_from.set(None)
    try:
        return ask()
    finally:
        _read_from.reset(source)
        _may_be_late.reset(may)


class Router:
    """Sends the queries of `read()` to the replica that it has chosen; DATABASE_ROUTERS names it."""

    def db_for_read(self, _model: Any, **_hints: Any) -> str:
        return _read_from.get() or "default"

    def db_for_write(self, _model: Any, **_hints: Any) -> str:
        return "default"

    def allow_relation(self, *_objects: Any, **_hints: Any) -> bool:
        return True  # All of them are one database.

    def allow_migrate(self, db: str, *_: Any, **_hints: Any) -> bool:
        return db == "default"


class Replica:
    """What this process knows of one replica."""

    def __init__(
        self, alias: str, max_lag_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.alias = alias
        self._max_lag_seconds = max_lag_seconds
        # How long it may take to prove it, which is less than the connection waits for an answer.
        self._patience_seconds = min(max_lag_seconds, settings.MYSQL_TIMEOUT_SECONDS) / 2
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted_at = self._failed_at = float("-inf")
        self._proved_at: float | None = None  # when the primary was asked for what it has since got
        self._failures = 0
        self._is_left_alone = False
        self._seen = threading.local()

    def is_usable(self) -> bool:
        """Say whether it may be read; who asks has it proved from now on."""
        self._see_to_proofs()
        proved_at = self._proved_at
        return proved_at is not None and self._clock() - proved_at < self._max_lag_seconds

    def fail(self, error: Exception) -> None:
        """Leave it alone until its next proof."""
        with self._lock:
            self._failed_at, self._proved_at = self._clock(), None
            self._failures += 1
        connections[self.alias].close()
        self._leave_alone(error)

    def renew_connection(self) -> None:
        """Close this thread's connection if it is older than the last failure, and so perhaps broken."""
        if getattr(self._seen, "failures", 0) != self._failures:
            connections[self.alias].close()
            self._seen.failures = self._failures

    def prove(self) -> None:
        """Have it prove that it has all that the primary has now, if it soon has."""
        asked_at = self._clock()
        try:
            wanted = replication.position()
        except Error:  # What it means that the primary is down others see, and say.
            connection.close()
            return
        except NoPosition as error:
            self._leave_alone(error)
            return
        try:
            is_there = replication.reaches(self.alias, wanted, self._patience_seconds)
        except Error as error:
            connections[self.alias].close()
            self._leave_alone(error)
            return
        with self._lock:
            if is_there and asked_at > self._failed_at:
                self._proved_at = asked_at
        if is_there and self._is_left_alone:
            self._is_left_alone = False
            logger.warning("%s is read again", self._name)

    @property
    def _name(self) -> str:
        known = connections.settings[self.alias]
        return f"The replica at {known['HOST']}:{known['PORT']}"

    def _leave_alone(self, error: Exception) -> None:
        if not self._is_left_alone:
            self._is_left_alone = True
            logger.error("%s is left alone: %s", self._name, error)

    def _see_to_proofs(self) -> None:
        self._wanted_at = self._clock()
        # A thread does not survive a fork; whoever comes first in the child starts another.
        if self._thread and self._thread.is_alive():
            return
        with self._lock:
            if self._thread and self._thread.is_alive():
                return
            self._thread = threading.Thread(
                target=self._go_on_proving, name=f"proofs of {self.alias}", daemon=True
            )
            self._thread.start()

    def _go_on_proving(self) -> None:
        try:
            while self._clock() - self._wanted_at < IDLE_SECONDS:
                self.prove()
                time.sleep(min(self._max_lag_seconds / 4, LONGEST_PAUSE_SECONDS))
        finally:
            connections.close_all()


@cache
def _replicas() -> list[Replica]:
    aliases = [alias for alias in settings.DATABASES if alias != "default"]
    return [Replica(alias, settings.MYSQL_REPLICA_MAX_LAG) for alias in aliases]


def _choices() -> Iterator[Replica]:
    """Yield replicas that may be read, in random order, looking anew for each."""
    replicas = _replicas()
    for replica in random.sample(replicas, len(replicas)):
        if replica.is_usable():
            yield replica


def _in_transaction() -> bool:
    return connection.connection is not None and not connection.autocommit
