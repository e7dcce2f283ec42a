"""Caching of whole answers: `@region.cached_response(ttl=60)` on a view of Django's or of DRF's.

An answer is kept, as the bytes that are sent, under the view's address and query and what it is declared
to vary on. One that belongs to somebody, or that a hit could not repeat, is never stored.
"""

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.utils.cache import patch_vary_headers
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

from freshcache import conf
from freshcache.http import drf
from freshcache.http import headers as http_headers
from freshcache.http.request_reads import noted
from freshcache.region import Region
from freshcache.result import Result
from freshcache.sparing_log import Sparingly

logger = logging.getLogger(__name__)
USER = "user"
# What tells users apart, for caches between the client and this one.
USER_HEADERS = ("Authorization", "Cookie")
# A Vary or Cache-Control of the view is looked at; any other header of its own a hit would lose.
REPEATABLE_HEADERS = {"content-type", "content-length", "vary", "cache-control"}
# What a view may raise in place of an answer.
ANSWERS: tuple[type[Exception], ...] = (Http404, PermissionDenied, *drf.EXCEPTIONS)

# For so long, at most so many addresses of a view are remembered whose answers are not to be stored.
PASS_SECONDS = 10.0
MOST_PASSES = 1000
LONGEST_REASON = 100


class NotStorable(Exception):
    """The view's answer is for this request only; the message says why."""

    def __init__(self, request: HttpRequest, response: HttpResponse, reason: str) -> None:
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
    ttl: int | None,
    *,
    vary_on: Sequence[str] = (),
    check: Callable[[QueryDict], object] = lambda _: None,
) -> Callable[[Any], Any]:
    """Answer GET and HEAD of a view, or of a method of one, from the cache.

    The view is one of Django's, also an async one, or one of DRF's, a method or an action. `vary_on`
    names request headers that the answer depends on, and `"user"` if it depends on who is signed in;
    without that, requests of signed-in users bypass the cache. So do browsers that get DRF's pages.
    `check(parameters)` raises for a query that is to be refused, before the cache is asked.

    Stored are 200s without a cookie, a header of their own or a Cache-Control that says otherwise, by
    views that have read nothing of the request that the key lacks: no session, no cookie, no header that
    is not declared. Cache-Status says what forbade it. A client's Cache-Control is ignored, as its wishes
    must not make the database work harder. DRF's permissions are checked before, on each request.
    """

    def decorate(view: Any) -> Any:
        cached = _CachedView(region, view, ttl, vary_on, check)
        if iscoroutinefunction(view):

            @wraps(view)
            async def aanswer(*args: Any, **kwargs: Any) -> Any:
                return await cached.aanswer(args, kwargs)

            return aanswer

        @wraps(view)
        def answer(*args: Any, **kwargs: Any) -> Any:
            return cached.answer(args, kwargs)

        return answer

    return decorate


@dataclass(frozen=True)
class _Call:
    """One request for a view: the key of its answer, and how the view makes it."""

    request: Any  # as the view gets it: Django's, or DRF's
    plain: HttpRequest
    key: str
    args: Any
    kwargs: Any


