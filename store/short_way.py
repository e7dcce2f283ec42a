"""Hits of the product list, answered ahead of Django from this process' copy of the entry.

Django answers each kind of request the first time, and its status and headers are then replayed, so that
nothing of its middleware is written twice: only what belongs to the one answer is made anew. Whatever is
unusual about a request, and all that is no hit, goes the long way.
"""

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from store import caching, gzipping, http_caching
from store.caching import Copy
from store.renderers import LIST_END, list_head

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
# Who sends one of these may want another answer than the next who asks for the same.
UNUSUAL = (
    *("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"),
    *("HTTP_RANGE", "HTTP_EXPECT", "HTTP_TRANSFER_ENCODING"),
)
OF_ONE_ANSWER = {
    *("age", "cache-status", "content-encoding", "content-length", "etag", "server-timing"),
}


class Served(NamedTuple):
    """Which entry an answer came from."""

    family: str
    query: str


@dataclass(frozen=True)
class Kind:
    """What Django answers to requests of one kind, when it is a hit."""

    served: Served
    status: str
    headers: Headers


class ShortWay:
    """A WSGI application in front of Django's."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._kinds: dict[Hashable, Kind] = {}
        self._deflated: WeakKeyDictionary[Copy, bytes] = WeakKeyDictionary()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        name = _name_of_kind(environ)
        if name is None:
            return self._application(environ, start_response)
        if (kind := self._kinds.get(name)) and (copy := caching.find_copy(*kind.served)):
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
        headers = [*kind.headers, *http_caching.headers(hit).items()]
        head = list_head(hit, time.perf_counter() - started)
        if gzipping.is_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            headers.append(("Content-Encoding", "gzip"))
            parts = gzipping.member(head, (hit.body, LIST_END), self._deflate(copy))
        else:
            parts = (head, hit.body, LIST_END)
        length = sum(map(len, parts))
        headers.append(("Content-Length", str(length)))
        start_response(kind.status, headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return [b""]
        return parts if length >= LONG_BYTES else [b"".join(parts)]

    def _deflate(self, copy: Copy) -> bytes:
        """Return the compressed list; two who come first at once both make it, which does no harm."""
        deflated = self._deflated.get(copy)
        if deflated is None:
            deflated = self._deflated[copy] = gzipping.deflate(copy.entry.body, LIST_END)
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


def _name_of_kind(environ: dict[str, Any]) -> Hashable:
    """Return what tells kinds of requests apart; None for one that has to go the long way."""
    accept = environ.get("HTTP_ACCEPT", "*/*")
    if (
        environ["REQUEST_METHOD"] not in ("GET", "HEAD")
        or accept not in ACCEPTED
        or environ.get("CONTENT_LENGTH") not in (None, "", "0")
        or any(name in environ for name in UNUSUAL)
    ):
        return None
    return (
        environ["REQUEST_METHOD"],
        environ["wsgi.url_scheme"],
        environ.get("HTTP_HOST"),
        environ.get("HTTP_X_FORWARDED_PROTO"),
        environ.get("SCRIPT_NAME"),
        environ["PATH_INFO"],
        environ["QUERY_STRING"],
        accept,
    )
