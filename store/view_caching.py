"""Caching of whole answers of read-only API views: `@cached_response(ttl_seconds=60)` and no more.

An answer is kept as JSON under the view's path, host and query and what it is declared to vary on. One
that belongs to somebody, or that a hit could not repeat, is never stored.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol

import orjson
from django.http import QueryDict
from django.utils.cache import patch_vary_headers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from store import catalogue, http_caching
from store.caching import Fetched
from store.renderers import ReadyJSON, ReadyJSONRenderer

USER = "user"
# What tells users apart, for caches between the client and the store.
USER_HEADERS = ("Authorization", "Cookie")
# A Vary or Cache-Control of the view is looked at; any other header of its own a hit would lose.
REPEATABLE_HEADERS = {"content-type", "vary", "cache-control"}

View = Callable[..., Response]


class Fetch(Protocol):
    """How an answer is got through the cache; `catalogue.fetch` is for what is made of products."""

    def __call__(
        self, load: Callable[[], bytes], *, query: str, ttl_seconds: int | None
    ) -> Fetched: ...


class NotStorable(Exception):
    """The view's answer is for this request only."""

    def __init__(self, request: Request, response: Response) -> None:
        self.request = request
        self.response = response


def cached_response(
    ttl_seconds: int | None,
    *,
    vary_on: Sequence[str] = (),
    check: Callable[[QueryDict], object] = lambda _: None,
    fetch: Fetch = catalogue.fetch,
) -> Callable[[View], View]:
    """Answer GET and HEAD of an API view (or of a method of one) from the cache.

    `vary_on` names request headers that the answer depends on, and `"user"` if it depends on who is
    signed in; without that, requests of signed-in users go past the cache. So do browsers, which get a
    page. `check(parameters)` raises for a query that is to be refused, before the cache is asked.

    Stored are 200s without a cookie, a header of their own or a Cache-Control that says otherwise, by
    views that have not looked at the session. A client's Cache-Control is ignored, as its wishes must
    not make the database work harder. Permissions are checked before, on each request.
    """
    headers = [name for name in vary_on if name != USER]

    def decorate(view: View) -> View:
        @wraps(view)
        def answer(*args: Any, **kwargs: Any) -> Response:
            request = next(one for one in args if isinstance(one, Request))
            if not _may_be_shared(request, per_user=USER in vary_on):
                return view(*args, **kwargs)
            check(request.query_params)
            try:
                fetched = fetch(
                    lambda: _storable(request, lambda: view(*args, **kwargs), headers, ttl_seconds),
                    query=_query(request, headers, per_user=USER in vary_on),
                    ttl_seconds=ttl_seconds,
                )
            except NotStorable as found:
                # Another request's may come out of a read that this one has shared.
                return found.response if found.request is request else view(*args, **kwargs)
            response = Response(ReadyJSON(fetched.body))
            if varying := [*headers, *(USER_HEADERS if USER in vary_on else ())]:
                patch_vary_headers(response, varying)
            return http_caching.finish(request, response, fetched, private=USER in vary_on)

        return answer

    return decorate


def _may_be_shared(request: Request, *, per_user: bool) -> bool:
    return (
        request.method in ("GET", "HEAD")
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
    }
    return orjson.dumps(asked, option=orjson.OPT_SORT_KEYS).decode()


def _storable(
    request: Request, view: Callable[[], Response], headers: Sequence[str], ttl_seconds: int | None
) -> bytes:
    """Return the view's answer as JSON; raises NotStorable with it if it must not be stored."""
    session = request._request.session
    was_accessed, session.accessed = session.accessed, False
    response = view()
    looked_at_session, session.accessed = session.accessed, session.accessed or was_accessed
    declared = {name.lower() for name in headers} | {"accept"}
    if (
        response.status_code != 200
        or response.cookies
        or looked_at_session
        or request._request.META.get("CSRF_COOKIE_NEEDS_UPDATE")
        or {name.lower() for name in response.headers} - REPEATABLE_HEADERS
        or _names(response.get("Vary", "")) - declared
        or _forbids(response.get("Cache-Control", ""), ttl_seconds)
    ):
        raise NotStorable(request, response)
    return bytes(JSONRenderer().render(response.data))


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
