"""Who a request comes from, as far as counting and recalling views need to know it.

A browser is known by a signed cookie of its own with a random id, so that reading never begins a session.
"""

import re
import secrets

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control
from django.utils.crypto import salted_hmac
from rest_framework.request import Request

from store import ranking
from store.keys import RECENT_AGE_SECONDS
from store.ranking import Visitor

COOKIE = "visitor"


def count_look(request: Request | HttpRequest, response: HttpResponseBase, product_id: int) -> None:
    """Count that whoever sent a GET looks at the product that `response` shows; HEAD is no look."""
    if request.method == "GET":
        visitor = visitor_of(request)
        ranking.count_view(visitor, product_id)
        remember(response, visitor)


def visitor_of(request: Request | HttpRequest) -> Visitor:
    """Return who the request comes from; a new browser gets an id, for `remember` to send."""
    browser = request.get_signed_cookie(COOKIE, default="", salt=COOKIE) or ""
    is_known = re.fullmatch("[0-9a-f]{32}", browser)
    origin = f"{request.META['REMOTE_ADDR']} {request.headers.get('User-Agent', '')}"
    return Visitor(
        user_id=request.user.pk,
        browser=browser if is_known else secrets.token_hex(16),
        is_new=not is_known,
        # What is kept of it says nothing about anybody's address.
        fingerprint=salted_hmac(COOKIE, origin, algorithm="sha256").hexdigest(),
    )


def remember(response: HttpResponseBase, visitor: Visitor) -> None:
    """Send a new, anonymous browser its id."""
    patch_cache_control(response, private=True)
    if visitor.is_new and visitor.user_id is None:
        response.set_signed_cookie(
            COOKIE,
            visitor.browser,
            salt=COOKIE,
            max_age=RECENT_AGE_SECONDS,
            httponly=True,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )
