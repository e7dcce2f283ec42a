"""How often somebody may do something: so many times in any window of so many seconds.

For each who is counted a sorted set holds the moments of the last window (a sliding window, which has
no edge at which twice as many get through). One Lua script looks and counts (ZREMRANGEBYSCORE, ZCARD,
ZADD, by Redis' own clock), so that requests at once cannot all find the last place free. Redis down:
Unavailable, and the caller decides whether to let in or to refuse.
"""

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, TypeVar

from django.conf import settings
from django.core.cache import caches
from redis import Redis
from redis.exceptions import RedisError

from freshcache.circuit_breaker import Breaker, Unavailable
from freshcache.redis import budget as redis_budget
from freshcache.redis.errors import describe
from freshcache.redis.pool import judge_at

T = TypeVar("T")
ALIAS = "throttle"
IPV6_PREFIX = (
    64  # What one subscriber has at least (RFC 6177); the rest of an address is free to choose.
)

# Counts in none of KEYS if one of them is full, and returns the milliseconds until there is room in all.
COUNT = """
local limit, window_ms, attempt = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait_ms = 0
for _, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window_ms)
  if redis.call('ZCARD', key) >= limit then
    local next_to_end = redis.call('ZRANGE', key, -limit, -limit, 'WITHSCORES')[2]
    wait_ms = math.max(wait_ms, next_to_end + window_ms - now)
  end
end
if wait_ms > 0 then return wait_ms end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now, attempt)
  redis.call('PEXPIRE', key, window_ms)
end
return 0
"""


def _url() -> str:
    url = settings.CACHES[ALIAS]["LOCATION"]
    return str(url if isinstance(url, str) else url[0])


def _describe(error: Exception) -> str:
    return describe(error, _url())


# What is refused (by a server that is full, or read-only) cannot be counted, but is no outage.
breaker = Breaker(
    "Redis, for the throttles,",
    failures=(RedisError,),
    judge=judge_at(_url),
    describe=_describe,
)


class TooMany(Exception):
    """It has been done as often as it may; there is room again in `retry_after_seconds`.

    `reason` is for who asked, where it is not plain what they have done too often.
    """

    def __init__(self, retry_after_seconds: int, reason: str = "") -> None:
        what = reason or "Too many attempts."
        super().__init__(f"{what} Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds
        self.reason = reason


@dataclass(frozen=True)
class Counted:
    """What has been counted, to give it back."""

    keys: tuple[str, ...]
    attempt: str


def count(rate: tuple[int, int] | None, *keys: str, needed: bool = True) -> Counted:
    """Count one attempt under all `keys`, or under none of them.

    `rate` is how many there may be in how many seconds; with None nothing is counted and Redis is not
    asked. Raises TooMany, and Unavailable if Redis is down, or if the count is not `needed` and
    the request has spent its time for Redis.
    """
    if rate is None:
        return Counted((), "")
    limit, window_seconds = rate
    counted = Counted(tuple(map(_whole_key, keys)), secrets.token_hex(8))
    arguments = (limit, window_seconds * 1000, counted.attempt)
    wait_ms = _ask(
        lambda redis: redis.eval(COUNT, len(keys), *counted.keys, *arguments), needed=needed
    )
    if wait_ms:
        raise TooMany(math.ceil(wait_ms / 1000))
    return counted


def give_back(counted: Counted) -> None:
    """Take an attempt out of the count again; raises Unavailable."""

    def remove(redis: Redis) -> None:
        with redis.pipeline(transaction=False) as pipeline:
            for key in counted.keys:
                pipeline.zrem(key, counted.attempt)
            pipeline.execute()

    if counted.keys:
        _ask(remove)


def remember(key: str, what: str, seconds: int, at_most: int) -> None:
    """Keep `what` for `is_remembered`, for so long; of more than `at_most` the latest.

    Raises Unavailable, also if the request has spent its time for Redis.
    """
    now = time.time()

    def add(redis: Redis) -> None:
        with redis.pipeline(transaction=True) as pipeline:
            pipeline.zremrangebyscore(_whole_key(key), "-inf", now - seconds)
            pipeline.zadd(_whole_key(key), {what: now})
            pipeline.zremrangebyrank(_whole_key(key), 0, -at_most - 1)
            pipeline.expire(_whole_key(key), seconds)
            pipeline.execute()

    _ask(add, needed=False)


def is_remembered(key: str, what: str, seconds: int) -> bool:
    """Say whether `remember` has kept `what` within so long; raises Unavailable."""
    since = _ask(lambda redis: redis.zscore(_whole_key(key), what))
    return since is not None and since > time.time() - seconds


def client_network(address: str) -> str:
    """Return whom a client's address stands for: itself, or an IPv6 network of 64 bits.

    Whatever is no address (a unix socket's client has none) stands for one and the same client.
    """
    try:
        client = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(client, IPv6Address):
        return str(client.ipv4_mapped or ip_network((int(client), IPV6_PREFIX), strict=False))
    return str(client)


def _whole_key(key: str) -> str:
    return str(caches[ALIAS].make_key(key))


def _ask(command: Callable[[Any], T], *, needed: bool = True) -> T:
    if not needed and not redis_budget.has_room():
        raise Unavailable("this request has spent its time for Redis")
    return breaker.call(lambda: command(caches[ALIAS].client.get_client()))  # type: ignore[attr-defined]  # django-redis
