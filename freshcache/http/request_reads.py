"""What a view reads of a request, so that its answer is shared with nobody whose request differs there.

While the view runs, cookies, headers and META are mappings that note which names were looked up. A copy
of one of them, a loop over it or a look for what is not there are reads as well.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.request import HttpHeaders

# Of META, what the key of an answer holds: address and parameters, and the host where it is sent.
ALWAYS_IN_THE_KEY = frozenset(["SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "wsgi.url_scheme"])
# What Django has found in META or beside it before the view is called, and where it comes from.
ATTRIBUTES = {
    "method": "REQUEST_METHOD",
    "content_type": "CONTENT_TYPE",
    "content_params": "CONTENT_TYPE",
    "encoding": "CONTENT_TYPE",
}
EVERYTHING = "*"


class Noted(dict[str, Any]):
    """A dict that notes in `reads` whatever is looked up in it, as `kind` and name."""

    def __init__(self, kind: str, found: dict[str, Any], reads: set[tuple[str, str]]) -> None:
        super().__init__(found)
        self._kind = kind
        self._reads = reads

    def _note(self, name: object) -> None:
        self._reads.add((self._kind, str(name)))

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._note(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self._note(name)
        return super().__contains__(name)

    def pop(self, name: str, *default: Any) -> Any:
        self._note(name)
        return super().pop(name, *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        self._note(name)
        return super().setdefault(name, default)

    def __iter__(self) -> Iterator[str]:
        self._note(EVERYTHING)
        return super().__iter__()

    def __len__(self) -> int:
        self._note(EVERYTHING)
        return super().__len__()

    def __repr__(self) -> str:
        self._note(EVERYTHING)
        return super().__repr__()

    def keys(self) -> Any:
        self._note(EVERYTHING)
        return super().keys()

    def values(self) -> Any:
        self._note(EVERYTHING)
        return super().values()

    def items(self) -> Any:
        self._note(EVERYTHING)
        return super().items()

    def copy(self) -> dict[str, Any]:
        self._note(EVERYTHING)
        return super().copy()


class NotedHeaders(HttpHeaders):
    """The headers of a request, read from its noted META."""

    def __init__(self, meta: Noted) -> None:
        self._meta = meta
        super().__init__(dict(dict.items(meta)))

    @property
    def _store(self) -> dict[str, tuple[str, str]]:
        """What Django's own methods look into."""
        self._meta._note(EVERYTHING)
        return self._found

    @_store.setter
    def _store(self, found: dict[str, tuple[str, str]]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> str:
        name = name.replace("_", "-")
        self._meta._note(_meta_name(name))
        return self._found[name.lower()][1]


class NotedSession:
    """A session of which every use counts, its key's too."""

    def __init__(self, session: Any, others: set[str]) -> None:
        self.__dict__.update(_session=session, _others=others)

    def _used(self) -> Any:
        self._others.add("session")
        return self._session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._used(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._used(), name, value)

    def __getitem__(self, name: str) -> Any:
        return self._used()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._used()[name] = value

    def __delitem__(self, name: str) -> None:
        del self._used()[name]

    def __contains__(self, name: str) -> bool:
        return name in self._used()


class Reads:
    """What has been read of a request that the key of its answer does not hold."""

    def __init__(self, request: HttpRequest, declared: Sequence[str]) -> None:
        self._allowed = _in_the_key(request) | {_meta_name(name) for name in declared}
        self._noted: set[tuple[str, str]] = set()
        self._others: set[str] = set()

    def undeclared(self) -> list[str]:
        """Return the names of what was read, such as "cookie theme" or "header User-Agent", sorted."""
        named = {_described(kind, name) for kind, name in self._noted if name not in self._allowed}
        return sorted(named | self._others)


def _in_the_key(request: HttpRequest) -> frozenset[str]:
    """Return what of META is in the key by get_host() and is_secure(), as the settings have them read."""
    if settings.USE_X_FORWARDED_HOST and "HTTP_X_FORWARDED_HOST" in request.META:
        found = {"HTTP_X_FORWARDED_HOST"}
    elif "HTTP_HOST" in request.META:
        found = {"HTTP_HOST"}
    else:
        found = {"HTTP_HOST", "SERVER_NAME", "SERVER_PORT"}
    if settings.USE_X_FORWARDED_HOST:
        found.add("HTTP_X_FORWARDED_HOST")
    if settings.SECURE_PROXY_SSL_HEADER:
        found.add(settings.SECURE_PROXY_SSL_HEADER[0])
    if (
        request.method == "GET"
    ):  # An answer to HEAD is one to GET only if the view treats them alike.
        found.add("REQUEST_METHOD")
    return ALWAYS_IN_THE_KEY | found


@cache
def _noting(base: Any) -> Any:
    """Return a class of requests that note who reads their ATTRIBUTES."""

    def attribute(name: str, source: str) -> property:
        def get(request: HttpRequest) -> Any:
            request.META._note(source)  # type: ignore[attr-defined]  # It is `Noted`.
            inherited = getattr(base, name, None)
            return inherited.fget(request) if inherited else request.__dict__[name]

        def set_(request: HttpRequest, value: Any) -> None:
            inherited = getattr(base, name, None)
            if inherited:
                inherited.fset(request, value)
            else:
                request.__dict__[name] = value

        return property(get, set_)

    return type(
        base.__name__, (base,), {one: attribute(one, ATTRIBUTES[one]) for one in ATTRIBUTES}
    )


@contextmanager
def noted(request: HttpRequest, declared: Sequence[str]) -> Iterator[Reads]:
    """Note in the body what is read of `request`; of headers, those `declared` are in the key.

    The session counts when it is used at all. On leaving, the request is as it was but for what the body
    has changed.
    """
    reads = Reads(request, declared)
    session, meta, cookies = getattr(request, "session", None), request.META, request.COOKIES
    own_class: Any = type(request)
    environ = getattr(request, "environ", None)
    headers = request.__dict__.get("headers")
    was_accessed = False
    if session is not None:  # There may be no middleware for them.
        was_accessed, session.accessed = session.accessed, False
        request.session = NotedSession(session, reads._others)  # type: ignore[assignment]  # Looks so.
    noted_meta = Noted("meta", meta, reads._noted)
    request.META = noted_meta
    request.COOKIES = Noted("cookie", cookies, reads._noted)
    request.__dict__["headers"] = NotedHeaders(noted_meta)
    if environ is not None:
        request.environ = noted_meta  # type: ignore[attr-defined]  # WSGIRequest's
    request.__class__ = _noting(own_class)
    try:
        yield reads
    finally:
        request.__class__ = own_class
        if environ is not None:
            request.environ = environ  # type: ignore[attr-defined]
        if session is not None:
            request.session = session
            if session.accessed:  # By what has had it from before, such as request.user.
                reads._others.add("session")
            session.accessed = session.accessed or was_accessed
        meta.update(dict.items(noted_meta))
        request.META, request.COOKIES = meta, cookies
        if headers is None:
            del request.__dict__["headers"]
        else:
            request.__dict__["headers"] = headers


def _meta_name(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"


def _described(kind: str, name: str) -> str:
    if kind == "cookie":
        return f"cookie {name}"
    if name.startswith("CSRF_COOKIE"):
        return "CSRF token"
    if name.startswith("HTTP_"):
        return f"header {name.removeprefix('HTTP_').replace('_', '-').title()}"
    return f"META {name}"
