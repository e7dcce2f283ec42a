"""Generations: the tokens that vouch for entries, and under which primary they were made.

A server may become the primary (Redis Sentinel's, or that of a slot of a cluster) that lacks what its
predecessor was told last, such as that a generation is gone. So a generation counts under no other
primary than the one it was made under.
"""

from typing import Any

from freshcache.entry import as_token, new_token
from freshcache.redis import cluster
from freshcache.redis.pool import primary_epoch

EPOCH_CHARACTERS = 8  # of a generation; all else of it is random


def new_generation(redis: Any) -> str:
    """Return a token that nobody has had before, for the server that `redis` is a client of."""
    epoch = _epoch(redis)
    return epoch + new_token()[len(epoch) :]


def as_generation(data: bytes | None, redis: Any) -> str | None:
    """Return the generation that `data`, read through `redis`, is; None if it is none that counts."""
    token = as_token(data)
    return token if token and token.startswith(_epoch(redis)) else None


def _epoch(redis: Any) -> str:
    """Return what changes with the primary; "" where there can be no other."""
    epoch = cluster.primary_digest(redis) or primary_epoch(redis)
    return epoch[:EPOCH_CHARACTERS]
