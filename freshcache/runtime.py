"""A cache that is never wrong and never falls over; copy this package into your own project.

    fetched = caching.fetch("product", load, ttl_seconds=600)   # from the cache or from load()
    caching.forget("product")                                   # after each committed write

`load` returns bytes. The promises are for Redis (`aside`, `request`); on other backends of Django's cache
framework the two calls work as well, without them (`portable`).
"""

import os
import time
from collections.abc import Callable, Collection

from django.conf import settings
from django.core.cache import caches
from django_redis.cache import RedisCache

from freshcache import fallback, keys, metrics
from freshcache.cache import Aside
from freshcache.entry import etag_of, new_token
from freshcache.local_cache import Copies, Copy, NoCopies, reading_after
from freshcache.outage import Outage
from freshcache.redis.entries import RedisEntries
from freshcache.redis.pool import when_primary_changes
from freshcache.result import Fetched, Item, Limits, Outcome

__all__ = [
    "Copy",
    "Fetched",
    "Outcome",
    "fetch",
    "find_copy",
    "forget",
    "generation",
    "new_token",
    "process_cache",
    "reading_after",
]

_entries = RedisEntries()


def _forget_all() -> None:
    _entries.find_servers()
    for family in keys.FAMILIES:
        _entries.forget(family)


def _copies() -> NoCopies:
    if not settings.LOCAL_CACHE or not isinstance(caches["default"], RedisCache):
        return NoCopies()
    return Copies(
        _entries.own_connection,
        _entries.prefixes,
        settings.LOCAL_CACHE_MAX_LAG,
        settings.LOCAL_CACHE_MAX_BYTES,
    )


# What all threads of this process share.
process_cache = Aside(
    _entries,
    Outage(
        _forget_all,
        lambda: _entries.renew(keys.FAMILIES),
        _entries.delete,
        lambda: _entries.prove(keys.FAMILIES),
    ),
    copies=_copies(),
)
os.register_at_fork(after_in_child=process_cache.start_over)
if isinstance(caches["default"], RedisCache):
    when_primary_changes(settings.REDIS_URL, process_cache.outage.primary_changed)


def fetch(
    family: str,
    load: Callable[[], bytes],
    *,
    ttl_seconds: int | None,
    query: str = "",
    may_store: bool = True,
    may_refill: bool = False,
) -> Fetched:
    """Return a value of `family`, from the cache if it has it, else from `load()`.

    `query` tells the variants of a family apart and has to be normalised. With `ttl_seconds` None an
    entry lives until its family is forgotten, with 0 nothing is stored. `may_store` False is for
    callers in a database transaction, whose snapshot may be older than the generation, `may_refill`
    True for a `load()` that needs nothing of the request: it may be called later, in another thread,
    while what another process has just changed is served as it was. Raises what `load()` raises;
    breaker.Unavailable only if no last good value can bridge the outage.
    """
    item = Item(
        family=family,
        query=query,
        names=keys.entry_keys(family, query, settings.CACHE_MAX_VARIANTS),
        ttl_seconds=ttl_seconds,
        stale_seconds=settings.CACHE_STALE_IF_ERROR,
    )
    if not isinstance(caches["default"], RedisCache):
        return _fetch_portably(item, load, may_store=may_store)
    limits = Limits(
        wait_seconds=settings.CACHE_WAIT_SECONDS,
        lease_seconds=settings.CACHE_LEASE_SECONDS,
        budget_seconds=settings.CACHE_BUDGET_SECONDS,
        command_seconds=settings.REDIS_COMMAND_SECONDS,
        retry_seconds=settings.REDIS_READ_SECONDS,
    )
    return process_cache.fetch(item, load, limits, may_store=may_store, may_refill=may_refill)


def find_copy(family: str, query: str, tokens: Collection[str] = ()) -> Copy | None:
    """Return what `fetch` would serve from this process' copy; None if it would look further.

    `tokens` are as in reading_after().
    """
    if process_cache.outage.lasts:
        return None
    names = keys.entry_keys(family, query, settings.CACHE_MAX_VARIANTS)
    copy = process_cache.copies.find_in(names.places, query, tokens)
    if copy:
        metrics.requests.labels(family, Outcome.HIT.value).inc()
    return copy


def generation(family: str) -> str | None:
    """Return the token that a write to `family` replaces; None if Redis cannot tell, as in an outage.

    What is made after it has been asked for, and kept under a key with it in it, is as fresh as entries.
    """
    is_redis = isinstance(caches["default"], RedisCache)
    return process_cache.generation(family) if is_redis else None


def forget(family: str) -> None:
    """Forget all that is cached of `family`; to be called after each committed write to it."""
    if isinstance(caches["default"], RedisCache):
        process_cache.forget(family)
    else:
        fallback.forget(family)
        metrics.invalidations.labels(family, "done").inc()


def _fetch_portably(item: Item, load: Callable[[], bytes], *, may_store: bool) -> Fetched:
    generation, found = fallback.read(item.names, item.query)
    outcome, load_seconds = Outcome.HIT, 0.0
    if found is None or item.ttl_seconds == 0:
        started = time.monotonic()
        found = load()
        load_seconds = time.monotonic() - started
        stored = bool(may_store and item.ttl_seconds != 0) and fallback.add(
            item.names, item.query, generation, found, item.ttl_seconds
        )
        outcome = Outcome.FILLED if stored else Outcome.LOADED
    metrics.requests.labels(item.family, outcome.value).inc()
    return Fetched(found, outcome, etag_of(found), load_seconds=load_seconds)
