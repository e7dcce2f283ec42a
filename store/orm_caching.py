"""django-cacheops for single products, as fresh and as robust as the lists (with ORM_CACHE on).

cacheops invalidates on save and delete, not on update() or bulk_update(), and what it misses in an outage
stays. So its keys carry the generation that every write to products deletes, and its commands go through
the circuit breaker of the lists: Redis down, and in a transaction, products come from the database.
"""

from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from freshcache.redis.pool import make_pool
from freshcache.runtime import cache_of
from store import keys
from store.models import Product
from store.regions import products

OFF = "off"  # In the place of a generation: what has it in its key is neither read nor stored.


def prefix(_query: object) -> str:
    """Return what cacheops puts in front of its keys; CACHEOPS_PREFIX names this function.

    Asked before the database is, so that nobody can store under a new generation what was read before.
    """
    return keys.orm_prefix(products.version() or OFF)


class OrmRedis(Redis):
    """The client that cacheops uses; CACHEOPS_CLIENT_CLASS names it.

    A ConnectionError makes cacheops go on without Redis (CACHEOPS_DEGRADE_ON_FAILURE).
    """

    @classmethod
    def from_url(cls, url: str, *_: Any, **__: Any) -> "OrmRedis":
        return cls(connection_pool=make_pool(url))

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        off = keys.orm_prefix(OFF)
        if cache_of().outage.is_open or any(str(one).startswith(off) for one in arguments):
            raise RedisConnectionError("Redis is left alone.")
        try:
            return super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        except NoScriptError:  # redis-py loads the script and tries again.
            raise
        except RedisError as error:
            cache_of().outage.note_failure(error)
            raise RedisConnectionError(str(error)) from error

    def evalsha(self, sha: str, number_of_keys: int, *arguments: Any) -> Any:
        found = super().evalsha(sha, number_of_keys, *arguments)
        # cacheops keeps this set for ever; ours is of one generation only.
        schemes = f"{arguments[0]}schemes:{Product._meta.db_table}"
        self.expire(schemes, keys.ORM_SCHEMES_AGE_SECONDS)
        return found
