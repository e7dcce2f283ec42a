"""The lines of baskets in Redis: a hash for each basket, from product id to quantity.

HGETALL reads; HDEL, DEL and Lua scripts around HSET and HINCRBY write, each line on its own, so that two
tabs do not undo each other; EXPIRE with every write. A sorted set (ZADD) has the anonymous baskets, so
that there are no more than MAX_ANONYMOUS_BASKETS. Redis down: Unavailable, from every function.
"""

from collections.abc import Iterable

from redis import Redis

from store.connections import ask_queue_redis
from store.keys import BASKET_AGE_SECONDS, MAX_ANONYMOUS_BASKETS, anonymous_baskets_key

MAX_QUANTITY = 99
MAX_LINES = 100

PUT = """
local basket, product = KEYS[1], ARGV[1]
if redis.call('HEXISTS', basket, product) == 0 and redis.call('HLEN', basket) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', basket, product, ARGV[2])
redis.call('EXPIRE', basket, ARGV[4])
return 1
"""
# Returns which baskets have made room; a few at a time, should there be many too many.
REGISTER = """
local baskets, age, time = KEYS[1], tonumber(ARGV[2]), redis.call('TIME')
local now = time[1] + time[2] / 1e6
redis.call('ZREMRANGEBYSCORE', baskets, '-inf', now - age)
redis.call('ZADD', baskets, now, ARGV[1])
redis.call('EXPIRE', baskets, age)
local excess = math.min(redis.call('ZCARD', baskets) - tonumber(ARGV[3]), 100)
if excess <= 0 then return {} end
local oldest = redis.call('ZRANGE', baskets, 0, excess - 1)
redis.call('ZREM', baskets, unpack(oldest))
redis.call('DEL', unpack(oldest))
return oldest
"""
MERGE = """
local from, into = KEYS[1], KEYS[2]
local found = redis.call('HGETALL', from)
if #found == 0 then return end
local lines = {}
for i = 1, #found, 2 do lines[#lines + 1] = {product = found[i], quantity = found[i + 1]} end
table.sort(lines, function(a, b) return tonumber(a.product) < tonumber(b.product) end)
local room = tonumber(ARGV[2]) - redis.call('HLEN', into)
for _, line in ipairs(lines) do
  local is_new = redis.call('HEXISTS', into, line.product) == 0
  if not is_new or room > 0 then
    if is_new then room = room - 1 end
    local sum = redis.call('HINCRBY', into, line.product, line.quantity)
    if sum > tonumber(ARGV[1]) then redis.call('HSET', into, line.product, ARGV[1]) end
  end
end
redis.call('EXPIRE', into, ARGV[3])
redis.call('DEL', from)
redis.call('ZREM', KEYS[3], from)
"""


def check() -> None:
    """Raise Unavailable now rather than in the middle of something."""
    ask_queue_redis(lambda redis: redis.ping())


def read(key: str) -> dict[int, int]:
    """Return the quantity of each product in the basket."""
    found = ask_queue_redis(lambda redis: redis.hgetall(key))
    return {int(product): int(quantity) for product, quantity in found.items()}


def put(key: str, product_id: int, quantity: int) -> bool:
    """Set the quantity of a product; return False if its line would be one more than MAX_LINES."""
    limits = (MAX_LINES, BASKET_AGE_SECONDS)
    return bool(
        ask_queue_redis(lambda redis: redis.eval(PUT, 1, key, product_id, quantity, *limits))
    )


def register(key: str) -> list[str]:
    """Note that an anonymous basket changes; return the keys of those that had to go to make room."""
    limits = (BASKET_AGE_SECONDS, MAX_ANONYMOUS_BASKETS)
    found = ask_queue_redis(
        lambda redis: redis.eval(REGISTER, 1, anonymous_baskets_key(), key, *limits)
    )
    return [gone.decode() for gone in found]


def remove(key: str, product_ids: Iterable[int]) -> int:
    """Take the products out; return how many of them were there."""

    def delete(redis: Redis) -> int:
        with redis.pipeline(transaction=True) as pipeline:
            pipeline.hdel(key, *map(str, product_ids))
            pipeline.expire(key, BASKET_AGE_SECONDS)
            return int(pipeline.execute()[0])

    return ask_queue_redis(delete)


def clear(key: str) -> None:
    """Take everything out."""
    ask_queue_redis(lambda redis: redis.delete(key))


def merge(from_key: str, into_key: str) -> None:
    """Add one basket to another at once and delete it; one that is gone already changes nothing.

    Quantities add up to MAX_QUANTITY at most. Of more than MAX_LINES lines those of `into_key` stay,
    then the ones with the lowest product ids.
    """
    names = (from_key, into_key, anonymous_baskets_key())
    limits = (MAX_QUANTITY, MAX_LINES, BASKET_AGE_SECONDS)
    ask_queue_redis(lambda redis: redis.eval(MERGE, len(names), *names, *limits))
