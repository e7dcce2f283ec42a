"""Visitors who never stop: each reads and writes on a connection of its own and notes what failed."""

import contextlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import cycle

from tests.processes import Server
from tests.scale.fleet import Editor
from tests.visitors import CSRF_TOKEN, cookies
from tests.witnesses import Failure, check_status, noting, products_of


@dataclass(frozen=True)
class Ask:
    """A request, and what is right for it: statuses and, of a list, so many products at `least`.

    What is `refusable` may be answered 503 with Retry-After as well, which is noted apart from failures.
    """

    method: str
    path: str
    body: str | None = None
    right: tuple[int, ...] = (200, 201)
    least: int | None = None
    refusable: bool = False


@dataclass
class Visitor:
    """Sends `asks` in turn, `on_one_connection` times on each connection, with a pause before each."""

    server: Server
    asks: Iterator[Ask]
    headers: dict[str, str]
    on_one_connection: int = 20
    pause_seconds: float = 0.01
    done: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    refusals: list[Failure] = field(default_factory=list)

    def visit_until(self, ended: threading.Event) -> None:
        while not ended.is_set():
            connection = HTTPConnection(self.server.address, self.server.port, timeout=30)
            with contextlib.closing(connection):
                for _ in range(self.on_one_connection):
                    if ended.wait(self.pause_seconds):
                        break
                    self._send(connection, next(self.asks))

    def _send(self, connection: HTTPConnection, ask: Ask) -> None:
        self.done[ask.method] += 1
        began_at = time.monotonic()
        with noting(self.failures, ask.method, ask.path):
            try:
                connection.request(ask.method, ask.path, ask.body, self.headers)
                response = connection.getresponse()
                body = response.read()
            except (OSError, HTTPException):
                connection.close()
                raise
            if ask.refusable and response.status == 503 and "Retry-After" in response.headers:
                refusal = Failure(ask.method, ask.path, "status 503", began_at, time.monotonic())
                self.refusals.append(refusal)
                return
            check_status(response.status, ask.right)
            if ask.least is not None:
                products_of(body, ask.least)


class Load:
    """Visitors in threads, from the beginning of a `with` block to its end."""

    def __init__(self, visitors: list[Visitor]) -> None:
        self.visitors = visitors
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=one.visit_until, args=[self._ended]) for one in visitors
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def failures(self) -> list[Failure]:
        return [failure for one in self.visitors for failure in one.failures]

    @property
    def refusals(self) -> list[Failure]:
        return [refusal for one in self.visitors for refusal in one.refusals]

    @property
    def done(self) -> Counter[str]:
        return sum((one.done for one in self.visitors), Counter())


def changes(numbers: Iterable[int]) -> Iterator[Ask]:
    """Change the prices of products for ever."""
    for number, price in zip(cycle(numbers), itertools.count(10)):
        yield Ask("PATCH", f"/store/products/{number}/", json.dumps({"price": price}))


def readers_and_writers(server: Server, editor: Editor) -> list[Visitor]:
    """Return visitors who keep their connections, some who do not, and two who write."""
    reads = [
        Ask("GET", path)
        for path in (
            "/store/cached/",
            "/store/products/2/",
            "/store/cached/?min_price=20",
            "/shop/",
        )
    ]
    basket = [Ask("PUT", "/store/basket/4/", '{"quantity": 3}'), Ask("GET", "/store/basket/")]
    signed_in = signed_in_headers(editor)
    return [
        Visitor(server, cycle(reads), {}),
        Visitor(server, cycle(reads[::-1]), {}),
        Visitor(server, cycle(reads[:1]), {}),
        Visitor(server, cycle(reads), {}, on_one_connection=1),
        Visitor(server, changes((1, 2, 3)), signed_in, pause_seconds=0.05),
        Visitor(server, cycle(basket), signed_in, on_one_connection=1, pause_seconds=0.05),
    ]


def signed_in_headers(editor: Editor) -> dict[str, str]:
    return {**cookies(editor), "X-CSRFToken": CSRF_TOKEN, "Content-Type": "application/json"}
