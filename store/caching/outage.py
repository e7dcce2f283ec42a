"""What a process does from the moment it cannot reach Redis until it may trust Redis again.

While the outage lasts no request touches Redis. A thread tries once a second; the way back leads
through new generations for everything, as what Redis holds may be older than writes that nobody could
announce to it. That is also how an invalidation that got lost is made up for.
"""

import atexit
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from redis.exceptions import RedisError

from store import metrics
from store.connections import NotThisTime
from store.sentinels import PrimaryChanged

logger = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
# What changed so lately may be unknown to a server that takes over: replication lags behind.
REMEMBERED_SECONDS = 60.0
REMEMBERED_CHANGES = 10_000


class Outage:
    """The circuit breaker of one process for Redis.

    `forget_all()` deletes all generations, which a full Redis allows too; `renew_all()` sets new
    ones, which proves that Redis takes writes again; `delete()` deletes a single key. They raise
    RedisError while it is down.
    """

    def __init__(
        self,
        forget_all: Callable[[], None],
        renew_all: Callable[[], None],
        delete: Callable[[str], object] = lambda _key: None,
    ) -> None:
        self._forget_all = forget_all
        self._renew_all = renew_all
        self._delete = delete
        self._outdated: deque[str] = deque()
        self._changed: deque[tuple[float, str]] = deque(maxlen=REMEMBERED_CHANGES)
        self._began: float | None = None
        self._invalidation_lost = False
        self.start_over()
        atexit.register(self.settle)

    def start_over(self) -> None:
        """After a fork: the lock may be held, and the thread is, by nobody."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def lasts(self) -> bool:
        """Whether Redis is left alone at the moment."""
        if self._began is None:
            return False
        self._see_to_recovery()
        return True

    @property
    def owes_an_invalidation(self) -> bool:
        """Whether a write could not be announced, which the thread is going to make up for."""
        return self.lasts and self._invalidation_lost

    def note_failure(self, error: RedisError) -> None:
        """Note that a command failed with `error`, whose work need not be made up for."""
        if not isinstance(error, NotThisTime):
            self.begin(error)

    def begin(self, error: RedisError, *, invalidation_lost: bool = False) -> None:
        """Leave Redis alone from now on, as a command failed with `error`."""
        with self._lock:
            self._invalidation_lost |= invalidation_lost
            if self._began is not None:
                return
            self._began = time.monotonic()
        metrics.redis_outage.set(1)
        logger.warning("Redis is left alone, answers come from the database: %r", error)
        self._see_to_recovery()

    def leave_outdated(self, whole_key: str) -> None:
        """Note that what Redis holds under a key is wrong: it is deleted before Redis is used again."""
        with self._lock:
            self._outdated.append(whole_key)
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
            self._outdated.extend({key for at, key in list(self._changed) if at > since})
        self.begin(PrimaryChanged("another server has become the primary"), invalidation_lost=True)

    def try_to_end(self) -> bool:
        """Try once to bring Redis up to date; return whether the outage is over."""
        with self._lock:  # Who writes from now on tells Redis, or notes it, anew.
            owed, self._invalidation_lost = self._invalidation_lost, False
        try:
            self._forget_all()
            owed = False
            while self._outdated:
                self._delete(self._outdated[0])
                self._outdated.popleft()
            self._renew_all()
        except RedisError:
            self._invalidation_lost |= owed
            return False
        with self._lock:
            if self._invalidation_lost or self._outdated:  # since these were made up for
                return False
            began, self._began = self._began, None
        if began is not None:
            metrics.redis_outage.set(0)
            logger.warning("Redis is used again, after %.1f s", time.monotonic() - began)
        return True

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
