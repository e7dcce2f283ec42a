"""Many requests at once for a list that has just been forgotten: how many of them ask the database?

They go through the store's own stack, from WSGI down, in threads of this process. What is counted is the
SQL about products that these threads send; if another process reads for all, they send none.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

from django.db import connection, connections
from django.http import HttpRequest
from django.urls import reverse

from freshcache.circuit_breaker import Unavailable
from freshcache.http.fast_path import FastPath
from simple_django_redis.handler import Handler
from store import catalogue, locks
from store.models import Product

REQUESTS = 200
# So many are worked on at a time, the others queue, as in front of gunicorn. With more threads they would
# wait for Python's lock for longer than a request waits for Redis (CACHE_BUDGET_SECONDS).
THREADS = 8
LEASE_SECONDS = 60.0
# What each request has in common with that of who asks for the stampede: by what address it came.
OF_THE_CLIENT = (
    *("SERVER_NAME", "SERVER_PORT", "SCRIPT_NAME", "REMOTE_ADDR", "wsgi.url_scheme"),
    *("HTTP_HOST", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"),
)


@dataclass(frozen=True)
class Stampede:
    """How it went: how many requests were answered with which status, from how many queries."""

    statuses: dict[int, int]
    queries: int
    slowest_seconds: float


class QueryCount:
    """Counts the statements about products, for several threads."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def see(self, execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        if Product._meta.db_table in str(sql):
            with self._lock:
                self.count += 1
        return execute(sql, *rest)


def run(request: HttpRequest) -> Stampede:
    """Make the lists forget, ask for the cached one REQUESTS times, and return how it went.

    Raises locks.LockNotAcquired if there is a stampede already, and Unavailable if Redis is down or
    no threads can be had.
    """
    environ = {name: request.META[name] for name in OF_THE_CLIENT if name in request.META}
    queries = QueryCount()
    begin_together = threading.Barrier(THREADS)

    def ask(number: int) -> tuple[int, float]:
        if number < THREADS:
            begin_together.wait()
        try:
            with connection.execute_wrapper(queries.see):
                return _get(reverse("store-cached"), environ)
        finally:
            connections.close_all()

    with locks.hold("stampede", lease_seconds=LEASE_SECONDS):
        catalogue.products_changed()
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                answers = list(pool.map(ask, range(REQUESTS)))
            except RuntimeError as error:  # "can't start new thread"
                begin_together.abort()  # Those that could be started wait for it.
                raise Unavailable("no threads can be had for a stampede") from error
    statuses = Counter(status for status, _ in answers)
    return Stampede(dict(statuses), queries.count, max(seconds for _, seconds in answers))


@cache
def _application() -> FastPath:
    return FastPath(Handler())


def _get(path: str, environ: dict[str, Any]) -> tuple[int, float]:
    """Return the status of the answer, and the seconds until all of it was there."""
    found: list[str] = []
    asked = {
        **environ,
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_ACCEPT": "application/json",
        "wsgi.input": BytesIO(),
    }
    started = time.perf_counter()
    answer: Any = _application()(asked, lambda status, *_headers: found.append(status))
    for _ in answer:
        pass
    if hasattr(answer, "close"):
        answer.close()
    return int(found[0].split()[0]), time.perf_counter() - started
