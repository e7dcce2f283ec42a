"""What is asked of the cache, and what comes back."""

from dataclasses import dataclass
from enum import Enum

from freshcache.keys import EntryKeys


class Outcome(Enum):
    """What became of a read."""

    HIT = "hit"  # served from the cache
    MISS = "miss"  # loaded, and this request created the entry
    COALESCED = "coalesced"  # served from the cache once another request had filled it
    REFRESH = "refresh"  # loaded ahead of the entry's expiry, while others were served from it
    STALE = "stale"  # the source is down: the last good value, past its lifetime
    BYPASS = "bypass"  # loaded, without the cache; `detail` says why


@dataclass(frozen=True)
class Item:
    """Something to be cached: one variant of a region."""

    region: str  # forgotten as a whole
    query: str  # which variant: "" is the main one
    names: EntryKeys
    ttl_seconds: int | None  # None: until it is forgotten; 0: not stored at all
    stale_seconds: int  # how long past its lifetime it may bridge an outage of its source


@dataclass(frozen=True)
class Limits:
    """How long a request lets itself be held up."""

    wait_seconds: float  # for another's fill
    lease_seconds: float  # that a filler may take
    budget_seconds: float  # for all commands to Redis together
    command_seconds: float  # for one of them, by the connection's own timeouts
    retry_seconds: float = 0.0  # for one that is tried again on another connection


@dataclass(frozen=True)
class Result:
    """A value and how it was come by."""

    body: bytes
    outcome: Outcome
    etag: str = ""  # none for what goes past the cache on purpose
    detail: str = ""
    ttl_seconds: float | None = None  # that the entry has left; None: no entry, or one for ever
    age_seconds: float | None = None
    cache_seconds: float = 0.0
    load_seconds: float = 0.0

    @property
    def from_cache(self) -> bool:
        """Whether the value was in the cache, whoever put it there and however old it is."""
        return self.outcome in (Outcome.HIT, Outcome.COALESCED, Outcome.STALE)
