"""What the threads of one process share when they read through the cache."""

import time
from collections.abc import Callable

from freshcache.leases import Leases
from freshcache.local_cache import NoCopies
from freshcache.outage import Outage
from freshcache.redis.entries import RedisEntries
from freshcache.result import Result
from freshcache.singleflight import Flights, SharedReads


class Shared:
    """The entries, whether they can be reached, and what is being read at the moment."""

    def __init__(
        self,
        entries: RedisEntries,
        outage: Outage,
        sleep: Callable[[float], object] = time.sleep,
        copies: NoCopies | None = None,
    ) -> None:
        self.entries = entries
        self.outage = outage
        self.copies = copies or NoCopies()
        self.sleep = sleep
        self.leases = Leases()
        self.start_over()

    def start_over(self) -> None:
        """In the child of a fork nobody lands the flights that were under way, or frees a lock."""
        self.flights: Flights[Result] = Flights()
        self.reads: SharedReads[bytes] = SharedReads()
        self.leases.start_over()
        self.outage.start_over()
        self.copies.start_over()
