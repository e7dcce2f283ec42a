"""Every key that the store keeps in Redis, and how long it lives; docs/redis.md has the whole table.

Django puts KEY_PREFIX (PROJECT_NAME) and a version in front of what is cached: `product` is stored as
`django_redis:1:product`. What is no cache has PROJECT_NAME in front and no version.
"""

import hashlib
from dataclasses import dataclass

from django.conf import settings

# Part of every entry's key, so that two releases can run side by side. Raise it whenever what is
# stored under a key changes its form.
ENTRY_FORMAT_VERSION = 1
# Generations are shared by all releases: a write by either makes both forget.
UNVERSIONED = 0

# What is cached. A family is forgotten as a whole; the name is the key of its main entry.
PRODUCT_LIST = "product"
FAMILIES = (PRODUCT_LIST,)

# Keys beside the variants that CACHE_MAX_VARIANTS leaves room for: the main entry's own.
RESERVED_KEYS = 8

# How long a basket is kept after the last change to it.
BASKET_AGE_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class EntryKeys:
    """The keys of one entry.

    | key | holds | lives |
    | --- | --- | --- |
    | `entry` | the value | CACHE_TTL, less up to a tenth |
    | `stale` | the last good value, compressed | the same and CACHE_STALE_IF_ERROR more |
    | `lock` | who is filling the entry | at most CACHE_LEASE_SECONDS |
    | `generation` | the token that vouches for all entries of the family | until a write deletes it |
    """

    entry: str
    stale: str
    lock: str
    generation: str


def entry_keys(family: str, query: str = "", max_variants: int = 1000) -> EntryKeys:
    """Return the keys of the entry of `family` that the normalised `query` asks for.

    The family's main entry ("") has the key that the family is named after. All others share
    numbered slots, so that whatever clients ask for leaves at most `max_variants` keys.
    """
    if family not in FAMILIES:  # An outage would not end with a new generation for it.
        raise ValueError(f"{family!r} is not in keys.FAMILIES")
    entry = family
    if query:
        slots = max(
            1, (max_variants - RESERVED_KEYS) // 2
        )  # An entry has its stale copy beside it.
        digest = hashlib.sha256(query.encode()).digest()
        entry = f"{family}:slot:{int.from_bytes(digest[:8]) % slots}"
    return EntryKeys(entry, f"{entry}:stale", f"{entry}:lock", generation_key(family))


def generation_key(family: str) -> str:
    """Return the key of the token that all entries of `family` share; it is UNVERSIONED."""
    return f"{family}:generation"


def user_basket_key(user_id: int) -> str:
    """Return the key of a user's basket; lives BASKET_AGE_SECONDS from its last change."""
    return f"{settings.PROJECT_NAME}:basket:user:{user_id}"


def anonymous_basket_key(session_key: str) -> str:
    """Return the key of the basket begun under an anonymous session; lives as long as a user's."""
    return f"{settings.PROJECT_NAME}:basket:anonymous:{session_key}"


def lock_key(name: str) -> str:
    """Return the key of a lock of `store.locks`; lives as long as the holder's lease."""
    return f"{settings.PROJECT_NAME}:lock:{name}"