class _CachedView:
    def __init__(
        self,
        region: Region,
        view: Any,
        ttl: int | None,
        vary_on: Sequence[str],
        check: Callable[[QueryDict], object],
    ) -> None:
        self.region = region
        self.view = view
        self.ttl = ttl
        self.check = check
        self.per_user = USER in vary_on
        self.headers = [name for name in vary_on if name != USER]
        self.passes = Passes()
        self.complaints = Sparingly()

    def answer(self, args: Any, kwargs: Any) -> Any:
        call = self._call(args, kwargs)
        if call is None:
            return self.view(*args, **kwargs)
        if self.passes.has(call.key):
            return self._judged(call, *self._run(call))

        def load() -> bytes:
            response, reason = self._run(call)
            if reason:
                raise NotStorable(call.plain, response, reason)
            return _as_bytes(response)

        try:
            return self._finish(call, self.region.get_or_load(call.key, load, ttl=self.ttl))
        except NotStorable as found:
            if call.plain.method == "GET":  # An answer to HEAD says little of those to GET.
                self.passes.add(call.key)
            # Another request's may come out of a read that this one has shared.
            if found.request is call.plain:
                return self._passed(found.response, str(found))
            return self._passed(*self._run(call))
        except ANSWERS:
            self.passes.add(call.key)
            raise

    async def aanswer(self, args: Any, kwargs: Any) -> Any:
        call = self._call(args, kwargs)
        if call is None:
            return await self.view(*args, **kwargs)
        if self.passes.has(call.key):
            return self._judged(call, *await self._arun(call))

        async def load() -> bytes:
            response, reason = await self._arun(call)
            if reason:
                raise NotStorable(call.plain, response, reason)
            return _as_bytes(response)

        try:
            return self._finish(call, await self.region.aget_or_load(call.key, load, ttl=self.ttl))
        except NotStorable as found:
            if call.plain.method == "GET":
                self.passes.add(call.key)
            if found.request is call.plain:
                return self._passed(found.response, str(found))
            return self._passed(*await self._arun(call))
        except ANSWERS:
            self.passes.add(call.key)
            raise

    # --- Steps --------------------------------------------------------------------------------------

    def _call(self, args: Any, kwargs: Any) -> _Call | None:
        """Return what is asked for; None if its answer may not be shared."""
        request = next(one for one in args if isinstance(one, HttpRequest) or drf.is_request(one))
        plain = drf.plain(request)
        if (
            plain.method not in ("GET", "HEAD")
            or plain.META.get("CONTENT_LENGTH") not in (None, "", "0")  # A body is in no key.
            or drf.is_page(request)
        ):
            return None
        user = getattr(request, "user", None)
        if not self.per_user and user is not None and user.is_authenticated:
            return None
        self.check(plain.GET)
        return _Call(request, plain, self._key(request, plain, user), args, kwargs)

    def _key(self, request: Any, plain: HttpRequest, user: Any) -> str:
        """Return the same text for every way of asking for the same answer."""
        asked = {
            "url": f"{plain.scheme}://{plain.get_host()}{plain.path}",
            # Of values of one name the order counts: views go by the last, or by all.
            "parameters": sorted(plain.GET.lists()),
            "headers": {name.lower(): plain.headers.get(name, "").strip() for name in self.headers},
            "media type": drf.media_type(request),
            "user": user.pk if self.per_user and user is not None else None,
            "language": get_language(),  # As cache_page does: texts of the answer may be in it,
            "time zone": get_current_timezone_name(),  # and times.
        }
        return orjson.dumps(asked, option=orjson.OPT_SORT_KEYS).decode()

    def _run(self, call: _Call) -> tuple[Any, str]:
        """Return the view's answer, and what forbids to store it, "" if nothing does."""
        with noted(call.plain, self.headers) as reads:
            response = _rendered(call.request, self.view(*call.args, **call.kwargs))
        return response, self._reason(response, reads.undeclared())

    async def _arun(self, call: _Call) -> tuple[Any, str]:
        with noted(call.plain, self.headers) as reads:
            response = _rendered(call.request, await self.view(*call.args, **call.kwargs))
        return response, self._reason(response, reads.undeclared())

    def _reason(self, response: Any, reads: Sequence[str]) -> str:
        declared = {name.lower() for name in self.headers} | {"accept"}
        own_headers = {name.lower() for name in response.headers} - REPEATABLE_HEADERS
        varies_on = sorted(_names(response.get("Vary", "")) - declared)
        reasons = [
            *(f"reads {name}" for name in reads),
            *([f"status {response.status_code}"] if response.status_code != 200 else []),
            *(["streaming"] if getattr(response, "streaming", False) else []),
            *(f"sets cookie {name}" for name in response.cookies),
            *(f"sets {name}" for name in sorted(own_headers)),
            *(f"varies on {name}" for name in varies_on),
            *(["Cache-Control"] if _forbids(response.get("Cache-Control", ""), self.ttl) else []),
        ]
        return reasons[0] if reasons else ""

    def _judged(self, call: _Call, response: Any, reason: str) -> Any:
        if reason:
            return self._passed(response, reason)
        self.passes.remove(call.key)
        return response

    def _passed(self, response: Any, reason: str) -> Any:
        """Say in the headers why an answer was not stored, and under DEBUG once a minute in the log."""
        text = re.sub(r'[^ -~]|["\\]', "?", reason)[:LONGEST_REASON]
        response["Cache-Status"] = f'{conf.current().name}; fwd=bypass; detail="{text}"'
        if settings.DEBUG and self.complaints.allows(text):
            logger.warning("An answer of %s was not stored: %s", self.view.__qualname__, text)
        return response

    def _finish(self, call: _Call, result: Result) -> Any:
        content_type, _, body = result.body.partition(b"\n")
        response = HttpResponse(body, content_type=content_type.decode())
        if varying := [*self.headers, *(USER_HEADERS if self.per_user else ())]:
            patch_vary_headers(response, varying)
        return http_headers.finish(call.plain, response, result, private=self.per_user)


def _rendered(request: Any, response: Any) -> Any:
    """Return `response` with its content, which is made of the request as well."""
    if drf.is_request(request):
        return drf.rendered(request, response)
    if hasattr(response, "render") and not response.is_rendered:
        return response.render()
    return response


def _as_bytes(response: HttpResponse) -> bytes:
    return response.headers["Content-Type"].encode() + b"\n" + response.content


def _names(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",") if name.strip()}


def _forbids(cache_control: str, ttl: int | None) -> bool:
    """Say whether a response with this Cache-Control (RFC 9111, 5.2.2) may not live `ttl` seconds."""
    for directive in _names(cache_control):
        name, _, seconds = directive.partition("=")
        if name in ("no-store", "no-cache", "private", "must-understand"):
            return True
        if name in ("max-age", "s-maxage"):
            allowed = int(seconds) if seconds.isdecimal() else 0
            if ttl is None or allowed < ttl:
                return True
    return False
