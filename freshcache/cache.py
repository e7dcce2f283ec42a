"""The cache of one process: one read is a `Lookup`, one write an invalidation.

It knows neither what is cached nor Redis' commands; it is given an item and a loader.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from redis.exceptions import RedisError

from freshcache import keys, metrics
from freshcache.circuit_breaker import Unavailable
from freshcache.lookup import Lookup
from freshcache.result import Item, Limits, Result
from freshcache.shared import Shared


class Cache(Shared):
    """The cache as one process uses it."""

    def fetch(
        self,
        item: Item,
        load: Callable[[], bytes],
        limits: Limits,
        *,
        may_store: bool = True,
        may_load_later: bool = False,
    ) -> Result:
        """Return the value of `item`, from the cache if it has it, else from `load()`.

        `may_store` False is for a caller whose `load()` sees a snapshot that may be old, `may_refill`
        True for a `load()` that can be called later, in another thread. Raises what `load()` raises;
        where that is Unavailable, only if there is no last good value.
        """
        lookup = self._request(
            item, load, limits, may_store=may_store, may_load_later=may_load_later
        )
        try:
            fetched = lookup.run()
        except Unavailable:
            metrics.requests.labels(item.region, "error").inc()
            raise
        metrics.requests.labels(item.region, fetched.outcome.value).inc()
        return replace(
            fetched, cache_seconds=lookup.cache_seconds, load_seconds=lookup.load_seconds
        )

    def generation(self, region: str) -> str | None:
        """Return the token that vouches for the entries of `region`; None while Redis is left alone."""
        if self.outage.is_open:
            return None
        try:
            return self.outage.ask(lambda: self.entries.make_generation(keys.entry_keys(region)))
        except RedisError as error:
            self.outage.note_failure(error)
            return None

    def forget(self, region: str) -> None:
        """Make no entry of `region` be served any more; never raises.

        If Redis cannot be told, this process reads the source until it has been.
        """
        try:
            metrics.invalidations.labels(region, self._tell(region)).inc()
        finally:  # After Redis, so that nobody reads there and keeps what was true before.
            self.copies.forget(keys.generation_key(region))

    def _tell(self, region: str) -> str:
        if self.outage.has_pending_invalidations:  # Redis will be told of everything.
            return "postponed"
        try:
            self.outage.ask(lambda: self.entries.forget(region), needed=True)
        except RedisError as error:
            self.outage.trip(error, invalidation_lost=True)
            return "postponed"
        return "done"

    def _request(
        self,
        item: Item,
        load: Callable[[], bytes],
        limits: Limits,
        *,
        may_store: bool,
        may_load_later: bool,
    ) -> Lookup:
        refill = partial(self._refill, item, load, limits) if may_load_later else None
        return Lookup(self, item, load, limits, may_store=may_store, refill=refill)

    def _refill(self, item: Item, load: Callable[[], bytes], limits: Limits) -> None:
        self._request(item, load, limits, may_store=True, may_load_later=True).refill()
