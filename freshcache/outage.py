"""What a process does from the moment it cannot reach Redis until it may trust Redis again.

While the outage lasts no request touches Redis. A thread tries once a second. If this process could not
announce a write, or if it is not the same server any more, which may hold what is older than writes that
were announced, the way back leads through new generations for everything. Other processes make up for
what they could not announce by themselves; so what is cached survives an outage that lost nothing.
"""

import atexit
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from freshcache import metrics
from freshcache.circuit_breaker import MOST_CHANGES
from freshcache.process_clock import MOST_TRIES, Stopwatch, retry_while_late
from freshcache.redis import budget as redis_budget
from freshcache.redis.errors import NotThisTime, describe, is_refusal
from freshcache.redis.sentinel import PrimaryChanged
from freshcache.sparing_log import Sparingly, kind_of

logger = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
# What changed so lately may be unknown to a server that takes over: replication lags behind.
REMEMBERED_SECONDS = 60.0
REMEMBERED_CHANGES = 10_000


T = TypeVar("T")


class TooSlow(NotThisTime):
    """A command was slow once, and its request has no time to see whether it is so again."""


class Outage:
    """The circuit breaker of one process for Redis.

    `forget_all()` deletes all generations, which a full Redis allows too; `renew_all()` sets new
    ones; `delete()` deletes a single key; `prove()` shows that Redis takes writes and returns what tells
    this server, and what it holds, from another one. They raise RedisError while it is down. `location()`
    is its URL.
    """

    def __init__(
        self,
        forget_all: Callable[[], None],
        renew_all: Callable[[], None],
        delete: Callable[[str], object] = lambda _key: None,
        prove: Callable[[], object] = lambda: None,
        location: Callable[[], str] = lambda: "",
    ) -> None:
        self._forget_all = forget_all
        self._renew_all = renew_all
        self._delete = delete
        self._prove = prove
        self._location = location
        self._server: object = None  # what `prove` has said last
        self._has_looked = False
        self._suspected_at: float | None = None
        self._refusals = Sparingly()
        self._changes = Sparingly(MOST_CHANGES)
        self._is_told = False
        self._outdated: dict[str, None] = {}  # in their order, each once
        self._changed: deque[tuple[float, str]] = deque(maxlen=REMEMBERED_CHANGES)
        self._began: float | None = None
        self._invalidation_lost = False
        self.reset_after_fork()
        atexit.register(self.settle)

    def reset_after_fork(self) -> None:
        """After a fork: the lock may be held, and the thread is, by nobody."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        """Whether Redis is left alone at the moment."""
        if self._began is None:
            return False
        self._see_to_recovery()
        return True

    @property
    def has_pending_invalidations(self) -> bool:
        """Whether a write could not be announced, which the thread is going to make up for."""
        return self.is_open and self._invalidation_lost

    def note_failure(self, error: RedisError) -> None:
        """Note that a command failed with `error`, whose work need not be made up for.

        A refusal (of one type, one user, one size) is an outage only if Redis takes no writes at all.
        """
        if isinstance(error, NotThisTime) or (is_refusal(error) and self._takes_writes(error)):
            return
        self.trip(error)

    def ask(
        self,
        command: Callable[[], T],
        has_time: Callable[[], bool] = lambda: True,
        *,
        needed: bool = False,
    ) -> T:
        """Return what `command()` does; if its connection is lost or slow, once more on another one.

        What is not `needed` is not asked by a request that has spent its time for Redis: OverBudget.

        Not without time for it, and only from a server that is proven to be the same, as one that has
        been restarted may hold what is older than the last writes. `command()` may be repeated. A timeout
        while this process was late says nothing of Redis: it does not count as a try.
        """
        if not needed:
            redis_budget.check()
        tries, most_tries = 0, 2
        while True:
            began, watch = time.monotonic(), Stopwatch()
            try:
                found = command()
            except (RedisConnectionError, RedisTimeoutError) as error:
                if isinstance(error, PrimaryChanged):
                    raise
                tries += 1
                was_late = isinstance(error, RedisTimeoutError) and watch.was_late
                most_tries = min(most_tries + was_late, MOST_TRIES)
                if has_time():
                    if tries >= most_tries or not self._is_same_server():
                        raise
                elif was_late or self._is_first_suspicion(began):
                    raise TooSlow(str(error)) from error
                else:
                    raise
            else:
                self._suspected_at = None
                return found
            if not has_time():
                raise TooSlow("Redis answers again, but too late")

    def know_server(self) -> None:
        """Look once which server it is, to know it again after a connection was lost."""
        if not self._has_looked:
            self._has_looked = True
            try:
                self._server = retry_while_late(self._prove, RedisTimeoutError)
            except RedisError:
                self._has_looked = False

    def _is_same_server(self) -> bool:
        try:
            found = retry_while_late(self._prove, RedisTimeoutError)
        except RedisError:
            return False
        return found is not None and found == self._server

    def _is_first_suspicion(self, began: float) -> bool:
        """Say whether nothing failed, unanswered since, before what failed now was asked."""
        suspected_at, self._suspected_at = self._suspected_at, time.monotonic()
        return suspected_at is None or began < suspected_at

    def _takes_writes(self, error: RedisError) -> bool:
        try:
            retry_while_late(self._prove, RedisTimeoutError)
        except RedisError:
            return False
        if self._refusals.allows(kind_of(error)):
            logger.error("Redis refused a command: %s", describe(error, self._location()))
        return True

    def trip(self, error: RedisError, *, invalidation_lost: bool = False) -> None:
        """Leave Redis alone from now on, as a command failed with `error`."""
        with self._lock:
            self._invalidation_lost |= invalidation_lost
            if self._began is not None:
                return
            self._began = time.monotonic()
        metrics.redis_outage.set(1)
        self._is_told = self._changes.allows("outage")
        if self._is_told:
            logger.warning(
                "Redis is left alone, answers come from the database: %s",
                describe(error, self._location()),
            )
        self._see_to_recovery()

    def leave_outdated(self, whole_key: str) -> None:
        """Note that what Redis holds under a key is wrong: it is deleted before Redis is used again."""
        with self._lock:
            self._outdated[whole_key] = None
            if self._began is None:  # The outage has just ended; it goes on.
                self._began = time.monotonic()
        self._see_to_recovery()

    def note_change(self, whole_key: str) -> None:
        """Note that a key which no generation vouches for has just been set or deleted."""
        self._changed.append((time.monotonic(), whole_key))

    def primary_changed(self) -> None:
        """Note that another server takes over, which may lack what its predecessor was told last."""
        since = time.monotonic() - REMEMBERED_SECONDS
        with self._lock:
            self._outdated |= {key: None for at, key in list(self._changed) if at > since}
        self.trip(PrimaryChanged("another server has become the primary"), invalidation_lost=True)

    def try_to_end(self) -> bool:
        """Try once to bring Redis up to date; return whether the outage is over."""
        with self._lock:  # Who writes from now on tells Redis, or notes it, anew.
            owed, self._invalidation_lost = self._invalidation_lost, False
        try:
            # Other processes may have lost a write in an outage, too, and make up for it a moment later.
            renews = owed or self._began is not None
            if renews:
                self._forget_all()
                owed = False
            server = self._prove()
            self._delete_outdated()
            if renews:
                self._renew_all()
            self._server = server
        except RedisError:
            self._invalidation_lost |= owed
            return False
        with self._lock:
            if self._invalidation_lost or self._outdated:  # since these were made up for
                return False
            began, self._began = self._began, None
        if began is not None:
            metrics.redis_outage.set(0)
            if self._is_told:
                logger.warning("Redis is used again, after %.1f s", time.monotonic() - began)
        return True

    def _delete_outdated(self) -> None:
        while self._outdated:
            with self._lock:
                key = next(iter(self._outdated))
                del self._outdated[key]  # Now, so that it stays if it is noted again meanwhile.
            try:
                self._delete(key)
            except RedisError:
                with self._lock:
                    self._outdated[key] = None
                raise

    def _see_to_recovery(self) -> None:
        with self._lock:
            # A thread does not survive a fork; whoever comes first in the child starts another.
            if self._began is None or (self._thread and self._thread.is_alive()):
                return
            self._thread = threading.Thread(
                target=self._recover, name="redis-recovery", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # No thread to be had: the next request tries.
                self._thread.start()

    def _recover(self) -> None:
        while True:
            time.sleep(RETRY_SECONDS)
            if self._began is not None:
                self.try_to_end()
            with self._lock:
                if self._began is None:
                    self._thread = None  # The next outage starts another.
                    return

    def settle(self) -> None:
        """Make up for what Redis was not told, once more and for the last time in this process."""
        if self._invalidation_lost or self._outdated:
            self.try_to_end()
        if self._invalidation_lost:
            logger.error(
                "Ending with a write that Redis was not told of; CACHE_TTL bounds how long."
            )
        if self._outdated:
            logger.error("Ending with %d old sessions left in Redis.", len(self._outdated))
