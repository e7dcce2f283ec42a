"""Measures what compressing an entry takes and saves."""

import zlib
from collections import defaultdict
from typing import Any

from django.core.cache import caches

from bench.cache_costs.catalogues import open_catalogue
from bench.cache_costs.figures import AS_IS, CompressionTimes
from bench.cache_costs.requests import MeasurementError, read, timed
from freshcache import Outcome

REPEATS_PER_ROUND = 3


def compression_times(name: str) -> dict[int, CompressionTimes]:
    """Return what storing and fetching the list takes, as it is and at two levels of zlib."""
    open_catalogue(name)
    body = read(Outcome.MISS).body
    cache: Any = caches["default"]
    client, key = cache.client.get_client(), cache.make_key("compression")
    samples: dict[int, list[CompressionTimes]] = defaultdict(list)
    for _ in range(REPEATS_PER_ROUND):
        for level in (AS_IS, 1, 6):
            samples[level].append(_store_and_fetch(client, key, body, level))
    client.delete(key)
    return {level: CompressionTimes.median(taken) for level, taken in samples.items()}


def _store_and_fetch(client: Any, key: str, body: bytes, level: int) -> CompressionTimes:
    packed, compress = timed(lambda: zlib.compress(body, level)) if level != AS_IS else (body, 0.0)
    _, store = timed(lambda: client.set(key, packed))
    fetched, fetch = timed(lambda: client.get(key))
    unpacked, decompress = (
        timed(lambda: zlib.decompress(fetched)) if level != AS_IS else (fetched, 0.0)
    )
    if unpacked != body:
        raise MeasurementError("what came back from Redis is not what was stored there")
    return CompressionTimes(len(packed), compress, store, fetch, decompress)
