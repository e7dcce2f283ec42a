"""Probes: /healthz says that the process is alive, /readyz whether it can serve.

Answered ahead of everything else, whatever Host header the prober sends and without a redirect to
https, as platforms probe the container over plain HTTP by its address.
"""

import logging
from collections.abc import Callable

from django.conf import settings
from django.core.cache import caches
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django_redis.cache import RedisCache
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from freshcache.database_errors import describe
from freshcache.redis import cluster, errors
from freshcache.runtime import cache_of
from freshcache.sparing_log import Sparingly, kind_of
from store import keys
from store.connections import queue_redis

logger = logging.getLogger(__name__)
_complaints = Sparingly()


def process_is_ending() -> bool:
    """Say whether no more requests should be sent here; gunicorn.conf.py puts its own here."""
    return False


class HealthMiddleware:
    """Answers GET and HEAD of the two probes; everything else goes on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            if request.path == "/healthz":
                return JsonResponse({"status": "alive"})
            if request.path == "/readyz":
                return readiness()
        return self.get_response(request)


def readiness() -> HttpResponse:
    """Name the state of database and Redis; 503 without the database, as only that cannot be missed.

    503 as well once the server has been asked to end, so that load balancers send nothing more.
    """
    if process_is_ending():
        return JsonResponse({"status": "ending"}, status=503)
    states = {"database": database_state(), "cache": cache_state()}
    if settings.QUEUE_REDIS_URL != settings.REDIS_URL:
        states["queue"] = queue_state()
    return JsonResponse(states, status=200 if states["database"] == "ok" else 503)


def database_state() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        if _complaints.allows(kind_of(error)):
            logger.error("/readyz: the database is down: %s", describe(error))  # noqa: TRY400  # One line.
        return "down"
    finally:
        connection.close_if_unusable_or_obsolete()
    return "ok"


def cache_state() -> str:
    """Say how the cache's Redis is; it has to take writes where baskets and jobs are on it, too."""
    cache = caches["default"]
    if not isinstance(cache, RedisCache):
        return "ok"
    if cache_of().outage.is_open:
        return "down"
    try:
        cache_of().outage.ask(lambda: cluster.ping(cache.client.get_client()))
    except RedisError as error:
        cache_of().outage.note_failure(error)  # Its thread looks where the servers are by now.
        return "down"
    return queue_state() if settings.QUEUE_REDIS_URL == settings.REDIS_URL else "ok"


def queue_state() -> str:
    """Say whether the Redis for what is no cache takes a write: it evicts nothing, so it may be full."""
    try:
        queue_redis().set(keys.write_check_key(), "1", ex=keys.WRITE_CHECK_SECONDS)
    except RedisError as error:
        if _complaints.allows(kind_of(error)):
            said = errors.describe(error, settings.QUEUE_REDIS_URL)
            logger.error("/readyz: Redis, for what is no cache: %s", said)  # noqa: TRY400  # One line.
        if isinstance(error, OutOfMemoryError):
            return "full"
        if isinstance(error, ResponseError):
            return "refuses writes"
        return "down"
    return "ok"
