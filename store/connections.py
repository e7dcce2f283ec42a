"""Connections to Redis: one pool for each process and server, whatever its threads do first."""

import threading
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from django.conf import settings
from django_redis.pool import ConnectionFactory
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from freshcache.circuit_breaker import Breaker, Unavailable
from freshcache.redis import budget as redis_budget
from freshcache.redis.errors import describe
from freshcache.redis.pool import judge_at, make_pool

T = TypeVar("T")


class QueueClient(ConnectionFactory):  # type: ignore[misc]  # django-redis is untyped.
    """Gives an alias of Django's cache framework the client, and so the pool, of `queue_redis()`."""

    def connect(self, url: str) -> Redis:
        with _making:
            return _client(url)


class JobsClient(ConnectionFactory):  # type: ignore[misc]  # django-redis is untyped.
    """Gives an alias, which django-rq asks by its name, a client with the patience of a worker.

    Where it waits for jobs, RQ itself sets for how long.
    """

    def connect(self, url: str) -> Redis:
        with _making:
            return _jobs_client(url)


_making = threading.Lock()


def queue_redis() -> Redis:
    """Return this process' client of QUEUE_REDIS_URL, for what is no cache: baskets, locks, events.

    It has the cache's short timeouts and retries nothing; its commands raise RedisError.
    """
    with _making:
        return _client(settings.QUEUE_REDIS_URL)


# For one process: a server that has just failed to answer is not waited for by everybody.
queue_breaker = Breaker(
    "Redis, for what is no cache,",
    failures=(RedisConnectionError, RedisTimeoutError),
    judge=judge_at(lambda: settings.QUEUE_REDIS_URL),
    describe=lambda error: describe(error, settings.QUEUE_REDIS_URL),
)


def ask_queue_redis(command: Callable[[Redis], T], *, needed: bool = True) -> T:
    """Return what `command` does with `queue_redis()`.

    Raises Unavailable if Redis is down, and for the next second without asking again, or if it
    refuses the command because it is full or read-only; for what is not `needed`, also if the request
    has spent its time for Redis.
    """
    try:
        if not needed:
            redis_budget.check()
        return queue_breaker.call(lambda: command(queue_redis()))
    except redis_budget.OverBudget as error:
        raise Unavailable(str(error)) from error
    except RedisError as error:
        queue_breaker.log_refusal(error)
        raise Unavailable("Redis refuses what is needed") from error


def listener_redis() -> Redis:
    """Return a client of QUEUE_REDIS_URL with one connection of its own, to be closed after use.

    For Pub/Sub, which holds its connection for as long as it listens.
    """
    return Redis.from_pool(make_pool(settings.QUEUE_REDIS_URL, max_connections=1))


@cache
def _client(url: str) -> Redis:
    return Redis(connection_pool=make_pool(url))


@cache
def _jobs_client(url: str) -> Redis:
    patience = {"socket_connect_timeout": 1, "socket_timeout": 5}
    return Redis(connection_pool=make_pool(url, **patience))
