"""The store's settings with django-cacheops as its manual sets it up, without the store's care."""

from simple_django_redis.settings import *  # noqa: F403

CACHEOPS = {"store.product": {"ops": (), "timeout": CACHE_TTL}}  # noqa: F405
del CACHEOPS_PREFIX, CACHEOPS_CLIENT_CLASS, CACHEOPS_DEGRADE_ON_FAILURE  # noqa: F821
