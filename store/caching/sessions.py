"""Sessions in Redis, behind the same circuit breaker as the lists.

`cached_db` keeps sessions in the database and a copy of each in Redis. While Redis is left alone the
database alone is asked. A copy that could not be replaced or deleted (a logout!) is deleted before
this process uses Redis again.
"""

from collections.abc import Callable
from typing import Any

from django_redis.cache import RedisCache
from redis.exceptions import RedisError

from store.caching import process_cache
from store.caching.guarded import GuardedCache


class SessionCache(GuardedCache):
    def __contains__(self, key: str) -> bool:
        return bool(self._ask(lambda: super(SessionCache, self).has_key(key), otherwise=False))

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        # Not GuardedCache's, which keeps to itself that it failed.
        return self._change(key, lambda: RedisCache.set(self, key, value, *args, **kwargs))

    def delete(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._change(key, lambda: super(SessionCache, self).delete(key, *args, **kwargs))

    def _change(self, key: str, command: Callable[[], Any]) -> Any:
        try:
            if not process_cache.outage.lasts:
                process_cache.outage.note_change(str(self.make_key(key)))
                return process_cache.outage.ask(command)
        except RedisError as error:
            process_cache.outage.note_failure(error)
            if not process_cache.outage.lasts and self._is_deleted(key):
                return False
        process_cache.outage.leave_outdated(str(self.make_key(key)))
        return False

    def _is_deleted(self, key: str) -> bool:
        try:
            RedisCache.delete(self, key)
        except RedisError:
            return False
        return True
