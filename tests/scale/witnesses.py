"""Those who read and write all the time while something happens, and what they saw."""

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from django.test import Client

from store.models import Product
from tests.processes import Answer, StoreProcess
from tests.visitors import is_hit, prices, reprice

READ_PAUSE_SECONDS = 0.01
WRITE_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Read:
    asked_at: float  # by time.monotonic()
    status: int
    is_hit: bool
    prices: list[int | None]


@dataclass(frozen=True)
class LateRead:
    asked_at: float
    late_seconds: float  # since when what it lacks had been acknowledged
    is_hit: bool


@dataclass(frozen=True)
class Write:
    acknowledged_at: float
    index: int  # of the product in the list
    price: int
    status: int


class Load:
    """Readers of the cached list and a writer for each product, whose prices only rise."""

    def __init__(
        self, store: StoreProcess, editor: Client, books: list[Product], readers: int = 4
    ) -> None:
        self.reads: list[Read] = []
        self.writes: list[Write] = []
        self.broken: list[str] = []
        self._store, self._editor, self._books = store, editor, books
        self._ended = threading.Event()
        writers = [(self._write, index) for index in range(len(books))]
        self._threads = [
            threading.Thread(target=self._go_on, args=one)
            for one in [*writers, *[(self._read, 0)] * readers]
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def late_reads(self) -> list[LateRead]:
        """Return the reads that lacked a price which had been acknowledged before they asked."""
        late = []
        for read in self.reads:
            missed = [
                one.acknowledged_at
                for one in self.writes
                if one.acknowledged_at < read.asked_at
                and read.prices
                and one.price > (read.prices[one.index] or 0)
            ]
            if missed:
                late.append(LateRead(read.asked_at, read.asked_at - min(missed), read.is_hit))
        return late

    def statuses(self) -> set[int]:
        return {one.status for one in [*self.reads, *self.writes]}

    def first_hit_after(self, moment: float) -> float:
        return min(read.asked_at for read in self.reads if read.is_hit and read.asked_at > moment)

    def _go_on(self, act: Callable[[int, int], None], index: int) -> None:
        number = 0
        while not self._ended.is_set():
            try:
                act(index, number)
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
            number += 1

    def _read(self, _index: int, _number: int) -> None:
        asked_at = time.monotonic()
        answer: Answer = self._store.get("/store/cached/")
        is_good = answer.status in (200, 201)
        self.reads.append(
            Read(
                asked_at,
                answer.status,
                is_good and is_hit(answer),
                prices(answer) if is_good else [],
            )
        )
        time.sleep(READ_PAUSE_SECONDS)

    def _write(self, index: int, number: int) -> None:
        price = 10_000 + number
        status = reprice(self._store, self._editor, self._books[index], price)
        self.writes.append(Write(time.monotonic(), index, price, status))
        time.sleep(WRITE_PAUSE_SECONDS)
