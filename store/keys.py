"""Every key that the store keeps in Redis, and how long it lives; docs/redis.md has the whole table.

Django puts KEY_PREFIX (PROJECT_NAME) and a version in front of what is cached: `product` is stored as
`django_redis:1:product`. What is no cache has PROJECT_NAME in front and no version.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.utils.crypto import salted_hmac

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

# How long RQ keeps a job, with its result, once it has succeeded, and once it has failed.
JOB_RESULT_SECONDS = 24 * 3600
JOB_FAILURE_SECONDS = 7 * 24 * 3600

# How long a warm-up that has been asked for is waited for before another is.
WARM_UP_SECONDS = 60

# How long a basket is kept after the last change to it.
BASKET_AGE_SECONDS = 30 * 24 * 3600
# How long cacheops keeps a product, and what it then needs to find it: longer, as it is set anew with
# each product that is stored.
ORM_AGE_SECONDS = 600
ORM_SCHEMES_AGE_SECONDS = 2 * ORM_AGE_SECONDS + 10
# How long the views of an hour are kept: for all 24 hours that may ask for them, and one more.
VIEWS_AGE_SECONDS = 25 * 3600
# How old the ranking made of them may be.
RANKING_AGE_SECONDS = 60
# How long a day's visitors are known, to compare days of a week.
VISITORS_AGE_SECONDS = 8 * 24 * 3600
# How long a visitor's last products are kept after the last of them; for a browser that has not yet
# shown that it keeps cookies, as a crawler leaves one such list with each request.
RECENT_AGE_SECONDS = 30 * 24 * 3600
NEW_RECENT_AGE_SECONDS = 3600

# How long an address counts as a user's own after they signed in from there.
KNOWN_CLIENT_SECONDS = 30 * 24 * 3600

# How many events a client that comes back may have missed, and for how long they are kept.
EVENTS_CAP = 1000
EVENTS_AGE_SECONDS = 24 * 3600


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


def orm_prefix(generation: str) -> str:
    """Return what stands in front of all keys of cacheops; see `store.orm_caching`."""
    return f"{settings.PROJECT_NAME}:orm:{generation}:"


def user_basket_key(user_id: int) -> str:
    """Return the key of a user's basket; lives BASKET_AGE_SECONDS from its last change."""
    return f"{settings.PROJECT_NAME}:basket:user:{user_id}"


def anonymous_basket_key(session_key: str) -> str:
    """Return the key of the basket begun under an anonymous session; lives as long as a user's."""
    return f"{settings.PROJECT_NAME}:basket:anonymous:{session_key}"


def views_key(at: datetime) -> str:
    """Return the key of an hour's views of products; lives VIEWS_AGE_SECONDS from the last one."""
    return f"{settings.PROJECT_NAME}:views:{at.astimezone(UTC):%Y%m%d%H}"


def ranking_key() -> str:
    """Return the key of the ranking of the last 24 hours; lives RANKING_AGE_SECONDS."""
    return f"{settings.PROJECT_NAME}:ranking"


def visitors_key(day: datetime) -> str:
    """Return the key of a day's visitors; lives VISITORS_AGE_SECONDS from the last one."""
    return f"{settings.PROJECT_NAME}:visitors:{day.astimezone(UTC):%Y%m%d}"


def user_recent_key(user_id: int) -> str:
    """Return the key of a user's last products; lives RECENT_AGE_SECONDS from the last one."""
    return f"{settings.PROJECT_NAME}:recent:user:{user_id}"


def anonymous_recent_key(browser: str) -> str:
    """Return the key of a browser's last products; lives as long, at first NEW_RECENT_AGE_SECONDS."""
    return f"{settings.PROJECT_NAME}:recent:anonymous:{browser}"


def events_key() -> str:
    """Return the key of the stream of events; lives EVENTS_AGE_SECONDS from the last one.

    The Pub/Sub channel that says that there are new ones has the same name.
    """
    return f"{settings.PROJECT_NAME}:events"


def lock_key(name: str) -> str:
    """Return the key of a lock of `store.locks`; lives as long as the holder's lease."""
    return f"{settings.PROJECT_NAME}:lock:{name}"


def warm_up_key() -> str:
    """Return the key that says that a warm-up is waiting; lives WARM_UP_SECONDS, or until it begins."""
    return f"{settings.PROJECT_NAME}:warm-up"


def throttle_key(what: str, who: str) -> str:
    """Return the key, in the cache `throttle`, that counts who does what; lives for a rate's window."""
    return f"{what}:{_pseudonym(who)}"


def known_client_key(username: str, network: str) -> str:
    """Return the key of the mark that a user has signed in from there; lives KNOWN_CLIENT_SECONDS."""
    return f"known:{_pseudonym(f'{username}@{network}')}"


def _pseudonym(who: str) -> str:
    """Return what stands for a name or an address, which are nobody's to read in Redis."""
    return salted_hmac("store.keys", who, algorithm="sha256").hexdigest()[:32]
