"""Copies of entries in this process, which Redis keeps as fresh as a promise says.

A copy is served only while all has been announced that happened more than `max_lag_seconds` ago, so no
read is older than that. One that another process' write has made old is served until then while it is
filled anew (RFC 5861: stale-while-revalidate), so that no hit waits for a usual fill; one that a write of
this process has made old is not served again. Who brings a token of a write (`reading_after`) is
served none from before the token came to this process.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from freshcache.background_refresh import BackgroundRefresh
from freshcache.entry import Entry, as_token
from freshcache.invalidation_listener import NEVER, InvalidationListener
from freshcache.keys import generation_key
from freshcache.result import Outcome, Result

# Of the lag, a copy that has become old is served for this part if a fill takes longer than all of it:
# requests would wait all the same, and little later.
BRIDGED_PART = 0.25
SEEN_IN_LAGS = 10  # For so long it is known when a generation was last seen.
GENERATION = generation_key("")  # How the names of all generations end.
# One that comes back after so many others counts as new, which costs its reader a look in Redis.
MOST_TOKENS = 1000

tokens_of_writes: ContextVar[Collection[str]] = ContextVar("tokens_of_writes", default=())


@contextmanager
def reading_after(tokens: Collection[str]) -> Iterator[None]:
    """Let reads in the body know what those know who were given `tokens`, by `entry.new_token()`.

    A token is given out once Redis has been told of a write. So what is read from there after the token
    has come here is as new, and may be served from then on to all who bring it. Anything that is no
    token has Redis asked each time.
    """
    outer = tokens_of_writes.set(tokens)
    try:
        yield
    finally:
        tokens_of_writes.reset(outer)


@dataclass(eq=False)
class Copy:
    """An entry as Redis had it."""

    entry: Entry
    generation: str  # the name of its region's generation
    use_until: float | None  # by time.monotonic(); from then on it is about to be refreshed
    expires_at: float | None
    refill: Callable[[], object] | None = None  # fills the entry anew, in any thread; None: not so
    read_at: float = NEVER  # by time.monotonic(): when Redis was asked for it last

    def renew(self, later: "Copy") -> None:
        """Take over what a later look at the same entry says of it."""
        self.use_until, self.expires_at = later.use_until, later.expires_at
        self.refill, self.read_at = later.refill, later.read_at

    def as_hit(self) -> Result:
        ttl = age = None
        entry, expires_at = self.entry, self.expires_at  # Another thread may renew it.
        if expires_at is not None:
            ttl = max(0.0, expires_at - time.monotonic())
            age = None if entry.ttl_ms is None else max(0.0, entry.ttl_ms / 1000 - ttl)
        return Result(entry.body, Outcome.HIT, entry.etag, ttl_seconds=ttl, age_seconds=age)


@dataclass
class Outdated:
    """What is known of a copy that another process' write has made old."""

    name: str
    served_until: float  # by time.monotonic()
    is_being_refilled: bool = False
    asked: int = 0  # how many requests it has been served to since


class NoLocalCache:
    """Keeps none, for where each read is to ask Redis."""

    def reset_after_fork(self) -> None: ...
    def find(self, name: str, query: str, tokens: Collection[str] = ()) -> Copy | None:
        return None

    def find_in(
        self, places: Iterable[str], query: str, tokens: Collection[str] = ()
    ) -> Copy | None:
        """Return the copy of the entry of `query` that may be in any of `places`."""
        return next(filter(None, (self.find(name, query, tokens) for name in places)), None)

    def epoch(self) -> int:
        return 0

    def keep(self, epoch: int, name: str, copy: Copy) -> None: ...
    def era(self) -> int:
        return 0

    def keep_outdated(
        self, era: int, began_at: float, places: Sequence[str], copy: Copy
    ) -> None: ...
    def expect(self, name: str) -> None: ...
    def expect_no_longer(self, name: str) -> None: ...
    def forget(self, generation: str) -> None: ...


