"""A lock among all processes, for work that is to be done by one at a time.

SET NX PX with a token of the holder's own; redis-py's Lua scripts extend and release for that token
only. Redis down: Unavailable. What such a lock does not promise, and when work has to be
fenced as well, is in docs/redis.md.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from freshcache.circuit_breaker import Unavailable
from freshcache.redis.errors import describe
from store import keys
from store.connections import queue_redis

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.05  # How often who waits asks again.


class LockNotAcquired(Exception):
    """Somebody else held the lock for as long as was waited."""


class LockLost(Exception):
    """The lease ended before the work did: another may have worked at the same time."""


class HeldLock:
    """A lock while its holder works; any thread of the holder may use it."""

    def __init__(self, name: str, lease_seconds: float) -> None:
        self.name = name
        self.lease_seconds = lease_seconds
        # One object for each holder, so that no thread can find another holder's token in it.
        self._lock = Lock(
            queue_redis(), keys.lock_key(name), timeout=lease_seconds, thread_local=False
        )
        self._leased_until = 0.0

    def still_mine(self) -> bool:
        """Say whether the lease goes on; raises Unavailable if Redis does not answer."""
        try:
            return self._lock.owned()
        except RedisError as error:
            raise self._unavailable(error) from error

    def extend(self) -> None:
        """Begin the lease anew, for `lease_seconds` from now.

        Raises LockLost if it is over, in which case the work has to stop, and Unavailable if
        Redis does not answer.
        """
        asked_at = time.monotonic()
        try:
            self._lock.reacquire()
        except LockError as error:
            raise self._lost() from error
        except RedisError as error:
            raise self._unavailable(error) from error
        self._leased_until = asked_at + self.lease_seconds

    def _acquire(self, wait_seconds: float) -> None:
        started = time.monotonic()
        try:
            acquired = self._lock.acquire(sleep=POLL_SECONDS, blocking_timeout=wait_seconds)
        except RedisError as error:
            raise self._unavailable(error) from error
        waited = time.monotonic() - started
        if not acquired:
            raise LockNotAcquired(
                f'The lock "{self.name}" is held by somebody else; waited {waited:.1f} s for it.'
            )
        # Counted from after the answer: Redis began to count earlier, by a read's timeout at most.
        self._leased_until = time.monotonic() + self.lease_seconds

    def _release(self) -> None:
        try:
            self._lock.release()
        except LockError as error:
            raise self._lost() from error
        except RedisError as error:
            if time.monotonic() >= self._leased_until:
                raise self._lost() from error
            # The work is done, and was done alone. Who comes next waits for the lease to end.
            why = describe(error.__cause__ or error, settings.QUEUE_REDIS_URL)
            logger.warning('The lock "%s" ends with its lease: %s', self.name, why)

    def _lost(self) -> LockLost:
        return LockLost(
            f'The lease of the lock "{self.name}" ({self.lease_seconds:g} s) was over before the '
            "work was; another may have worked at the same time. Extend it more often."
        )

    def _unavailable(self, error: RedisError) -> Unavailable:
        return Unavailable(f'Redis cannot be asked about the lock "{self.name}": {error}')


@contextmanager
def hold(name: str, *, lease_seconds: float, wait_seconds: float = 0) -> Iterator[HeldLock]:
    """Hold the lock `name` around the body, for `lease_seconds` unless the body extends it.

        with locks.hold("import", lease_seconds=60) as lock:
            for batch in batches:
                lock.extend()
                store(batch)

    Raises LockNotAcquired if it cannot be had within `wait_seconds`, Unavailable if Redis is
    down, and at the end LockLost if the lease did not last; an exception of the body goes before.
    """
    if lease_seconds <= 0:
        raise ValueError(f"lease_seconds is {lease_seconds}; a lock needs a lease above 0")
    lock = HeldLock(name, lease_seconds)
    lock._acquire(wait_seconds)
    try:
        yield lock
    except BaseException:
        try:
            lock._release()
        except LockLost as lost:
            logger.warning("%s", lost)
        raise
    lock._release()
