"""Who looked at which product, in Redis: sorted sets, lists and a HyperLogLog.

ZINCRBY counts into a bucket for each hour, ZUNIONSTORE adds the last 24 up; LREM, LPUSH and LTRIM keep
a visitor's last products; PFADD counts visitors. Redis down: breaker.Unavailable, from every function
here, and for the next second without waiting for it again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from redis import Redis

from store import keys
from store.connections import ask_queue_redis

RANKED_HOURS = 24
MAX_RECENT = 20
ABOUT_TO_EXPIRE_MS = 1000  # It must not be gone between being found and being read.


@dataclass(frozen=True)
class Viewing:
    """One look of one visitor at one product."""

    product_id: int
    at: datetime
    recent_key: str  # where the visitor's last products are kept
    recent_age_seconds: int
    visitor: str  # the same text for the same visitor, for a day at least


def count(viewing: Viewing) -> None:
    """Count a look, in one round trip; all of it or, in an outage, nothing."""
    hour, day = keys.views_key(viewing.at), keys.visitors_key(viewing.at)
    recent = viewing.recent_key

    def execute(redis: Redis) -> None:
        # A transaction, as another tab's LPUSH between LREM and LPUSH would make a double.
        with redis.pipeline(transaction=True) as pipeline:
            pipeline.zincrby(hour, 1, str(viewing.product_id))
            pipeline.expire(hour, keys.VIEWS_AGE_SECONDS)
            pipeline.lrem(recent, 0, str(viewing.product_id))
            pipeline.lpush(recent, viewing.product_id)
            pipeline.ltrim(recent, 0, MAX_RECENT - 1)
            pipeline.expire(recent, viewing.recent_age_seconds)
            pipeline.pfadd(day, viewing.visitor)
            pipeline.expire(day, keys.VISITORS_AGE_SECONDS)
            pipeline.execute()

    ask_queue_redis(execute)


def most_viewed(at: datetime, start: int, count: int) -> list[tuple[int, int]]:
    """Return `count` (product id, looks) pairs of the last 24 hours from place `start` on, best first.

    Of products with as many looks that one comes first whose id is later as a text. The sum is made
    anew once in RANKING_AGE_SECONDS at most.
    """
    ranking = keys.ranking_key()
    # A host whose clock is ahead of this one's may count in the next hour already.
    hours = [keys.views_key(at - timedelta(hours=ago)) for ago in range(-1, RANKED_HOURS)]

    def read(redis: Redis) -> list[tuple[bytes, float]]:
        with redis.pipeline(transaction=True) as pipeline:
            if redis.pttl(ranking) < ABOUT_TO_EXPIRE_MS:
                pipeline.zunionstore(ranking, hours)
                pipeline.expire(ranking, keys.RANKING_AGE_SECONDS)
            pipeline.zrevrange(ranking, start, start + count - 1, withscores=True)
            return list(pipeline.execute()[-1])

    return [(int(product), int(looks)) for product, looks in ask_queue_redis(read)]


def recent(recent_key: str) -> list[int]:
    """Return the ids of the products that a visitor looked at last, the last one first."""
    found = ask_queue_redis(lambda redis: redis.lrange(recent_key, 0, MAX_RECENT - 1))
    return [int(product) for product in found]


def visitors(day: datetime) -> int:
    """Return about how many different visitors looked at products on `day` (0.81 % standard error)."""
    return int(ask_queue_redis(lambda redis: redis.pfcount(keys.visitors_key(day))))
