"""Copies of entries in this process, which Redis keeps as fresh as a promise says.

A copy is served only while all has been announced that happened more than `max_lag_seconds` ago, so no
read is older than that. One that another process' write has made old is served for a part of that time
while it is filled anew (RFC 5861: stale-while-revalidate), so that no hit waits for a usual fill; one
that a write of this process has made old is not served again.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from store.caching.announcements import Announcements
from store.caching.entry import Entry
from store.caching.fetched import Fetched, Outcome
from store.caching.refills import Refills
from store.keys import generation_key

# Of the lag, a copy that has become old is served for this part: time for a usual fill, as no hit should
# wait for one, and little beside the time that a slow fill takes.
BRIDGED_PART = 0.25
GENERATION = generation_key("")  # How the names of all generations end.


@dataclass(frozen=True, eq=False)
class Copy:
    """An entry as Redis had it."""

    entry: Entry
    generation: str  # the name of its family's generation
    use_until: float | None  # by time.monotonic(); from then on it is about to be refreshed
    expires_at: float | None
    refill: Callable[[], object] | None = None  # fills the entry anew, in any thread; None: not so

    def as_hit(self) -> Fetched:
        ttl = age = None
        if self.expires_at is not None:
            ttl = max(0.0, self.expires_at - time.monotonic())
            age = None if self.entry.ttl_ms is None else max(0.0, self.entry.ttl_ms / 1000 - ttl)
        entry = self.entry
        return Fetched(entry.body, Outcome.HIT, entry.etag, ttl_seconds=ttl, age_seconds=age)


@dataclass
class Outdated:
    """What is known of a copy that another process' write has made old."""

    name: str
    served_until: float  # by time.monotonic()
    is_being_refilled: bool = False
    asked: int = 0  # how many requests it has been served to since


class NoCopies:
    """Keeps none, for where each read is to ask Redis."""

    def start_over(self) -> None: ...
    def find(self, name: str, query: str) -> Copy | None:
        return None

    def find_in(self, places: Iterable[str], query: str) -> Copy | None:
        """Return the copy of the entry of `query` that may be in any of `places`."""
        return next(filter(None, (self.find(name, query) for name in places)), None)

    def epoch(self) -> int:
        return 0

    def keep(self, epoch: int, name: str, copy: Copy) -> None: ...
    def expect(self, name: str) -> None: ...
    def expect_no_longer(self, name: str) -> None: ...
    def forget(self, generation: str) -> None: ...


