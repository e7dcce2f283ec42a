"""What the threads of one process share when they read through the cache."""

import time
from collections.abc import Callable

from freshcache.leases import Leases
from freshcache.local_cache import NoLocalCache
from freshcache.outage import Outage
from freshcache.redis.entries import RedisEntries
from freshcache.result import Result
from freshcache.singleflight import SharedReads, SingleFlight


class Shared:
    """The entries, whether they can be reached, and what is being read at the moment."""

    def __init__(
        self,
        entries: RedisEntries,
        outage: Outage,
        sleep: Callable[[float], object] = time.sleep,
        copies: NoLocalCache | None = None,
    ) -> None:
        self.entries = entries
        self.outage = outage
        self.copies = copies or NoLocalCache()
        self.sleep = sleep
        self.leases = Leases()
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In the child of a fork nobody lands the flights that were under way, or frees a lock."""
        self.singleflight: SingleFlight[Result] = SingleFlight()
        self.reads: SharedReads[bytes] = SharedReads()
        self.leases.reset_after_fork()
        self.outage.reset_after_fork()
        self.copies.reset_after_fork()
