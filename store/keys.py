"""Every key that the store keeps in Redis, and how long it lives; docs/redis.md has the whole table.

Django puts KEY_PREFIX (PROJECT_NAME) and a version in front of what is cached: `product` is stored as
`django_redis:1:product`. What is no cache has PROJECT_NAME in front and no version.
"""

from datetime import UTC, datetime

from django.conf import settings
from django.utils.crypto import salted_hmac

# How long RQ keeps a job, with its result, once it has succeeded, and once it has failed.
JOB_RESULT_SECONDS = 24 * 3600
JOB_FAILURE_SECONDS = 7 * 24 * 3600

# How long a warm-up that has been asked for is waited for before another is.
WARM_UP_SECONDS = 60

# How long a basket is kept after the last change to it, and how many anonymous ones there may be: of
# more, those that were changed longest ago go. 100 lines each, all of them take 30 MB.
BASKET_AGE_SECONDS = 30 * 24 * 3600
MAX_ANONYMOUS_BASKETS = 10_000
# How long cacheops keeps a product, and what it then needs to find it: longer, as it is set anew with
# each product that is stored.
ORM_AGE_SECONDS = 600
ORM_SCHEMES_AGE_SECONDS = 2 * ORM_AGE_SECONDS + 10
# How long the views of an hour are kept: for all 24 hours that may ask for them, and one more; and of
# how many products (some 100 bytes each): of more, those with the fewest views make room.
VIEWS_AGE_SECONDS = 25 * 3600
MAX_VIEWED = 5000
# Within how long a client's views of a product count as one. Who has viewed what in such a time is a
# bitmap of one size however many they are (1 MB, begun at the first view): a bit for each client and
# product, which of 100,000 views takes 1 % for one of somebody else's.
VIEWED_SECONDS = 600
VIEWED_AGE_SECONDS = 2 * VIEWED_SECONDS
VIEWED_BITS = 1 << 23
# How old the ranking made of them may be.
RANKING_AGE_SECONDS = 60
# How long a day's visitors are known, to compare days of a week.
VISITORS_AGE_SECONDS = 8 * 24 * 3600
# How long a visitor's last products are kept after the last of them.
RECENT_AGE_SECONDS = 30 * 24 * 3600

# How many counts of one throttle there may be: whoever is counted shares one of these, so that
# any number of addresses and names leaves a bounded number of keys. To fill one that is somebody
# else's takes as many attempts as it takes to fill all of them.
THROTTLE_SLOTS = 1 << 14

# How long an address counts as a user's own after they signed in from there, and how many may.
KNOWN_CLIENT_SECONDS = 30 * 24 * 3600
MAX_KNOWN_CLIENTS = 20

# How long what /readyz writes to see whether Redis takes writes is kept.
WRITE_CHECK_SECONDS = 60

# How many events a client that comes back may have missed, and for how long they are kept.
EVENTS_CAP = 1000
EVENTS_AGE_SECONDS = 24 * 3600


def orm_prefix(generation: str) -> str:
    """Return what stands in front of all keys of cacheops; see `store.orm_caching`."""
    return f"{settings.PROJECT_NAME}:orm:{generation}:"


def user_basket_key(user_id: int) -> str:
    """Return the key of a user's basket; lives BASKET_AGE_SECONDS from its last change."""
    return f"{settings.PROJECT_NAME}:basket:user:{user_id}"


def anonymous_basket_key(session_key: str) -> str:
    """Return the key of the basket begun under an anonymous session; lives as long as a user's."""
    return f"{settings.PROJECT_NAME}:basket:anonymous:{session_key}"


def session_of(basket_key: str) -> str:
    """Return the session that `anonymous_basket_key` was given."""
    return basket_key.rpartition(":")[2]


def anonymous_baskets_key() -> str:
    """Return the key of the list of anonymous baskets; lives BASKET_AGE_SECONDS from the last change."""
    return f"{settings.PROJECT_NAME}:baskets"


def views_key(at: datetime) -> str:
    """Return the key of an hour's views of products; lives VIEWS_AGE_SECONDS from the last one."""
    return f"{settings.PROJECT_NAME}:views:{at.astimezone(UTC):%Y%m%d%H}"


def viewed_key(at: datetime) -> str:
    """Return the key of who has viewed what in these VIEWED_SECONDS; lives VIEWED_AGE_SECONDS."""
    return f"{settings.PROJECT_NAME}:viewed:{int(at.timestamp()) // VIEWED_SECONDS}"


def viewed_bit(client: str, product_id: int) -> int:
    """Return which bit of it says that a client has viewed a product."""
    return _number_of(f"{client} {product_id}") % VIEWED_BITS


def ranking_key() -> str:
    """Return the key of the ranking of the last 24 hours; lives RANKING_AGE_SECONDS."""
    return f"{settings.PROJECT_NAME}:ranking"


def visitors_key(day: datetime) -> str:
    """Return the key of a day's visitors; lives VISITORS_AGE_SECONDS from the last one."""
    return f"{settings.PROJECT_NAME}:visitors:{day.astimezone(UTC):%Y%m%d}"


def user_recent_key(user_id: int) -> str:
    """Return the key of a user's last products; lives RECENT_AGE_SECONDS from the last one."""
    return f"{settings.PROJECT_NAME}:recent:user:{user_id}"


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
    return f"{what}:{_number_of(who) % THROTTLE_SLOTS}"


def known_clients_key(username: str) -> str:
    """Return the key of where a user has signed in from; lives KNOWN_CLIENT_SECONDS from the last."""
    return f"known:{pseudonym(username)}"


def write_check_key() -> str:
    """Return the key that /readyz writes to; lives WRITE_CHECK_SECONDS."""
    return f"{settings.PROJECT_NAME}:write-check"


def pseudonym(who: str) -> str:
    """Return what stands for a name or an address, which are nobody's to read in Redis."""
    return salted_hmac("store.keys", who, algorithm="sha256").hexdigest()[:32]


def _number_of(who: str) -> int:
    """Return a number that nobody outside can foresee."""
    return int(pseudonym(who), 16)
