"""Connections to Redis: one pool for each process and server, whatever its threads do first."""

import threading
from collections.abc import Callable
from contextlib import closing
from functools import cache
from queue import Empty
from typing import Any, TypeVar

from django.conf import settings
from django_redis.pool import ConnectionFactory
from redis import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store import redis_budget
from store.breaker import Breaker, Unavailable, Verdict
from store.primary_connections import is_of_sentinels, parse
from store.process_clock import retry_while_late
from store.redis_errors import NotThisTime, describe
from store.sentinels import Primary, primary_of

T = TypeVar("T")


class NoConnectionFree(NotThisTime):
    """All of REDIS_MAX_CONNECTIONS were in use for longer than a request may wait for one."""


class WaitingPool(BlockingConnectionPool):
    """Tells a pool that is too small, which is no outage, from a Redis that is down.

    What requests have its connections for is counted for their budgets.
    """

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with redis_budget.waiting():
                connection = super().get_connection(*args, **kwargs)  # type: ignore[no-untyped-call]
        except RedisConnectionError as error:
            if isinstance(error.__context__, Empty):
                raise NoConnectionFree(
                    f"all {self.max_connections} connections are in use"
                ) from error
            raise
        redis_budget.taken(connection)
        return connection

    def release(self, connection: Any) -> None:
        redis_budget.released(connection)
        super().release(connection)  # type: ignore[no-untyped-call]


class OnePool(ConnectionFactory):  # type: ignore[misc]  # django-redis is untyped.
    """Makes one pool a URL; django-redis' own makes two if two threads come first at once."""

    _making = threading.Lock()

    def get_or_create_connection_pool(self, params: dict[str, Any]) -> Any:
        with self._making:
            return super().get_or_create_connection_pool(params)

    def get_connection_pool(self, params: dict[str, Any]) -> Any:
        return make_pool(params["url"])


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


def judge_at(find_url: Callable[[], str]) -> Callable[[Exception, bool], Verdict]:
    """Return what says whether an error of the server at a URL means that it is down.

    One connection that was lost, or one command that was slow or refused, does not: that takes another
    connection on which a PING fails as well.
    """

    def judge(error: Exception, was_down: bool) -> Verdict:  # noqa: FBT001  # Its one caller has both.
        if isinstance(error, NotThisTime):
            return Verdict.UNKNOWN
        if not isinstance(error, RedisConnectionError | RedisTimeoutError):
            return Verdict.ANSWERED
        if was_down:
            return Verdict.DOWN
        with closing(Redis.from_pool(make_pool(find_url(), max_connections=1))) as redis:
            try:
                retry_while_late(redis.ping, RedisTimeoutError)
            except RedisError:
                return Verdict.DOWN
        return Verdict.ANSWERED

    return judge


# For one process: a server that has just failed to answer is not waited for by everybody.
queue_breaker = Breaker(
    "Redis, for what is no cache,",
    failures=(RedisConnectionError, RedisTimeoutError),
    judge=judge_at(lambda: settings.QUEUE_REDIS_URL),
    describe=lambda error: describe(error, settings.QUEUE_REDIS_URL),
)


def ask_queue_redis(command: Callable[[Redis], T], *, needed: bool = True) -> T:
    """Return what `command` does with `queue_redis()`.

    Raises breaker.Unavailable if Redis is down, and for the next second without asking again, or if it
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


def make_pool(url: str, **options: Any) -> WaitingPool:
    """Return a pool of connections to `url`, all of whose forms it knows.

    With the cache's short timeouts and no retries, unless `options` say otherwise.
    """
    options = {
        "socket_connect_timeout": settings.REDIS_CONNECT_SECONDS,
        "socket_timeout": settings.REDIS_READ_SECONDS,
        **settings.REDIS_POOL,
        **options,
    }
    if is_of_sentinels(url):
        return WaitingPool(**options | parse(url))  # type: ignore[no-untyped-call]
    return WaitingPool.from_url(url, **options)


def primary_epoch(url: str) -> str:
    """Return a digest that changes whenever another server becomes the primary; "" where none can."""
    primary = _primary(url)
    return primary.epoch if primary else ""


def when_primary_changes(url: str, tell: Callable[[], object]) -> None:
    """Have `tell()` called in this process before the first command goes to another primary."""
    if primary := _primary(url):
        primary.listeners.append(tell)


@cache
def _primary(url: str) -> Primary | None:
    return primary_of(parse(url)["service"]) if is_of_sentinels(url) else None


@cache
def _client(url: str) -> Redis:
    return Redis(connection_pool=make_pool(url))


@cache
def _jobs_client(url: str) -> Redis:
    patience = {"socket_connect_timeout": 1, "socket_timeout": 5}
    return Redis(connection_pool=make_pool(url, **patience))
