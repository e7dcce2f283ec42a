"""Who has just written reads what they wrote, though replicas are behind.

The answer to a write sets a cookie that lives longer than a replica that is read may lag; requests with
it read the primary. Its age is counted by the client alone, so that no clocks have to agree. Who signs
in with each request (Authorization) may keep no cookies, and always reads the primary.
"""

import math
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from store import replicas

COOKIE = "has_written"
READING_METHODS = ("GET", "HEAD", "OPTIONS")


class OwnWritesMiddleware:
    """Lets requests that may have it late read from replicas."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not settings.MYSQL_REPLICA_HOST:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method not in READING_METHODS:
            response = self.get_response(request)
            # After a server error too: what failed later may have been committed before.
            remember_write(response)
            return response
        if COOKIE in request.COOKIES or "Authorization" in request.headers:
            return self.get_response(request)
        with replicas.late():
            return self.get_response(request)


def remember_write(response: HttpResponseBase) -> None:
    """Have who gets `response` read the primary for as long as replicas may be behind."""
    seconds = math.ceil(settings.MYSQL_REPLICA_MAX_LAG) + 1  # Cookies know no fractions.
    response.set_cookie(
        COOKIE,
        "1",
        max_age=seconds,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )
