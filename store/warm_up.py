"""Filling the cached lists ahead of their readers: after a deploy and, if asked for, after writes.

`SET NX EX` notes that a warm-up is waiting, so that many writes ask for one; a lock lets one at a time
read the database.
"""

from collections.abc import Callable, Collection
from contextlib import suppress

from django.conf import settings

from freshcache.circuit_breaker import Unavailable
from freshcache.table_watch import TableWatch
from store import keys, locks, queues
from store.connections import ask_queue_redis

LEASE_SECONDS = 60
WAIT_SECONDS = 30


def request() -> None:
    """Have a worker warm the cache up, unless one is about to; raises Unavailable."""
    key, seconds = keys.warm_up_key(), keys.WARM_UP_SECONDS
    if ask_queue_redis(lambda redis: redis.set(key, "waiting", nx=True, ex=seconds), needed=False):
        queues.enqueue("store.jobs.warm_up")


def request_after_write() -> None:
    """Do so with CACHE_WARM_ON_WRITE; if it cannot be asked for, the next reader loads the list."""
    if settings.CACHE_WARM_ON_WRITE:
        with suppress(Unavailable):
            request()


def watch_writes(tables: Collection[str]) -> None:
    """From now on have every write to `tables` ask for a warm-up, with CACHE_WARM_ON_WRITE."""
    TableWatch(tables, lambda _notes: request_after_write()).install()


def run(fill: Callable[[], None]) -> None:
    """Call `fill()`, alone; raises LockNotAcquired, LockLost, Unavailable."""
    ask_queue_redis(lambda redis: redis.delete(keys.warm_up_key()))  # Later writes ask anew.
    with locks.hold("warm-up", lease_seconds=LEASE_SECONDS, wait_seconds=WAIT_SECONDS):
        fill()
