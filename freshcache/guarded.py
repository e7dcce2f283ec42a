"""A cache of Django's framework behind the circuit breaker of the lists.

Redis down, or left alone: nothing is found, nothing is kept, nobody waits, and no error is raised.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from django_redis.cache import RedisCache
from redis.exceptions import RedisError

from freshcache.runtime import cache_of

T = TypeVar("T")


class GuardedCache(RedisCache):  # type: ignore[misc]  # django-redis is untyped.
    """For what can be made again, such as fragments of templates, under keys that nothing makes old."""

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self._ask(
            lambda: super(GuardedCache, self).get(key, default, version), otherwise=default
        )

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self._ask(
            lambda: super(GuardedCache, self).set(key, value, *args, **kwargs), otherwise=False
        )

    def _ask(self, command: Callable[[], T], *, otherwise: T) -> T:
        if cache_of().outage.is_open:
            return otherwise
        try:
            return cache_of().outage.ask(command)
        except RedisError as error:
            cache_of().outage.note_failure(error)
            return otherwise
