"""Caching of whole answers of read-only API views: `@cached_response(ttl_seconds=60)` and no more.

An answer is kept as JSON under the view's path, host and query and what it is declared to vary on. One
that belongs to somebody, or that a hit could not repeat, is never stored.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import orjson
from django.core.exceptions import PermissionDenied
from django.http import Http404, QueryDict
from django.utils.cache import patch_vary_headers
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from freshcache import conf
from freshcache.http import headers as http_headers
from freshcache.http.renderers import ReadyJSON, ReadyJSONRenderer
from freshcache.http.request_reads import noted
from freshcache.region import Region

USER = "user"
# What tells users apart, for caches between the client and the store.
USER_HEADERS = ("Authorization", "Cookie")
# A Vary or Cache-Control of the view is looked at; any other header of its own a hit would lose.
REPEATABLE_HEADERS = {"content-type", "vary", "cache-control"}

# For so long, at most so many addresses of a view are remembered whose answers are not to be stored.
PASS_SECONDS = 10.0
MOST_PASSES = 1000
LONGEST_REASON = 100

View = Callable[..., Response]


class NotStorable(Exception):
    """The view's answer is for this request only; the message says why."""

    def __init__(self, request: Request, response: Response, reason: str) -> None:
        super().__init__(reason)
        self.request = request
        self.response = response


class Passes:
    """Addresses of a view whose answers were not to be stored lately: who asks waits for nobody else.

    Varnish calls it hit-for-miss: as soon as an answer may be stored, the next one is.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, query: str) -> None:
        with self._lock:
            self._until[query] = time.monotonic() + PASS_SECONDS
            self._until.move_to_end(query)
            while len(self._until) > MOST_PASSES:
                self._until.popitem(last=False)

    def has(self, query: str) -> bool:
        return time.monotonic() < self._until.get(query, 0.0)

    def remove(self, query: str) -> None:
        with self._lock:
            self._until.pop(query, None)


def cached_response(
    region: Region,
    ttl_seconds: int | None,
    *,
    vary_on: Sequence[str] = (),
    check: Callable[[QueryDict], object] = lambda _: None,
) -> Callable[[View], View]:
    """Answer GET and HEAD of an API view (or of a method of one) from the cache.

    `vary_on` names request headers that the answer depends on, and `"user"` if it depends on who is
    signed in; without that, requests of signed-in users go past the cache. So do browsers, which get a
    page. `check(parameters)` raises for a query that is to be refused, before the cache is asked.

    Stored are 200s without a cookie, a header of their own or a Cache-Control that says otherwise, by
    views that have read nothing of the request that the key lacks: no session, no cookie, no header that
    is not declared. Cache-Status says what forbade it. A client's Cache-Control is ignored, as its wishes
    must not make the database work harder. Permissions are checked before, on each request.
    """
    headers = [name for name in vary_on if name != USER]
    passes = Passes()

    def decorate(view: View) -> View:
        @wraps(view)
        def answer(*args: Any, **kwargs: Any) -> Response:
            request = next(one for one in args if isinstance(one, Request))
            if not _may_be_shared(request, per_user=USER in vary_on):
                return view(*args, **kwargs)
            check(request.query_params)
            query = _query(request, headers, per_user=USER in vary_on)

            def run() -> tuple[Response, str]:
                return _run(request, lambda: view(*args, **kwargs), headers, ttl_seconds)

            def load() -> bytes:
                response, reason = run()
                if reason:
                    raise NotStorable(request, response, reason)
                return bytes(JSONRenderer().render(response.data))

            if passes.has(query):
                response, reason = run()
                if reason:
                    return _passed(response, reason)
                passes.remove(query)
                return response
            try:
                fetched = region.get_or_load(query, load, ttl=ttl_seconds)
            except NotStorable as found:
                if request.method == "GET":  # An answer to HEAD says little of those to GET.
                    passes.add(query)
                # Another request's may come out of a read that this one has shared.
                return _passed(
                    *((found.response, str(found)) if found.request is request else run())
                )
            except (APIException, Http404, PermissionDenied):
                passes.add(query)
                raise
            response = Response(ReadyJSON(fetched.body))
            if varying := [*headers, *(USER_HEADERS if USER in vary_on else ())]:
                patch_vary_headers(response, varying)
            return http_headers.finish(request, response, fetched, private=USER in vary_on)

        return answer

    return decorate


def _may_be_shared(request: Request, *, per_user: bool) -> bool:
    return (
        request.method in ("GET", "HEAD")
        and request.META.get("CONTENT_LENGTH") in (None, "", "0")  # A body is in no key.
        and isinstance(request.accepted_renderer, ReadyJSONRenderer)
        and (per_user or not request.user.is_authenticated)
    )


def _query(request: Request, headers: Sequence[str], *, per_user: bool) -> str:
    """Return the same text for every way of asking for the same answer."""
    asked = {
        "url": f"{request.scheme}://{request.get_host()}{request.path}",
        # Of values of one name the order counts: views go by the last, or by all.
        "parameters": sorted(request.query_params.lists()),
        "headers": {name.lower(): request.headers.get(name, "").strip() for name in headers},
        "user": request.user.pk if per_user else None,
        "language": get_language(),  # As cache_page does: texts of the answer may be in it,
        "time zone": get_current_timezone_name(),  # and times.
    }
    return orjson.dumps(asked, option=orjson.OPT_SORT_KEYS).decode()


def _run(
    request: Request, view: Callable[[], Response], headers: Sequence[str], ttl_seconds: int | None
) -> tuple[Response, str]:
    """Return the view's answer, and what forbids to store it, "" if nothing does."""
    with noted(request._request, headers) as reads:
        response = view()
    declared = {name.lower() for name in headers} | {"accept"}
    own_headers = {name.lower() for name in response.headers} - REPEATABLE_HEADERS
    reasons = [
        *(f"reads {name}" for name in reads.undeclared()),
        *([f"status {response.status_code}"] if response.status_code != 200 else []),
        *(f"sets cookie {name}" for name in response.cookies),
        *(f"sets {name}" for name in sorted(own_headers)),
        *(f"varies on {name}" for name in sorted(_names(response.get("Vary", "")) - declared)),
        *(["Cache-Control"] if _forbids(response.get("Cache-Control", ""), ttl_seconds) else []),
    ]
    return response, reasons[0] if reasons else ""


def _passed(response: Response, reason: str) -> Response:
    """Say in the headers why an answer was not stored."""
    text = re.sub(r'[^ -~]|["\\]', "?", reason)[:LONGEST_REASON]
    response["Cache-Status"] = f'{conf.current().name}; fwd=bypass; detail="{text}"'
    return response


def _names(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",") if name.strip()}


def _forbids(cache_control: str, ttl_seconds: int | None) -> bool:
    """Say whether a response with this Cache-Control (RFC 9111, 5.2.2) may not live `ttl_seconds`."""
    for directive in _names(cache_control):
        name, _, seconds = directive.partition("=")
        if name in ("no-store", "no-cache", "private", "must-understand"):
            return True
        if name in ("max-age", "s-maxage"):
            allowed = int(seconds) if seconds.isdecimal() else 0
            if ttl_seconds is None or allowed < ttl_seconds:
                return True
    return False
