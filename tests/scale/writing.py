"""Writes through one host after the other, and how old what readers saw was."""

import bisect
import itertools
import threading
import time
from contextlib import suppress
from http.client import HTTPException

from store.models import Product
from tests.processes import Server
from tests.scale.fleet import Editor
from tests.test_copies import Readers
from tests.visitors import reprice

LAG_SECONDS = 0.1
BOOK = Product(pk=1)
# Higher each time, in all tests: what is old is cheaper.
rising_prices = itertools.count(10_000)


class Writer:
    """Changes a price all the time, through one of `hosts` after the other."""

    def __init__(self, hosts: list[Server], editor: Editor) -> None:
        self.acknowledged: list[tuple[float, int]] = []
        self._hosts, self._editor = hosts, editor
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._ended.wait(0.05):
            price = next(rising_prices)
            host = self._hosts[price % len(self._hosts)]
            with suppress(OSError, HTTPException):  # Then it is not acknowledged.
                if reprice(host, self._editor, BOOK, price) == 200:
                    self.acknowledged.append((time.monotonic(), price))


def lateness(seen: list[tuple[float, int]], acknowledged: list[tuple[float, int]]) -> list[float]:
    """Return, for each read that lacked what had been acknowledged before it, since when it had."""
    at, written = [one for one, _ in acknowledged], [price for _, price in acknowledged]
    found = []
    for asked_at, price in seen:
        first_missed = bisect.bisect_right(written, price)
        if first_missed < len(at) and at[first_missed] < asked_at:
            found.append(asked_at - at[first_missed])
    return found


def late(readers: Readers, writer: Writer, bound: float) -> list[float]:
    """Return how old what was read had become, where that is `bound` or more."""
    return [one for one in lateness(readers.seen, writer.acknowledged) if one >= bound]
