"""Backends of Django's cache framework behind the circuit breaker of the cache, and their serializers.

Redis down: nothing is found, nothing is kept, nobody waits, and no error is raised. A session is in the
database, and its copy in Redis: one that could not be deleted (a logout!) is deleted before this process
uses Redis again. Serializers read JSON only, and raise nothing over what somebody else has written.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from django_redis.cache import RedisCache
from django_redis.serializers.json import JSONSerializer
from redis.exceptions import RedisError

from freshcache.entry import new_token
from freshcache.redis import budget as redis_budget
from freshcache.runtime import cache_of


class JSONOrBytes(JSONSerializer):  # type: ignore[misc]  # django-redis is untyped.
    """For the default cache, whose entries are bytes of their own form: they are shown as they are."""

    def loads(self, value: bytes) -> Any:
        try:
            return super().loads(value)
        except ValueError:
            return value


class JSONOrNothing(JSONSerializer):  # type: ignore[misc]
    """For sessions: a value that is no session counts as none, and the database is asked."""

    form: type = dict

    def loads(self, value: bytes) -> Any:
        try:
            found = super().loads(value)
        except ValueError:
            return None
        return found if isinstance(found, self.form) else None


class TextOrNothing(JSONOrNothing):
    """For fragments of templates: a value that is no text counts as none, and is made anew."""

    form = str


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


LEASE_SECONDS = 10  # Longer than a reader waits for the database.
COPY_TRIPS = 3  # The lease, the copy, and one for what the request is about.
# Not JSON, so that it counts as no session.
LEASE = "leased "
FILL = """
if redis.call('MGET', KEYS[1])[1] ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class SessionCache(GuardedCache):
    def __contains__(self, key: str) -> bool:
        return bool(self._ask(lambda: super(SessionCache, self).has_key(key), otherwise=False))

    def lease(self, key: str) -> str | None:
        """Return what proves that nobody has deleted the copy since; None: it cannot be stored."""
        token = LEASE + new_token()

        def acquire() -> bool:
            redis_budget.check(COPY_TRIPS)
            whole_key = self.make_key(key)
            return bool(self._redis().set(whole_key, token, nx=True, ex=LEASE_SECONDS))

        return token if self._ask(acquire, otherwise=False) else None

    def fill(self, key: str, value: dict[str, Any], seconds: int, lease: str | None) -> bool:
        """Store the copy for `seconds` unless it was deleted since the lease was had."""
        if lease is None or seconds <= 0:
            return False

        def store() -> bool:
            script = self._redis().register_script(FILL)
            arguments = [lease, self.client.encode(value), seconds]
            return bool(script([self.make_key(key)], arguments))

        return self._ask(store, otherwise=False)

    def delete(self, key: str, *args: Any, **kwargs: Any) -> Any:
        whole_key = str(self.make_key(key))
        try:
            if not cache_of().outage.is_open:
                cache_of().outage.note_change(whole_key)
                return cache_of().outage.ask(
                    lambda: super(SessionCache, self).delete(key, *args, **kwargs), needed=True
                )
        except RedisError as error:
            cache_of().outage.note_failure(error)
            if not cache_of().outage.is_open and self._is_deleted(key):
                return False
        cache_of().outage.leave_outdated(whole_key)
        return False

    def _is_deleted(self, key: str) -> bool:
        try:
            RedisCache.delete(self, key)
        except RedisError:
            return False
        return True

    def _redis(self) -> Any:
        return self.client.get_client(write=True)
