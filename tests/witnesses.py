"""Those who read a store's list and change prices all the while, and what they saw.

Prices only rise: who sees a lower one than had been acknowledged before sees something old.
"""

import bisect
import itertools
import json
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Self

from django.test import Client

from store.models import Product
from tests.processes import Server
from tests.visitors import cache_milliseconds, is_hit, reprice

PATH = "/store/cached/"
READ_PAUSE_SECONDS = 0.01
WRITE_PAUSE_SECONDS = 0.1
# Who was told of no hit for so long is not being served any.
NO_HITS_SECONDS = 0.5
# Higher each time, in all tests.
rising_prices = itertools.count(10_000)


@dataclass(frozen=True)
class Read:
    asked_at: float  # by time.monotonic()
    prices: list[int | None]
    is_hit: bool = True
    cache_milliseconds: float = 0.0


@dataclass(frozen=True)
class Write:
    acknowledged_at: float  # by time.monotonic()
    price: int
    index: int = 0  # of the product in the list


@dataclass(frozen=True)
class LateRead:
    read: Read
    late_seconds: float  # for how long that which it lacks had been acknowledged


def late_reads(
    reads: Iterable[Read], writes: Sequence[Write], bound_seconds: float = 0.0
) -> list[LateRead]:
    """Return the reads that lacked what had been acknowledged so long before they asked, or longer."""
    late = []
    of_product = [
        [write for write in writes if write.index == index]
        for index in sorted({write.index for write in writes})
    ]
    for read in reads:
        seconds = max((_late_seconds(read, one) for one in of_product), default=0.0)
        if seconds > 0 and seconds >= bound_seconds:
            late.append(LateRead(read, seconds))
    return late


def _late_seconds(read: Read, writes: list[Write]) -> float:
    seen = read.prices[writes[0].index] or 0
    first_missed = bisect.bisect_right(writes, seen, key=lambda write: write.price)
    missed = writes[first_missed : first_missed + 1]
    return max((read.asked_at - write.acknowledged_at for write in missed), default=0.0)


class WrongAnswer(Exception):
    """An answer has come, and is not as it should be."""


@dataclass(frozen=True)
class Failure:
    """A request that was not answered as it should have been; times are of time.monotonic()."""

    method: str
    path: str
    why: str
    began_at: float
    ended_at: float
    is_cut_off: bool = False  # No answer came, or not all of it.

    def __str__(self) -> str:
        return f"{self.method} {self.path}: {self.why} after {self.ended_at - self.began_at:.2f} s"


@contextmanager
def noting(failures: list[Failure], method: str, path: str) -> Iterator[None]:
    """Note what goes wrong with a request, whatever it is: a thread that ends in silence sees nothing."""
    began_at = time.monotonic()
    try:
        yield
    except Exception as error:
        why = str(error) if isinstance(error, WrongAnswer) else repr(error)
        is_cut_off = isinstance(error, (OSError, HTTPException))
        failures.append(Failure(method, path, why, began_at, time.monotonic(), is_cut_off))


def check_status(status: int, right: Container[int]) -> None:
    """Raise WrongAnswer unless the status is a right one."""
    if status not in right:
        raise WrongAnswer(f"status {status}")


def products_of(body: bytes, least: int) -> list[dict[str, Any]]:
    """Return the products that an answer lists; raises WrongAnswer unless there are at least so many."""
    try:
        found = json.loads(body)["results"]
    except (ValueError, TypeError, KeyError) as error:
        raise WrongAnswer(f"no list of products: {body[:100]!r}") from error
    if not isinstance(found, list) or len(found) < least:
        raise WrongAnswer(f"not {least} products: {body[:100]!r}")
    return found


class _Witnesses:
    """Threads that act again and again, from the beginning of a `with` block to its end."""

    def __init__(self, acts: Iterable[Callable[[], None]], pause_seconds: float) -> None:
        self.failures: list[Failure] = []
        self._pause_seconds = pause_seconds
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=[act]) for act in acts]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, act: Callable[[], None]) -> None:
        while not self._ended.wait(self._pause_seconds):
            act()


class Readers(_Witnesses):
    """Readers of the cached list, who note what the first `products` of it cost."""

    def __init__(
        self, store: Server, count: int = 2, pause_seconds: float = 0.0, products: int = 1
    ) -> None:
        super().__init__([self._read] * count, pause_seconds)
        self.reads: list[Read] = []
        self._store, self._products = store, products

    def assert_all_answered(self) -> None:
        """Fail unless each read was answered as it should be, and there were many."""
        assert self.failures == []
        assert len(self.reads) > 100

    def hits_since(self, moment: float) -> list[Read]:
        """Return the hits that were asked for after `moment`."""
        return [read for read in self.reads if read.is_hit and read.asked_at > moment]

    def _read(self) -> None:
        with noting(self.failures, "GET", PATH):
            asked_at = time.monotonic()
            answer = self._store.get(PATH)
            check_status(answer.status, (200, 201))
            first = products_of(answer.body, self._products)[: self._products]
            seen = [product["price"] for product in first]
            self.reads.append(Read(asked_at, seen, is_hit(answer), cache_milliseconds(answer)))


class Writers(_Witnesses):
    """One for each of `books`, the first of the list, that raises its price, at all `stores` in turn."""

    def __init__(
        self,
        stores: Sequence[Server],
        editor: Client,
        books: Sequence[Product],
        pause_seconds: float = WRITE_PAUSE_SECONDS,
    ) -> None:
        super().__init__([self._writer_of(index) for index in range(len(books))], pause_seconds)
        self.writes: list[Write] = []
        self._stores, self._editor, self._books = stores, editor, books

    def _writer_of(self, index: int) -> Callable[[], None]:
        turns = itertools.count()

        def write() -> None:
            store = self._stores[next(turns) % len(self._stores)]
            price = next(rising_prices)
            with noting(self.failures, "PATCH", f"/store/products/{self._books[index].pk}/"):
                check_status(reprice(store, self._editor, self._books[index], price), (200,))
                self.writes.append(Write(time.monotonic(), price, index))

        return write


class Traffic:
    """Readers of a store and a writer for each of `books`, through `written_through` if it is another."""

    def __init__(
        self,
        store: Server,
        editor: Client,
        books: Sequence[Product],
        written_through: Server | None = None,
    ) -> None:
        self._readers = Readers(store, 4, READ_PAUSE_SECONDS, len(books))
        self._writers = Writers([written_through or store], editor, books)

    def __enter__(self) -> Self:
        self._writers.__enter__()
        self._readers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.__exit__()
        self._writers.__exit__()

    @property
    def reads(self) -> list[Read]:
        return self._readers.reads

    @property
    def writes(self) -> list[Write]:
        return self._writers.writes

    def hits_since(self, moment: float) -> list[Read]:
        return self._readers.hits_since(moment)

    def is_without_hits(self) -> bool:
        """Say whether nobody has been served from the cache for a while."""
        return not self.hits_since(time.monotonic() - NO_HITS_SECONDS)

    def late_reads(self, bound_seconds: float = 0.0) -> list[LateRead]:
        return late_reads(self.reads, self.writes, bound_seconds)

    def assert_all_answered(self) -> None:
        """Fail unless each read and each write was answered as it should be, and there were many."""
        self._readers.assert_all_answered()
        assert self._writers.failures == []
        assert len(self.writes) > 10
