"""Who has just written, or was told of a write, is shown nothing from before it.

The answer to a write sets a cookie, each live event has the field `seen`, and a client sends them back,
the latter as X-Store-Seen. Requests with either read no replica of the database, and no local copy from
before the token came to its process (caching.reading_after). A cookie's age is counted by the client
alone, so that no clocks have to agree; who signs in with each request (Authorization) may keep none.
"""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from freshcache import conf
from freshcache.entry import new_token
from freshcache.local_cache import reading_after
from store import replicas

COOKIE = "has_written"
HEADER = "HTTP_X_STORE_SEEN"
READING_METHODS = ("GET", "HEAD", "OPTIONS")
OURS = re.compile(rf"(?:^|;)\s*{COOKIE}=([^;]*)")
MAY_HAVE_WRITTEN = ""  # what is no token has Redis asked each time


class OwnWritesMiddleware:
    """Lets requests have what is late by as much as their clients cannot notice."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not _lags():
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_read = request.method in READING_METHODS
        found = tokens(request.META)
        may_be_late = settings.MYSQL_REPLICA_HOST and is_read and not found
        with reading_after(found), replicas.late() if may_be_late else nullcontext():
            response = self.get_response(request)
        if (
            not is_read
        ):  # After a server error too: what failed later may have been committed before.
            remember_write(response)
        return response


def tokens(environ: Mapping[str, Any]) -> list[str]:
    """Return what a request brings of the writes that its client knows of; most bring nothing."""
    cookies = environ.get("HTTP_COOKIE", "")
    found = OURS.findall(cookies) if COOKIE in cookies else []
    if HEADER in environ:
        found.append(environ[HEADER])
    if "HTTP_AUTHORIZATION" in environ:
        found.append(MAY_HAVE_WRITTEN)
    return found


def remember_write(response: HttpResponseBase) -> None:
    """Have who gets `response` read what is there now, for as long as anything may be behind."""
    if lags := _lags():
        response.set_cookie(
            COOKIE,
            new_token(),
            max_age=math.ceil(max(lags)) + 1,  # Cookies know no fractions.
            httponly=True,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )


def _lags() -> list[float]:
    """Return by how many seconds replicas, and local copies, may be behind where there are any."""
    cache = conf.current()
    return [
        *([settings.MYSQL_REPLICA_MAX_LAG] if settings.MYSQL_REPLICA_HOST else []),
        *([cache.local_cache_max_lag_seconds] if cache.local_cache else []),
    ]
