"""What lies in Redis under a region's main key, for people to look at: its first bytes, never all.

GETRANGE, STRLEN, PTTL and GET in one round trip. Raises RedisError if Redis is down.
"""

from dataclasses import dataclass
from typing import Any

from django.core.cache import caches

from freshcache import keys
from freshcache.entry import GENERATION_CHARACTERS, as_token
from freshcache.redis import cluster
from freshcache.redis.generations import as_generation

SHOWN_BYTES = 480


@dataclass(frozen=True)
class Picture:
    """An entry as it is stored, and the generation that it has to be of in order to be served."""

    key: str
    generation_key: str
    generation: str | None  # None since the last write, until the next read makes one
    size_bytes: int  # 0: there is no entry
    ttl_ms: int | None  # that it has left; None: no end, or no entry
    own_generation: str
    header: str  # JSON
    body_start: str

    @property
    def is_served(self) -> bool:
        return bool(self.size_bytes) and self.own_generation == self.generation


def of_region(region: str) -> Picture:
    """Return what is stored as the main entry of `region`."""
    cache = caches["default"]
    key = cache.make_key(region)
    generation_key = cache.make_key(keys.generation_key(region), keys.UNVERSIONED)
    client: Any = cache.client.get_client(write=False)  # type: ignore[attr-defined]  # django-redis

    def look(redis: Any) -> Any:
        with redis.pipeline(transaction=False) as pipeline:
            pipeline.getrange(key, 0, SHOWN_BYTES - 1).strlen(key).pttl(key).get(generation_key)
            start, size_bytes, ttl_ms, generation = pipeline.execute()
            return start, size_bytes, ttl_ms, as_generation(generation, redis)

    start, size_bytes, ttl_ms, generation = cluster.at(client, generation_key, look)
    head, _, body = start.partition(b"\n")
    return Picture(
        key=str(key),
        generation_key=str(generation_key),
        generation=generation,
        size_bytes=size_bytes,
        ttl_ms=ttl_ms if ttl_ms >= 0 else None,
        own_generation=as_token(head[:GENERATION_CHARACTERS]) or "",
        header=head[GENERATION_CHARACTERS + 1 :].decode("utf-8", "replace"),
        # The last character may be cut in two.
        body_start=body.decode("utf-8", "ignore"),
    )
