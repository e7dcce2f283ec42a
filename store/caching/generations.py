"""Generations: the tokens that vouch for entries, and under which primary they were made.

With Redis Sentinel a server may become the primary that lacks what its predecessor was told last, such as
that a generation is gone. So a generation counts under no other primary than the one it was made under.
"""

from django.conf import settings

from store.caching.entry import as_token, new_token
from store.connections import primary_epoch

EPOCH_CHARACTERS = 8  # of a generation; all else of it is random


def new_generation() -> str:
    """Return a token that nobody has had before."""
    epoch = _epoch()
    return epoch + new_token()[len(epoch) :]


def as_generation(data: bytes | None) -> str | None:
    """Return the generation that `data`, just read, is; None if it is none that counts."""
    token = as_token(data)
    return token if token and token.startswith(_epoch()) else None


def _epoch() -> str:
    """Return what changes with the primary; "" where there are no sentinels."""
    return primary_epoch(settings.REDIS_URL)[:EPOCH_CHARACTERS]