class LocalCache(NoLocalCache):
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
        self._messages = InvalidationListener(connect, prefixes, max_lag_seconds, self)
        self._refills = BackgroundRefresh()
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """After a fork: no copy, and no thread."""
        self._lock = threading.Lock()
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._bytes = 0
        self._expected: set[str] = set()
        self._outdated: dict[str, Outdated] = {}
        self._epoch = 0
        self._era = 0
        self._last_seen: dict[str, float] = {}  # when Redis was asked and still held a generation
        self._came_at: OrderedDict[str, float] = OrderedDict()  # of each token
        self._generations: set[str] = set()  # of all copies that there have been: a few regions
        self._messages.reset_after_fork()
        self._refills.reset_after_fork()

    # --- For requests -------------------------------------------------------------------------------

    def find(self, name: str, query: str, tokens: Collection[str] = ()) -> Copy | None:
        """Return the copy of the entry `name` if it may be served to who brings `tokens`."""
        now = time.monotonic()
        no_older_than = max((self._came(token, now) for token in tokens), default=NEVER)
        if not self._messages.are_complete(now):
            return None
        with self._lock:
            copy = self._copies.get(name)
            if copy is None or copy.entry.query != query:
                return None
            if copy.use_until is not None and now >= copy.use_until:
                return None
            if (outdated := self._outdated.get(name)) and not self._bridge(outdated, copy, now):
                return None
            if copy.read_at < no_older_than:
                return None
            self._copies.move_to_end(name)
            return copy

    def epoch(self) -> int:
        """Return what `keep` wants to know: to be asked before Redis is read."""
        return self._epoch

    def keep(self, epoch: int, name: str, copy: Copy) -> None:
        """Keep what was read from Redis after `epoch` was asked, unless something changed since."""
        with self._lock:
            if epoch != self._epoch or not self._messages.is_connected:
                return
            kept = self._copies.get(name)
            if kept and kept.entry == copy.entry and name not in self._outdated:
                kept.renew(copy)  # What has been made of it stays as well.
            else:
                self._put(name, copy)

    def era(self) -> int:
        """Return what `keep_outdated` wants to know: to be asked before something is loaded."""
        return self._era

    def keep_outdated(self, era: int, began_at: float, places: Sequence[str], copy: Copy) -> None:
        """Keep what could not be stored, as another process has written since it `began_at` to load.

        It lacks nothing that was written before that, or before Redis was last seen to hold its
        generation; after a write of this process it is not kept.
        """
        if not copy.refill:
            return
        with self._lock:
            if era != self._era or not self._messages.is_connected:
                return
            complete_at = max(began_at, self._last_seen.get(copy.entry.generation, NEVER))
            until = complete_at + self._max_lag_seconds
            name = self._place_for(copy.entry.query, places)
            former, outdated = self._copies.get(name), self._outdated.get(name)
            is_there = former is not None and former.entry.query == copy.entry.query
            if is_there and (outdated is None or outdated.served_until >= until):
                return
            self._put(name, copy)
            if self._copies.get(name) is copy:
                self._outdated[name] = Outdated(name, until)

    def expect(self, name: str) -> None:
        """Take the next announcement of the entry `name` for our own: what is stored here stays.

        Were it somebody else's, the copy would stay longer than the entry, but not be older than its
        generation, on which alone depends what is fresh.
        """
        with self._lock:
            if self._messages.is_connected:
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
            self._era += 1

    def _came(self, token: str, now: float) -> float:
        """Return when a token came here first."""
        if as_token(token.encode()) is None:
            return float("inf")
        with self._lock:
            came_at = self._came_at.setdefault(token, now)
            while len(self._came_at) > MOST_TOKENS:
                self._came_at.popitem(last=False)
        return came_at

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
            self._era += 1
            self._copies.clear()
            self._expected.clear()
            self._outdated.clear()
            self._bytes = 0

    def generations(self) -> list[str]:
        with self._lock:
            return sorted(self._generations)

    def checked(self, found: dict[str, str | None], happened_after: float, asked_at: float) -> None:
        with self._lock:
            oldest = asked_at - SEEN_IN_LAGS * self._max_lag_seconds
            self._last_seen = {
                **{token: at for token, at in self._last_seen.items() if at > oldest},
                **{token: asked_at for token in found.values() if token},
            }
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
            copy = self._copies[name]
            if copy.refill:
                until = happened_after + self._max_lag_seconds
                if copy.entry.fill_seconds > self._max_lag_seconds:
                    bridged = self._max_lag_seconds * BRIDGED_PART
                    until = min(until, time.monotonic() + bridged)
                self._outdated.setdefault(name, Outdated(name, until))
            else:
                self._drop(name)

    def _of(self, generations: list[str]) -> list[str]:
        return [name for name, copy in self._copies.items() if copy.generation in generations]

    def _place_for(self, query: str, places: Sequence[str]) -> str:
        """Return where the copy for `query` is, or else is best kept."""
        for name in places:
            if (copy := self._copies.get(name)) and copy.entry.query == query:
                return name
        return next((name for name in places if name not in self._copies), places[0])

    def _put(self, name: str, copy: Copy) -> None:
        if len(copy.entry.body) > self._max_bytes:
            return
        self._drop(name)
        self._copies[name] = copy
        self._generations.add(copy.generation)
        self._bytes += len(copy.entry.body)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._copies)))

    def _drop(self, name: str) -> None:
        self._outdated.pop(name, None)
        if copy := self._copies.pop(name, None):
            self._bytes -= len(copy.entry.body)
