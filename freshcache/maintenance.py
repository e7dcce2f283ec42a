"""Looking at, and clearing, what is cached: for operators, not for requests.

SCAN and UNLINK in small batches, so that Redis never stops answering for long; never FLUSHDB, as the
server holds more than the cache.
"""

import re
from collections.abc import Iterator
from fnmatch import translate
from typing import Any

from django.core.cache import caches
from django_redis.cache import RedisCache

from freshcache import keys, registry
from freshcache.entry import Entry
from freshcache.keys import EntryKeys
from freshcache.redis import cluster
from freshcache.redis.entries import RedisEntries

BATCH_KEYS = 500
# Behind the region's name.
REST = re.compile(r"(:slot:\d+)?(:stale)?")


def sweep(pattern: str, *, delete: bool) -> Iterator[int]:
    """Find the cached entries whose key matches `pattern` (* and ? are wild), and delete them.

    Yields how many each batch had. Raises RedisError if Redis is down.
    """
    wanted = re.compile(translate(pattern))
    client = _client()
    for found in _batches():
        batch = [key for name, key in found if wanted.match(name)]
        if batch:
            yield int(client.unlink(*batch)) if delete else len(batch)


def expire(region: str) -> bool:
    """Have the main entry of `region` expire now, as if its time were up; say whether there was one.

    Its stale copy stays. Raises RedisError if Redis is down.
    """
    if not isinstance(_cache(), RedisCache):
        return False
    # A millisecond of time left, as 0 would be a deletion.
    return bool(_client().pexpire(_cache().make_key(keys.entry_keys(region).entry), 1))


def served(region: str) -> Iterator[tuple[EntryKeys, Entry]]:
    """Yield the entries of `region` that are being served, one by one."""
    entries = RedisEntries()
    for found in _batches():
        for name, _ in found:
            if name.endswith(":stale") or name.split(":")[0] != region:
                continue
            names = EntryKeys(
                name,
                keys.beside(name, "stale"),
                keys.beside(name, "lock"),
                keys.generation_key(region),
            )
            if entry := entries.read_any(names).entry:
                yield names, entry


def is_served(names: EntryKeys, entry: Entry) -> bool:
    """Say whether `entry` is still the one that is served under its key."""
    return RedisEntries().read_any(names).entry == entry


def _batches() -> Iterator[list[tuple[str, bytes]]]:
    """Yield the entries' names and whole keys, a batch at a time; SCAN may repeat some."""
    if not isinstance(_cache(), RedisCache):
        return
    pattern = f"{_escaped(_cache().make_key(''))}*"
    for server in cluster.servers(_client()):
        for found in _scan(server, pattern):
            names = [
                (_cache().client.reverse_key(key.decode("utf-8", "replace")), key) for key in found
            ]
            yield [(name, key) for name, key in names if _is_entry(name)]


def _scan(server: Any, pattern: str) -> Iterator[list[bytes]]:
    cursor = 0
    while True:
        cursor, found = server.scan(cursor, match=pattern, count=BATCH_KEYS)
        yield found
        if not cursor:
            return


def _is_entry(name: str) -> bool:
    region, separator, rest = name.partition(":")
    return region in registry.names() and REST.fullmatch(separator + rest) is not None


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)


def _cache() -> Any:
    return caches["default"]


def _client() -> Any:
    return _cache().client.get_client()
