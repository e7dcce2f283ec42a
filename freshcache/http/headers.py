"""What the headers of an answer from the cache say about it.

Cache-Status is RFC 9211; Age, ETag and If-None-Match are RFC 9111 and 9110; Server-Timing is W3C.
"""

import math
from typing import Any, TypeVar

from django.http import HttpResponse
from django.utils.http import parse_etags

from freshcache import conf
from freshcache.http import drf
from freshcache.result import Outcome, Result

# Browsers and proxies may keep an answer but have to ask each time: a write makes it old at once.
CACHE_CONTROL = "no-cache"
Answer = TypeVar("Answer", bound=HttpResponse)
FORWARDED = {
    Outcome.MISS: "fwd=miss; stored",
    Outcome.COALESCED: "fwd=miss; collapsed",
    Outcome.REFRESH: "fwd=stale; stored",
    Outcome.BYPASS: "fwd=bypass",
}


def cache_status(fetched: Result) -> str:
    """Return the value of Cache-Status for what was come by like `fetched`."""
    parts = [conf.current().name, FORWARDED.get(fetched.outcome, "hit")]
    if fetched.ttl_seconds is not None:
        parts.append(f"ttl={math.floor(fetched.ttl_seconds)}")
    if fetched.detail:
        parts.append(f"detail={fetched.detail}")
    return "; ".join(parts)


def headers(fetched: Result) -> dict[str, str]:
    """Return the headers that say how `fetched` was come by."""
    found = {
        "Cache-Status": cache_status(fetched),
        "Server-Timing": f"cache;dur={fetched.cache_seconds * 1000:.2f}, "
        f"db;dur={fetched.load_seconds * 1000:.2f}",
    }
    if fetched.etag:
        found["ETag"] = fetched.etag
    if fetched.age_seconds is not None and fetched.from_cache:
        found["Age"] = str(int(fetched.age_seconds))
    return found


def finish(request: Any, response: Answer, fetched: Result, *, private: bool = False) -> Answer:
    """Say in the headers how `fetched` was come by; 304 without a body if the client has it already.

    `request` and `response` are Django's or DRF's. `private` is for what no cache between the client and
    this one may keep.
    """
    for name, value in headers(fetched).items():
        response[name] = value
    response["Cache-Control"] = f"private, {CACHE_CONTROL}" if private else CACHE_CONTROL
    if _is_known(request, fetched):
        response.status_code = 304
        if hasattr(response, "data"):  # DRF's, to be rendered later
            response.data = None
        else:
            response.content = b""
    return response


def _is_known(request: Any, fetched: Result) -> bool:
    """Say whether the client has the body already, by its If-None-Match (weak comparison).

    A page around the body has no tag, as no two are the same.
    """
    if not fetched.etag or drf.is_page(request):
        return False
    known = parse_etags(request.headers.get("If-None-Match", ""))
    return "*" in known or fetched.etag in known or fetched.etag.removeprefix("W/") in known
