"""Readers and a writer of a store, who note what they were told and when."""

import threading
import time
from dataclasses import dataclass

from django.test import Client

from store.models import Product
from tests.processes import StoreProcess
from tests.test_embedded import wait_for
from tests.visitors import cache_milliseconds, is_hit, prices, reprice

READERS = 4
READ_PAUSE_SECONDS = 0.02
WRITE_PAUSE_SECONDS = 0.15
# Who was told of no hit for so long is not being served any.
NO_HITS_SECONDS = 0.5


@dataclass(frozen=True)
class Read:
    began: float  # by time.monotonic()
    price: int
    is_hit: bool


class Traffic:
    """Reads a store's cached list while the price of its first product goes up, write by write.

    `written_through` is another store on the same database and cache, if it is not to be the same one.
    """

    def __init__(
        self,
        store: StoreProcess,
        editor: Client,
        product: Product,
        written_through: StoreProcess | None = None,
    ) -> None:
        self.cache_milliseconds: list[float] = []
        self._reads: list[Read] = []
        self._acknowledged: list[tuple[float, int]] = []
        self._failures: list[str] = []
        self._ended = threading.Event()
        self._store, self._editor, self._product = store, editor, product
        self._written_through = written_through or store
        self._threads = [
            threading.Thread(target=self._run, args=(self._read,)) for _ in range(READERS)
        ]
        self._threads.append(threading.Thread(target=self._run, args=(self._write,)))

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def is_without_hits(self) -> bool:
        """Say whether nobody has been served from the cache for a while."""
        return not self._hits_since(time.monotonic() - NO_HITS_SECONDS)

    def wait_for_hits(self, seconds: float = 10) -> None:
        """Return once somebody has been served from the cache who asked from now on."""
        now = time.monotonic()
        wait_for(lambda: self._hits_since(now), seconds)

    def assert_right(self, old_for_at_most: float = 0.0) -> None:
        """Fail unless all were answered, and none lacks what had been acknowledged before it asked.

        Or, where an outage is part of it, not for longer than so many seconds.
        """
        assert self._failures == []
        assert len(self._reads) > 100
        assert len(self._acknowledged) > 10
        old = [seconds for read in self._reads if (seconds := self._seconds_old(read))]
        told = f"{len(old)} of {len(self._reads)} were old, for up to {max(old, default=0)} s"
        assert max(old, default=0) <= old_for_at_most, told

    def _seconds_old(self, read: Read) -> float:
        """Return how long before `read` that was acknowledged which it lacks."""
        newer = (at for at, price in self._acknowledged if price > read.price)
        return max(0.0, read.began - next(newer, read.began))

    def _hits_since(self, moment: float) -> bool:
        return any(read.is_hit and read.began > moment for read in reversed(self._reads[-500:]))

    def _run(self, once) -> None:
        while not self._ended.is_set():
            try:
                once()
            except OSError as error:
                self._failures.append(repr(error))

    def _read(self) -> None:
        began = time.monotonic()
        answer = self._store.get("/store/cached/")
        if answer.status in (200, 201):
            self._reads.append(Read(began, prices(answer)[0], is_hit(answer)))
            self.cache_milliseconds.append(cache_milliseconds(answer))
        else:
            self._failures.append(f"a read was answered {answer.status}")
        time.sleep(READ_PAUSE_SECONDS)

    def _write(self) -> None:
        price = 10_000 + len(self._acknowledged) + len(self._failures)
        status = reprice(self._written_through, self._editor, self._product, price)
        if status == 200:
            self._acknowledged.append((time.monotonic(), price))
        else:
            self._failures.append(f"a write was answered {status}")
        time.sleep(WRITE_PAUSE_SECONDS)
