"""What the threads of one process share when they read through the cache."""

import time
from collections.abc import Callable

from store.caching.copies import NoCopies
from store.caching.fetched import Fetched
from store.caching.flights import Flights, SharedReads
from store.caching.leases import Leases
from store.caching.outage import Outage
from store.caching.redis_entries import RedisEntries


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
        self.flights: Flights[Fetched] = Flights()
        self.reads: SharedReads[bytes] = SharedReads()
        self.leases.start_over()
        self.outage.start_over()
        self.copies.start_over()
