"""Who looked at which product, in Redis: sorted sets, a bitmap, users' lists and a HyperLogLog.

A Lua script counts by ZINCRBY into a bucket for each hour what SETBIT says is new, ZUNIONSTORE adds the
last 24 up; LREM, LPUSH and LTRIM keep a user's last products; PFADD counts visitors. Each has a size that
no number of visitors goes past. Redis down: Unavailable, from every function here.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from redis import Redis

from store import keys
from store.connections import ask_queue_redis

RANKED_HOURS = 24
MAX_RECENT = 20
ABOUT_TO_EXPIRE_MS = 1000  # It must not be gone between being found and being read.


# Counts a view unless it has been counted of late. An hour that is full of products makes room: those
# viewed least go together, so that what is popular has long enough to be viewed again before it might.
COUNT = """
local viewed, hour, product = KEYS[1], KEYS[2], ARGV[2]
if redis.call('SETBIT', viewed, ARGV[1], 1) == 1 then return end
redis.call('EXPIRE', viewed, ARGV[3])
if redis.call('ZCARD', hour) >= tonumber(ARGV[5]) and not redis.call('ZSCORE', hour, product) then
  local fewest = redis.call('ZRANGE', hour, 0, 0, 'WITHSCORES')[2]
  redis.call('ZREMRANGEBYSCORE', hour, '-inf', fewest)
end
redis.call('ZINCRBY', hour, 1, product)
redis.call('EXPIRE', hour, ARGV[4])
"""


@dataclass(frozen=True)
class Viewing:
    """One look of one visitor at one product."""

    product_id: int
    at: datetime
    user_id: int | None
    client: str  # whose views of a product count as one for a while: a user, or an address
    visitor: str  # the same text for the same visitor, for a day at least


def count(viewing: Viewing) -> None:
    """Count a look, in one round trip; all of it or, in an outage, nothing."""
    viewed, hour = keys.viewed_key(viewing.at), keys.views_key(viewing.at)
    day = keys.visitors_key(viewing.at)
    bit = keys.viewed_bit(viewing.client, viewing.product_id)
    limits = (keys.VIEWED_AGE_SECONDS, keys.VIEWS_AGE_SECONDS, keys.MAX_VIEWED)

    def execute(redis: Redis) -> None:
        # A transaction, as another tab's LPUSH between LREM and LPUSH would make a double.
        with redis.pipeline(transaction=True) as pipeline:
            pipeline.eval(COUNT, 2, viewed, hour, bit, viewing.product_id, *limits)
            if viewing.user_id is not None:
                recent = keys.user_recent_key(viewing.user_id)
                pipeline.lrem(recent, 0, str(viewing.product_id))
                pipeline.lpush(recent, viewing.product_id)
                pipeline.ltrim(recent, 0, MAX_RECENT - 1)
                pipeline.expire(recent, keys.RECENT_AGE_SECONDS)
            pipeline.pfadd(day, viewing.visitor)
            pipeline.expire(day, keys.VISITORS_AGE_SECONDS)
            pipeline.execute()

    ask_queue_redis(execute, needed=False)


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
                pipeline.zremrangebyrank(ranking, 0, -keys.MAX_VIEWED - 1)
                pipeline.expire(ranking, keys.RANKING_AGE_SECONDS)
            pipeline.zrevrange(ranking, start, start + count - 1, withscores=True)
            return list(pipeline.execute()[-1])

    found = ask_queue_redis(read, needed=False)
    return [(int(product), int(looks)) for product, looks in found]


def recent(user_id: int) -> list[int]:
    """Return the ids of the products that a user looked at last, the last one first."""
    key = keys.user_recent_key(user_id)
    found = ask_queue_redis(lambda redis: redis.lrange(key, 0, MAX_RECENT - 1), needed=False)
    return [int(product) for product in found]


def visitors(day: datetime) -> int:
    """Return about how many different visitors looked at products on `day` (0.81 % standard error)."""
    return int(ask_queue_redis(lambda redis: redis.pfcount(keys.visitors_key(day)), needed=False))
