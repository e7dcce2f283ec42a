"""Who a request comes from, as far as counting and recalling views need to know it.

What a browser without a user looked at last is in a signed cookie of its own, so that reading begins no
session and no number of visitors leaves anything in Redis. (Of two looks at once one may be forgotten.)
"""

import re

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control
from django.utils.crypto import salted_hmac
from rest_framework.request import Request

from store import ranking, throttling
from store.keys import RECENT_AGE_SECONDS
from store.ranking import Visitor
from store.view_counts import MAX_RECENT

COOKIE = "visitor"


def count_look(request: Request | HttpRequest, response: HttpResponseBase, product_id: int) -> None:
    """Count that whoever sent a GET looks at the product that `response` shows; HEAD is no look."""
    if request.method == "GET":
        visitor = visitor_of(request)
        ranking.count_view(visitor, product_id)
        remember(response, visitor, product_id)


def visitor_of(request: Request | HttpRequest) -> Visitor:
    """Return who the request comes from."""
    address = request.META.get("REMOTE_ADDR", "")
    origin = f"{address} {request.headers.get('User-Agent', '')}"
    return Visitor(
        user_id=request.user.pk,
        network=throttling.client_network(address),
        # What is kept of it says nothing about anybody's address.
        fingerprint=salted_hmac(COOKIE, origin, algorithm="sha256").hexdigest(),
        recent=_recent(request.get_signed_cookie(COOKIE, default="", salt=COOKIE) or ""),
    )


def remember(response: HttpResponseBase, visitor: Visitor, product_id: int) -> None:
    """Have an anonymous browser keep what it has looked at: MAX_RECENT ids, the last one first."""
    patch_cache_control(response, private=True)
    looked_at = (product_id, *(one for one in visitor.recent if one != product_id))[:MAX_RECENT]
    if visitor.user_id is None and looked_at != visitor.recent:
        response.set_signed_cookie(
            COOKIE,
            ".".join(map(str, looked_at)),
            salt=COOKIE,
            max_age=RECENT_AGE_SECONDS,
            httponly=True,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )


def _recent(cookie: str) -> tuple[int, ...]:
    is_ours = re.fullmatch(r"[0-9]{1,19}(\.[0-9]{1,19})*", cookie)  # Earlier ones held an id.
    return tuple(map(int, cookie.split(".")[:MAX_RECENT])) if is_ours else ()