class Copies(NoCopies):
    """The copies of one process; `max_bytes` bounds their bodies together, the least used go first.

    `connect()` returns a redis-py connection that speaks RESP3, `prefixes()` what our keys begin with.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        prefixes: Callable[[], list[str]],
        max_lag_seconds: float,
        max_bytes: int,
    ) -> None:
        self._max_lag_seconds = max_lag_seconds
        self._max_bytes = max_bytes
        self._announcements = Announcements(connect, prefixes, max_lag_seconds, self)
        self._refills = Refills()
        self.start_over()

    def start_over(self) -> None:
        """After a fork: no copy, and no thread."""
        self._lock = threading.Lock()
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._bytes = 0
        self._expected: set[str] = set()
        self._outdated: dict[str, Outdated] = {}
        self._epoch = 0
        self._generations: set[str] = set()  # of all copies that there have been: a few families
        self._announcements.start_over()
        self._refills.start_over()

    # --- For requests -------------------------------------------------------------------------------

    def find(self, name: str, query: str) -> Copy | None:
        """Return the copy of the entry `name` if it may be served."""
        now = time.monotonic()
        if not self._announcements.are_complete(now):
            return None
        with self._lock:
            copy = self._copies.get(name)
            if copy is None or copy.entry.query != query:
                return None
            if copy.use_until is not None and now >= copy.use_until:
                return None
            if (outdated := self._outdated.get(name)) and not self._bridge(outdated, copy, now):
                return None
            self._copies.move_to_end(name)
            return copy

    def epoch(self) -> int:
        """Return what `keep` wants to know: to be asked before Redis is read."""
        return self._epoch

    def keep(self, epoch: int, name: str, copy: Copy) -> None:
        """Keep what was read from Redis after `epoch` was asked, unless something changed since."""
        size = len(copy.entry.body)
        if size > self._max_bytes:
            return
        with self._lock:
            if epoch != self._epoch or not self._announcements.are_heard:
                return
            self._drop(name)
            self._copies[name] = copy
            self._generations.add(copy.generation)
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._copies)))

    def expect(self, name: str) -> None:
        """Take the next announcement of the entry `name` for our own: what is stored here stays.

        Were it somebody else's, the copy would stay longer than the entry, but not be older than its
        generation, on which alone depends what is fresh.
        """
        with self._lock:
            if self._announcements.are_heard:
                self._expected.add(name)

    def expect_no_longer(self, name: str) -> None:
        """Take announcements of the entry `name` for others' again: nothing was stored here."""
        with self._lock:
            self._expected.discard(name)

    def forget(self, generation: str) -> None:
        """Drop what a write of this process has made old: to be called once Redis has been told."""
        with self._lock:
            for name in self._of([generation]):
                self._drop(name)
            self._epoch += 1

    # --- For the thread that hears of changes -------------------------------------------------------

    def changed(self, names: list[str], happened_after: float) -> None:
        with self._lock:
            for name in names:
                if name in self._expected:
                    self._expected.discard(name)
                else:
                    self._drop(name)
            self._outdate(self._of(names), happened_after)
            # What was read before may be older than this.
            self._epoch += any(name.endswith(GENERATION) for name in names)

    def forget_all(self) -> None:
        with self._lock:
            self._epoch += 1
            self._copies.clear()
            self._expected.clear()
            self._outdated.clear()
            self._bytes = 0

    def generations(self) -> list[str]:
        with self._lock:
            return sorted(self._generations)

    def checked(self, found: dict[str, str | None], happened_after: float) -> None:
        with self._lock:
            changed = [
                name
                for name, copy in self._copies.items()
                if found.get(copy.generation) != copy.entry.generation
            ]
            self._outdate(changed, happened_after)
            self._epoch += 1  # What was read before, and is not kept yet, has not been checked.

    # --- Outdated copies ----------------------------------------------------------------------------

    def _bridge(self, outdated: Outdated, copy: Copy, now: float) -> bool:
        """Say whether an outdated copy may still be served; the first who asks has it filled anew."""
        if now >= outdated.served_until:
            self._drop(outdated.name)
            return False
        outdated.asked += 1
        if not outdated.is_being_refilled:
            outdated.is_being_refilled = self._refills.add(
                lambda: self._refill(outdated.name, copy), demand=lambda: outdated.asked
            )
        return True

    def _refill(self, name: str, copy: Copy) -> None:
        """Fill an entry anew whose copy is outdated; if that fails, the next request tries."""
        try:
            if self._copies.get(name) is copy and copy.refill:
                copy.refill()
        finally:
            with self._lock:
                if self._copies.get(name) is copy:
                    self._drop(name)

    # --- With the lock held -------------------------------------------------------------------------

    def _outdate(self, names: list[str], happened_after: float) -> None:
        """Have copies replaced that something has made old, no earlier than `happened_after`."""
        for name in names:
            if self._copies[name].refill:
                until = min(
                    happened_after + self._max_lag_seconds,
                    time.monotonic() + self._max_lag_seconds * BRIDGED_PART,
                )
                self._outdated.setdefault(name, Outdated(name, until))
            else:
                self._drop(name)

    def _of(self, generations: list[str]) -> list[str]:
        return [name for name, copy in self._copies.items() if copy.generation in generations]

    def _drop(self, name: str) -> None:
        self._outdated.pop(name, None)
        if copy := self._copies.pop(name, None):
            self._bytes -= len(copy.entry.body)
