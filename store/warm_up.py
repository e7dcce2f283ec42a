"""Filling the cached lists ahead of their readers: after a deploy and, if asked for, after writes.

`SET NX EX` notes that a warm-up is waiting, so that many writes ask for one; a lock lets one at a time
read the database.
"""

from collections.abc import Callable

from store import keys, locks, queues
from store.connections import ask_queue_redis

LEASE_SECONDS = 60
WAIT_SECONDS = 30


def request() -> None:
    """Have a worker warm the cache up, unless one is about to; raises breaker.Unavailable."""
    key, seconds = keys.warm_up_key(), keys.WARM_UP_SECONDS
    if ask_queue_redis(lambda redis: redis.set(key, "waiting", nx=True, ex=seconds), needed=False):
        queues.enqueue("store.jobs.warm_up")


def run(fill: Callable[[], None]) -> None:
    """Call `fill()`, alone; raises LockNotAcquired, LockLost, breaker.Unavailable."""
    ask_queue_redis(lambda redis: redis.delete(keys.warm_up_key()))  # Later writes ask anew.
    with locks.hold("warm-up", lease_seconds=LEASE_SECONDS, wait_seconds=WAIT_SECONDS):
        fill()
