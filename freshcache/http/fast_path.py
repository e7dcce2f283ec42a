"""The fast path: hits answered ahead of Django, from the local cache of this process.

Django answers each shape of request the first time, and its status and headers are then replayed, so that
nothing of its middleware is written twice: only what belongs to the one answer is made again. Everything
unusual about a request, and every miss, goes through Django.
"""

import re
import time
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from freshcache.http import gzip as gzipping
from freshcache.http import headers as http_headers
from freshcache.local_cache import Copy
from freshcache.region import Region
from freshcache.result import Result

Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

# Under this name a view puts which entry it has served: the next such request may be answered from it.
SERVED = "store.served"
MAX_KINDS = 1000
# From here on copying a body costs more than the two writes to the socket that it saves.
LONG_BYTES = 65_536
JSON = "application/json"
ACCEPTED = ("*/*", JSON)
# What an answer may depend on; it tells kinds of requests apart. (SERVER_*: where no Host is sent.)
KEYED = (
    *("REQUEST_METHOD", "wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT"),
    *("HTTP_X_FORWARDED_PROTO", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "HTTP_ACCEPT"),
)
# What is looked at below, or by nothing that answers with a list: neither Django, nor DRF, nor the view.
# A request that holds any other name goes the long way, as nobody has thought about it yet.
HARMLESS = (
    *("CONTENT_LENGTH", "HTTP_ACCEPT_ENCODING", "HTTP_COOKIE"),
    "HTTP_AUTHORIZATION",
    # The server's own.
    *("wsgi.errors", "wsgi.version", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"),
    *("wsgi.file_wrapper", "wsgi.input", "wsgi.input_terminated", "wsgi.early_hints"),
    *("gunicorn.socket", "GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL"),
    *("RAW_URI", "REQUEST_URI", "REMOTE_ADDR", "REMOTE_PORT", "REMOTE_HOST"),
    # Clients'. The list is the same for everybody, in one language, signed in or not.
    *(
        "HTTP_" + name
        for name in ["USER_AGENT", "CONNECTION", "KEEP_ALIVE", "TE", "REFERER", "ORIGIN", "DNT"]
    ),
    *("HTTP_ACCEPT_LANGUAGE", "HTTP_ACCEPT_CHARSET", "HTTP_FROM"),
    *("HTTP_CACHE_CONTROL", "HTTP_PRAGMA", "HTTP_PRIORITY", "HTTP_UPGRADE_INSECURE_REQUESTS"),
    *("HTTP_X_REQUESTED_WITH", "HTTP_X_CSRFTOKEN", "HTTP_SAVE_DATA", "HTTP_PURPOSE"),
    *("HTTP_SEC_FETCH_" + name for name in ("SITE", "MODE", "DEST", "USER", "STORAGE")),
    *("HTTP_SEC_CH_UA", "HTTP_SEC_CH_UA_MOBILE", "HTTP_SEC_CH_UA_PLATFORM", "HTTP_SEC_PURPOSE"),
    *("HTTP_SEC_GPC", "HTTP_SEC_CH_PREFERS_COLOR_SCHEME"),
    # Proxies'. Of these Django reads X-Forwarded-Proto alone, and the store the client's address.
    *("HTTP_VIA", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_CLIENT_IP", "HTTP_TRUE_CLIENT_IP"),
    *("HTTP_X_FORWARDED_" + name for name in ("FOR", "HOST", "PORT", "SERVER", "SCHEME", "SSL")),
    *("HTTP_X_SCHEME", "HTTP_X_ORIGINAL_FORWARDED_FOR", "HTTP_X_ORIGINAL_URI", "HTTP_CDN_LOOP"),
    *("HTTP_X_REQUEST_ID", "HTTP_X_CORRELATION_ID", "HTTP_X_REQUEST_START", "HTTP_X_TRACE_ID"),
    *("HTTP_TRACEPARENT", "HTTP_TRACESTATE", "HTTP_BAGGAGE", "HTTP_X_CLOUD_TRACE_CONTEXT"),
    *("HTTP_B3", "HTTP_X_B3_TRACEID", "HTTP_X_B3_SPANID", "HTTP_X_B3_PARENTSPANID"),
    *(
        "HTTP_X_B3_SAMPLED",
        "HTTP_X_AMZN_TRACE_ID",
        "HTTP_X_AMZ_CF_ID",
        "HTTP_X_ENVOY_ATTEMPT_COUNT",
    ),
    *("HTTP_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS", "HTTP_X_ENVOY_EXTERNAL_ADDRESS"),
    *("HTTP_CF_" + name for name in ("RAY", "VISITOR", "CONNECTING_IP", "IPCOUNTRY", "EW_VIA")),
)
# Django sends a new cookie in the place of one of its own that is not well-formed.
WELL_FORMED_COOKIES = re.compile(
    r"""(?: (?: sessionid=[0-9a-z]{32} | csrftoken=(?:[0-9A-Za-z]{32}){1,2}
              | (?!sessionid\b|csrftoken\b) [A-Za-z0-9_.-]+=[^\s;",]* )
            (?: ;[ ] | $ ) )+""",
    re.VERBOSE,
)
OF_ONE_ANSWER = {
    *("age", "cache-status", "content-encoding", "content-length", "etag", "server-timing"),
}


def no_head(_fetched: Result, _seconds: float) -> bytes:
    return b""


class Served(NamedTuple):
    """Which entry an answer came from, and what stands around it there."""

    region: Region
    query: str
    # Makes what stands in front, of how the entry was come by and the seconds that this took.
    head: Callable[[Result, float], bytes] = no_head
    tail: bytes = b""


@dataclass(frozen=True)
class Kind:
    """What Django answers to requests of one kind, when it is a hit."""

    served: Served
    status: str
    headers: Headers


class FastPath:
    """A WSGI application in front of Django's; a view tells it by `request.META[SERVED]` what it serves.

    `tokens(environ)` returns what a request brings of the writes that its client knows of; `harmless` are
    names of the environ, beside the usual ones, that no answer depends on.
    """

    def __init__(
        self,
        application: Application,
        *,
        tokens: Callable[[dict[str, Any]], Collection[str]] = lambda _: (),
        harmless: Collection[str] = (),
    ) -> None:
        self._application = application
        self._tokens = tokens
        self._known = frozenset((*KEYED, *HARMLESS, *harmless))
        self._kinds: dict[Hashable, Kind] = {}
        self._deflated: WeakKeyDictionary[Copy, bytes] = WeakKeyDictionary()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        name = self._name_of_kind(environ)
        if name is None:
            return self._application(environ, start_response)
        if kind := self._kinds.get(name):
            copy = kind.served.region.find_local(kind.served.query, self._tokens(environ))
            if copy:
                return self._answer(environ, start_response, kind, copy, started)
        return self._application(environ, self._noting(environ, start_response, name))

    def _answer(
        self,
        environ: dict[str, Any],
        start_response: StartResponse,
        kind: Kind,
        copy: Copy,
        started: float,
    ) -> Iterable[bytes]:
        hit = copy.as_hit()
        headers = [*kind.headers, *http_headers.headers(hit).items()]
        served = kind.served
        head = served.head(hit, time.perf_counter() - started)
        if gzipping.is_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            headers.append(("Content-Encoding", "gzip"))
            parts = gzipping.member(head, (hit.body, served.tail), self._deflate(copy, served.tail))
        else:
            parts = (head, hit.body, served.tail)
        length = sum(map(len, parts))
        headers.append(("Content-Length", str(length)))
        start_response(kind.status, headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return [b""]
        return parts if length >= LONG_BYTES else [b"".join(parts)]

    def _deflate(self, copy: Copy, tail: bytes) -> bytes:
        """Return the entry compressed; of two threads that come first both do it, which does no harm."""
        deflated = self._deflated.get(copy)
        if deflated is None:
            deflated = self._deflated[copy] = gzipping.deflate(copy.entry.body, tail)
        return deflated

    def _noting(
        self, environ: dict[str, Any], start_response: StartResponse, name: Hashable
    ) -> StartResponse:
        def start(status: str, headers: Headers, *rest: Any) -> Any:
            if served := environ.get(SERVED):
                self._note(name, Kind(served, status, headers))
            return start_response(status, headers, *rest)

        return start

    def _note(self, name: Hashable, kind: Kind) -> None:
        found = {name.lower(): value for name, value in kind.headers}
        if (
            not kind.status.startswith("200 ")
            or found.get("content-type") != JSON
            or "set-cookie" in found
        ):
            return
        # Made-up queries fill it; what is in use comes back at once.
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        kept = [header for header in kind.headers if header[0].lower() not in OF_ONE_ANSWER]
        self._kinds[name] = Kind(kind.served, kind.status, kept)

    def _name_of_kind(self, environ: dict[str, Any]) -> Hashable:
        """Return what tells kinds of requests apart; None for one that has to go through Django."""
        if (
            not environ.keys() <= self._known
            or environ["REQUEST_METHOD"] not in ("GET", "HEAD")
            or environ.get("HTTP_ACCEPT", "*/*") not in ACCEPTED
            or environ.get("CONTENT_LENGTH") not in (None, "", "0")
            or not WELL_FORMED_COOKIES.fullmatch(environ.get("HTTP_COOKIE", "none="))
        ):
            return None
        return tuple(map(environ.get, KEYED))
