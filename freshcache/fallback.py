"""Cache-aside on any backend of Django's cache framework: the HTTP contract, and no promises beyond.

For the local-memory, file and dummy backends; Redis is served by `cache`.
"""

from typing import Any

from django.core.cache import caches

from freshcache import keys
from freshcache.entry import new_token
from freshcache.keys import EntryKeys


def read(names: EntryKeys, query: str, alias: str) -> tuple[str | None, bytes | None]:
    """Return the current generation, made if there is none, and the value if it is of that one."""
    cache = caches[alias]
    generation: str | None = cache.get(names.generation, version=keys.UNVERSIONED)
    if generation is None:
        cache.add(names.generation, new_token(), timeout=None, version=keys.UNVERSIONED)
        generation = cache.get(names.generation, version=keys.UNVERSIONED)
    entry: Any = cache.get(names.entry)
    if (
        generation is not None
        and isinstance(entry, dict)
        and (entry["generation"], entry["query"]) == (generation, query)
    ):
        return generation, entry["body"]
    if entry is not None:
        cache.delete(names.entry)
    return generation, None


def add(
    names: EntryKeys,
    query: str,
    generation: str | None,
    body: bytes,
    ttl_seconds: int | None,
    alias: str,
) -> bool:
    """Store a value unless there is one; return whether this call did."""
    entry = {"generation": generation, "query": query, "body": body}
    return bool(caches[alias].add(names.entry, entry, ttl_seconds))


def forget(region: str, alias: str) -> None:
    """Make no entry of `region` be served any more."""
    caches[alias].delete(keys.generation_key(region), version=keys.UNVERSIONED)
