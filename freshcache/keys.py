"""Every key that the store keeps in Redis, and how long it lives; docs/redis.md has the whole table.

Django puts KEY_PREFIX (PROJECT_NAME) and a version in front of what is cached: `product` is stored as
`django_redis:1:product`. What is no cache has PROJECT_NAME in front and no version.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

# Part of every entry's key, so that two releases can run side by side. Raise it whenever what is
# stored under a key changes its form.
ENTRY_FORMAT_VERSION = 1
# Generations are shared by all releases: a write by either makes both forget.
UNVERSIONED = 0

# What is cached. A region is forgotten as a whole; the name is the key of its main entry.

PROBE_SECONDS = 10
# Keys beside the variants that CACHE_MAX_VARIANTS leaves room for: the main entry's own.
RESERVED_KEYS = 8

# How many variants that have the same slot, or neighbouring ones, can be cached at once.
PLACES = 4


@dataclass(frozen=True)
class EntryKeys:
    """The keys of one entry.

    | key | holds | lives |
    | --- | --- | --- |
    | `entry` | the value | CACHE_TTL, less up to a tenth |
    | `stale` | the last good value, compressed | the same and CACHE_STALE_IF_ERROR more |
    | `lock` | who is filling the entry | at most CACHE_LEASE_SECONDS |
    | `generation` | the token that vouches for all entries of the region | until a write deletes it |

    A variant's entry may also be in one of its `alternatives`, with its stale copy beside it there.
    """

    entry: str
    stale: str
    lock: str
    generation: str
    alternatives: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """The keys where the entry may be, its own first."""
        return (self.entry, *self.alternatives)


def entry_keys(region: str, query: str = "", max_variants: int = 1000) -> EntryKeys:
    """Return the keys of the entry of `region` that the normalised `query` asks for.

    The region's main entry ("") has the key that the region is named after. All others share
    numbered slots, so that whatever clients ask for leaves at most `max_variants` keys. One whose slot
    is taken may use another of its group of PLACES.
    """
    entry, alternatives = region, tuple[str, ...]()
    if query:
        entry, *others = (f"{region}:slot:{slot}" for slot in _slots_of(query, max_variants))
        alternatives = tuple(others)
    return EntryKeys(
        entry, beside(entry, "stale"), beside(entry, "lock"), generation_key(region), alternatives
    )


@lru_cache(maxsize=1000)  # A hit from a copy in this process costs little more than this.
def _slots_of(query: str, max_variants: int) -> tuple[int, ...]:
    """Return the slot of a query, and then the others of its group."""
    slots = max(1, (max_variants - RESERVED_KEYS) // 2)  # An entry has its stale copy beside it.
    digest = hashlib.sha256(query.encode()).digest()
    number = int.from_bytes(digest[:8]) % slots
    # The last group is whole too: it shares places with the one before.
    first = max(0, min(number // PLACES * PLACES, slots - PLACES))
    group = range(first, min(first + PLACES, slots))
    return (number, *(slot for slot in group if slot != number))


def beside(entry: str, what: str) -> str:
    """Return the key of what lies beside the entry under the key `entry`."""
    return f"{entry}:{what}"


def generation_key(region: str) -> str:
    """Return the key of the token that all entries of `region` share; it is UNVERSIONED."""
    return f"{region}:generation"


def probe_key(region: str) -> str:
    """Return the key that shows that Redis takes writes; UNVERSIONED, lives PROBE_SECONDS."""
    return f"{region}:probe"
