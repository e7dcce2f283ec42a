"""The caches of this process: one for each alias of Django's cache framework that a region uses."""

import os
import threading

from django.conf import settings
from django.core.cache import caches
from django_redis.cache import RedisCache

from freshcache import conf, registry
from freshcache.cache import Cache
from freshcache.local_cache import LocalCache, NoLocalCache
from freshcache.outage import Outage
from freshcache.redis.entries import RedisEntries
from freshcache.redis.pool import when_primary_changes

_caches: dict[str, Cache] = {}
_making = threading.Lock()


def cache_of(alias: str = "default") -> Cache:
    """Return what all threads of this process share of one cache alias, made when it is first needed."""
    found = _caches.get(alias)
    if found is None:
        with _making:
            found = _caches.get(alias) or _make(alias)
            _caches[alias] = found
    return found


def is_redis(alias: str = "default") -> bool:
    """Say whether a cache alias is django-redis, for which alone all promises are."""
    return isinstance(caches[alias], RedisCache)


def location(alias: str = "default") -> str:
    """Return the URL of the server of a cache alias, as CACHES has it."""
    found = settings.CACHES[alias].get("LOCATION", "")
    return str(found if isinstance(found, str) else found[0])


def _make(alias: str) -> Cache:
    entries = RedisEntries(alias)

    def forget_all() -> None:
        entries.find_servers()
        for name in registry.names(alias):
            entries.forget(name)

    outage = Outage(
        forget_all,
        lambda: entries.renew(registry.names(alias)),
        entries.delete,
        lambda: entries.prove(registry.names(alias)),
        lambda: location(alias),
    )
    made = Cache(entries, outage, copies=local_cache_of(entries, alias))
    os.register_at_fork(after_in_child=made.reset_after_fork)
    if is_redis(alias):
        when_primary_changes(location(alias), outage.primary_changed)
    return made


def local_cache_of(entries: RedisEntries, alias: str = "default") -> NoLocalCache:
    """Return a local cache of `entries`, one that never has anything where none is wanted."""
    wanted = conf.current()
    if not wanted.local_cache or not is_redis(alias):
        return NoLocalCache()
    return LocalCache(
        entries.own_connection,
        entries.prefixes,
        wanted.local_cache_max_lag_seconds,
        wanted.local_cache_max_bytes,
    )
