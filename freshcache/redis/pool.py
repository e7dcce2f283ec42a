"""Connections to Redis: one pool for each process and server, whatever its threads do first."""

import threading
from collections.abc import Callable
from contextlib import closing
from functools import cache
from queue import Empty
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from django_redis.pool import ConnectionFactory
from redis import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from freshcache import conf
from freshcache.circuit_breaker import Verdict
from freshcache.process_clock import retry_while_late
from freshcache.redis import budget as redis_budget
from freshcache.redis.errors import NotThisTime
from freshcache.redis.sentinel import Primary, primary_of
from freshcache.redis.sentinel_connections import is_of_sentinels, parse

T = TypeVar("T")


class NoConnectionFree(NotThisTime):
    """All of the pool's connections were in use for longer than a request may wait for one."""


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


def make_pool(url: str, **options: Any) -> WaitingPool:
    """Return a pool of connections to `url`, all of whose forms it knows.

    With the cache's short timeouts and no retries, unless `options` say otherwise.
    """
    options = {**conf.current().pool_options, **options}
    if is_of_sentinels(url):
        return WaitingPool(**options | parse(url))  # type: ignore[no-untyped-call]
    return WaitingPool.from_url(url, **options)


def client_of(cache: Any) -> Any:
    """Return a client of the server of one of django-redis' caches, with the cache's own short timeouts.

    The project's own client, with whatever timeouts it has, is left to the project.
    """
    client = cache.client.get_client(write=True)
    pool = client.connection_pool if isinstance(client, Redis) else None
    if pool is None or isinstance(pool, WaitingPool):  # A cluster's client has its own as well.
        return client
    with _making_clients:
        if pool not in _clients:
            options = {
                name: value
                for name, value in pool.connection_kwargs.items()
                if not name.startswith(MADE_BY_POOLS)
            }
            options |= conf.current().pool_options
            options |= {"connection_class": pool.connection_class, "decode_responses": False}
            _clients[pool] = Redis(connection_pool=WaitingPool(**options))  # type: ignore[no-untyped-call]
        return _clients[pool]


# What a pool of redis-py adds to the options that it was given, for itself.
MADE_BY_POOLS = (
    "maint_notifications",
    "oss_cluster_maint_notifications",
    "orig_",
    "himport_registry",
)
_clients: WeakKeyDictionary[Any, Redis] = WeakKeyDictionary()
_making_clients = threading.Lock()


def primary_epoch(redis: Any) -> str:
    """Return a digest that changes whenever another server becomes the primary; "" where none can."""
    service = redis.connection_pool.connection_kwargs.get("service")
    return primary_of(service).epoch if service else ""


def when_primary_changes(url: str, tell: Callable[[], object]) -> None:
    """Have `tell()` called in this process before the first command goes to another primary."""
    if primary := _primary(url):
        primary.listeners.append(tell)


@cache
def _primary(url: str) -> Primary | None:
    return primary_of(parse(url)["service"]) if is_of_sentinels(url) else None
