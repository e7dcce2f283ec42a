"""The way of one read through the cache, with the guards against the three classic faults:

- stale fills: a value is stored only under the generation that was read before it was loaded, and a
  write makes a new generation (leases: Nishtala et al., Scaling Memcache at Facebook, NSDI 2013);
- stampedes: one fills, across processes by a lock with a lease, inside a process by a flight;
- outages: a failing Redis is left alone, a failing source is bridged with the last good value.

A request looks; a hit is served, and refreshed by one if it is near its end. A miss boards the flight
of its generation. Who rides waits for who leads; who leads claims the fill and loads, or waits until
the process that holds the claim has stored. Who finds the generation changed looks again.
"""

import random
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from redis.exceptions import RedisError

from freshcache import metrics
from freshcache.circuit_breaker import Unavailable
from freshcache.entry import Entry, etag_of, new_token
from freshcache.local_cache import Copy, tokens_of_writes
from freshcache.process_clock import Stopwatch, process_clock
from freshcache.redis import budget as redis_budget
from freshcache.redis.budget import OverBudget
from freshcache.redis.entries import Lease, Stale, StoredEntry
from freshcache.redis.errors import NotThisTime
from freshcache.result import Item, Limits, Outcome, Result
from freshcache.shared import Shared
from freshcache.singleflight import Call

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.05
# An entry is refreshed ahead in this last part of its life, or in twice the time that a fill takes.
REFRESH_WINDOW = 0.1
# Entries made together do not expire together: each lives up to this part shorter.
JITTER = 0.1
# Of a claim and of what stores under it: none is begun that would not end within the request's budget.
FILL_TRIPS = 5


class Lookup:
    """One request for one item: what it has spent, and the steps that it can take."""

    def __init__(
        self,
        shared: Shared,
        item: Item,
        load: Callable[[], bytes],
        limits: Limits,
        *,
        may_store: bool,
        refill: Callable[[], object] | None = None,
    ) -> None:
        self.shared = shared
        self.item = item
        self.limits = limits
        self.may_store = may_store
        self.cache_seconds = 0.0
        self.load_seconds = 0.0
        self._load = load
        self._refill = refill
        # Budget and patience are for what others take, so they are in the process' own time.
        self._spent_seconds = 0.0
        self._watch = Stopwatch()
        self._deadline = process_clock.now() + limits.wait_seconds

    def run(self) -> Result:
        if self.item.ttl_seconds == 0:
            return self._loaded(self.load(), "ttl-0")
        if self.shared.outage.is_open:
            return self._shared_load("cache-down")
        tokens = tokens_of_writes.get()
        places = self.item.names.places
        if copy := self.shared.copies.find_in(places, self.item.query, tokens):
            return copy.as_hit()
        try:
            self.shared.outage.know_server()
            return self._look_or_fill()
        except RedisError as error:
            return self._go_past(error)
        except Unavailable:
            if stale := self._last_good():
                return stale
            raise

    def refill(self) -> None:
        """Fill the entry, or find it filled, for the copy in this process; raises Unavailable."""
        try:
            self._look_or_fill()
        except RedisError as error:
            self.shared.outage.note_failure(error)

    # --- The way of a request ---------------------------------------------------------------------

    def _look_or_fill(self) -> Result:
        while True:
            epoch, read_at = self.shared.copies.epoch(), time.monotonic()
            seen = self._look()
            if seen.entry:
                self._keep_copy(epoch, read_at, seen.entry, seen.ttl_ms, seen.place)
                return self._hit_or_refresh(seen.entry, seen.ttl_ms)
            if not self.may_store:
                return self._loaded(self.load(), "transaction")
            if fetched := self._join_or_lead(seen):
                return fetched
            if process_clock.now() > self._deadline:
                return self._shared_load("wait-timeout")

    def _join_or_lead(self, seen: StoredEntry) -> Result | None:
        """Get the missing value with the other threads that want it; None: begin anew."""
        generation = seen.generation or self.ask(
            lambda: self.shared.entries.make_generation(self.item.names)
        )
        # Only those share a flight who have seen its generation: had a write been acknowledged
        # between its load and their coming, they would have seen another one.
        key = (self.item.names.entry, self.item.query, generation)
        flight, leads = self.shared.singleflight.join(key)
        if not leads:
            return self._ride(flight, key)

        def get() -> Result | None:
            try:
                return self._fill_or_wait(generation)
            except RedisError as error:
                return self._go_past(error)  # for all who ride along: nobody has to ask again

        return self._fly(flight, key, get)

    def _fly(
        self, flight: Call[Result], key: Hashable, get: Callable[[], Result | None]
    ) -> Result | None:
        """Return what `get()` does, and hand it to all who ride along."""
        fetched: Result | None = None
        error: BaseException | None = None
        try:
            fetched = get()
        except Unavailable as down:
            error = down
            raise
        finally:
            self.shared.singleflight.end(key, flight)
            flight.land(fetched, error)
        return fetched

    def _ride(self, flight: Call[Result], key: Hashable) -> Result | None:
        started = time.monotonic()
        while not (has_landed := flight.wait(self._deadline - process_clock.now())):
            if process_clock.now() > self._deadline:
                break
        if not has_landed and flight.take_over():
            # One of those who lose patience reads for all who ride along.
            self._fly(flight, key, lambda: self._shared_load("wait-timeout"))
        flight.wait(None)
        metrics.wait_seconds.labels(self.item.region).observe(time.monotonic() - started)
        fetched = flight.result()
        if fetched and fetched.outcome in (Outcome.MISS, Outcome.REFRESH):
            return replace(fetched, outcome=Outcome.COALESCED)
        return fetched

    def _fill_or_wait(self, generation: str) -> Result | None:
        """Fill the entry, or wait until another process has; None if the generation has changed."""
        token, spoilt = new_token(), False
        pause = FIRST_PAUSE_SECONDS
        started = time.monotonic()
        while True:
            claim = self._claim(generation, token, replace=spoilt)
            if claim is Lease.CLAIMED:
                return self._fill(generation, token, Outcome.MISS)
            if claim is Lease.GONE:
                return None
            if claim is Lease.READY:
                seen = self._look()
                if seen.entry:
                    metrics.wait_seconds.labels(self.item.region).observe(
                        time.monotonic() - started
                    )
                    return self._served(seen.entry, seen.ttl_ms, Outcome.COALESCED)
                spoilt = True  # It begins as it should, and that is all.
            elif process_clock.now() + pause > self._deadline:
                metrics.wait_seconds.labels(self.item.region).observe(time.monotonic() - started)
                return self._shared_load("wait-timeout")
            else:
                self.shared.sleep(pause)
                # A slow Redis is asked less often, so that the budget lasts as long as the waiting.
                spent = self._spent_seconds * self.limits.wait_seconds / self.limits.budget_seconds
                pause = max(min(pause * 1.5, LONGEST_PAUSE_SECONDS), spent)

    def _fill(self, generation: str, token: str, outcome: Outcome) -> Result:
        extend = partial(self.shared.entries.extend, self.item.names, generation, token)
        with self.shared.leases.hold(token, self.limits.lease_seconds, extend):
            return self._load_and_store(generation, token, outcome)

    def _load_and_store(self, generation: str, token: str, outcome: Outcome) -> Result:
        era, started = self.shared.copies.era(), time.monotonic()
        try:
            body = self.load()
        except BaseException:
            self._release(generation, token)
            raise
        fill_seconds = time.monotonic() - started
        metrics.fill_seconds.labels(self.item.region).observe(fill_seconds)
        ttl_ms = _jittered_ms(self.item.ttl_seconds)
        entry = Entry(generation, self.item.query, etag_of(body), fill_seconds, ttl_ms, body)
        data, stale = entry.encode(), None
        if ttl_ms is not None and self.item.stale_seconds:
            stale = Stale(entry.encode(compress=True), ttl_ms + self.item.stale_seconds * 1000)
        epoch, read_at = self.shared.copies.epoch(), time.monotonic()
        expected: list[str] = []

        def announce(place: str) -> None:
            expected.append(place)
            self.shared.copies.expect(place)

        try:
            # Over budget as well: to give the claim up takes as long, and then all who wait read, too.
            place = self._ask(
                lambda: self.shared.entries.put(
                    self.item.names, token, entry, data, stale, announce
                ),
                needed=True,
            )
        except NotThisTime:  # It answers; a claim left behind would hold up all others.
            with suppress(RedisError):
                self.shared.entries.release(self.item.names, generation, token)
            place = None
        except RedisError as error:
            self._leave_claim(error, generation, token)
            place = None
        else:
            if place is None:
                copy = self._copy_of(entry, started, ttl_ms)
                self.shared.copies.keep_outdated(era, started, self.item.names.places, copy)
        for other in expected:
            if other != place:
                self.shared.copies.expect_no_longer(other)
        if place is None:
            return self._loaded(body, "not-stored")
        self._keep_copy(epoch, read_at, entry, ttl_ms, place)
        metrics.entry_bytes.labels(self.item.region).observe(len(body))
        return self._served(entry, ttl_ms, outcome)

    def _hit_or_refresh(self, entry: Entry, left_ms: int | None) -> Result:
        hit = self._served(entry, left_ms, Outcome.HIT)
        if not self.may_store or not _is_due(entry, left_ms, self.item.ttl_seconds):
            return hit
        key = (self.item.names.entry, self.item.query, entry.generation)
        flight, leads = self.shared.singleflight.join(key)
        if not leads:
            return hit
        try:
            refreshed = self._fly(flight, key, lambda: self._refresh(entry))
        except (Unavailable, NotThisTime):
            return hit  # It is good for a while yet.
        return refreshed or hit

    def _keep_copy(
        self, epoch: int, read_at: float, entry: Entry, left_ms: int | None, place: str
    ) -> None:
        if _is_due(entry, left_ms, self.item.ttl_seconds):
            return
        self.shared.copies.keep(epoch, place, self._copy_of(entry, read_at, left_ms))

    def _copy_of(self, entry: Entry, read_at: float, left_ms: int | None) -> Copy:
        use_until = expires_at = None
        if left_ms is not None:
            expires_at = read_at + left_ms / 1000
            use_until = expires_at - _refresh_window_ms(entry) / 1000
        return Copy(entry, self.item.names.generation, use_until, expires_at, self._refill, read_at)

    def _refresh(self, entry: Entry) -> Result | None:
        token = new_token()
        if self._claim(entry.generation, token, replace=True) is not Lease.CLAIMED:
            return None
        return self._fill(entry.generation, token, Outcome.REFRESH)

    def _last_good(self) -> Result | None:
        if not self.item.stale_seconds or self.shared.outage.is_open:
            return None
        try:
            seen = self.ask(
                lambda: self.shared.entries.read_stale(self.item.names, self.item.query)
            )
        except RedisError:
            return None
        if not seen.entry or seen.ttl_ms is None:
            return None
        left_ms = seen.ttl_ms - self.item.stale_seconds * 1000
        return self._served(seen.entry, left_ms, Outcome.STALE, "stale-if-error")

    # --- Single steps -----------------------------------------------------------------------------

    def ask(self, command: Callable[[], T]) -> T:
        """Run one command if the budget still has room for it, however long it may take."""
        if not self._has_room(self._spent_seconds + self.limits.command_seconds):
            raise OverBudget
        return self._ask(command)

    def _ask(self, command: Callable[[], T], *, needed: bool = False) -> T:
        started, watch = time.monotonic(), Stopwatch()

        def has_time() -> bool:
            spent = self._spent_seconds + watch.own_seconds
            return self._has_room(spent + self.limits.retry_seconds)

        try:
            return self.shared.outage.ask(command, has_time, needed=needed)
        finally:
            self._spent_seconds += watch.own_seconds
            self.cache_seconds += time.monotonic() - started

    def _look(self) -> StoredEntry:
        return self.ask(lambda: self.shared.entries.read(self.item.names, self.item.query))

    def _has_room(self, seconds: float) -> bool:
        """Say whether the budget has room for so much in all.

        Where this process is late, so is a Redis on the same machine: patience is the limit then, as one
        more read of the database would make all of it later.
        """
        if seconds <= self.limits.budget_seconds:
            return True
        return self._watch.was_late and process_clock.now() < self._deadline

    def load(self) -> bytes:
        started = time.monotonic()
        try:
            return self._load()
        finally:
            self.load_seconds += time.monotonic() - started

    def _claim(self, generation: str, token: str, *, replace: bool) -> Lease:
        redis_budget.check(FILL_TRIPS)
        try:
            return self.ask(
                lambda: self.shared.entries.claim(
                    self.item.names,
                    self.item.query,
                    generation,
                    token,
                    self.limits.lease_seconds,
                    replace=replace,
                )
            )
        except NotThisTime:
            raise
        except RedisError as error:
            self._leave_claim(error, generation, token)
            raise

    def _leave_claim(self, error: RedisError, generation: str, token: str) -> None:
        """Note a failure, after which a claim would hold up all others until its lease ends it."""
        self.shared.outage.note_failure(error)
        if self.shared.outage.is_open:
            self.shared.outage.leave_outdated(self.shared.entries.lock_key(self.item.names))
        else:
            self._release(generation, token)

    def _release(self, generation: str, token: str) -> None:
        try:
            self._ask(
                lambda: self.shared.entries.release(self.item.names, generation, token), needed=True
            )
        except RedisError:
            return  # The lease ends it.

    def _go_past(self, error: RedisError) -> Result:
        if isinstance(error, NotThisTime):
            return self._shared_load(error.detail)
        self.shared.outage.note_failure(error)
        return self._shared_load("cache-down" if self.shared.outage.is_open else "cache-refused")

    def _shared_load(self, detail: str) -> Result:
        if not self.may_store:  # What a transaction sees is for nobody else.
            return self._loaded(self.load(), detail)
        key = (self.item.names.entry, self.item.query)
        started = time.monotonic()
        try:
            return self._loaded(self.shared.reads.read(key, self._load), detail)
        finally:
            self.load_seconds += time.monotonic() - started

    def _loaded(self, body: bytes, detail: str) -> Result:
        return Result(body, Outcome.BYPASS, etag_of(body), detail)

    def _served(
        self, entry: Entry, left_ms: int | None, outcome: Outcome, detail: str = ""
    ) -> Result:
        # Both from Redis' own clock: what the entry was given, less what it has left.
        ttl = None if left_ms is None else left_ms / 1000
        age = None if ttl is None or entry.ttl_ms is None else max(0.0, entry.ttl_ms / 1000 - ttl)
        return Result(entry.body, outcome, entry.etag, detail, ttl, age)


def _jittered_ms(ttl_seconds: int | None) -> int | None:
    if ttl_seconds is None:
        return None
    return int(ttl_seconds * 1000 * (1 - random.random() * JITTER))  # noqa: S311  # No secret.


def _is_due(entry: Entry, left_ms: int | None, ttl_seconds: int | None) -> bool:
    """Say whether the entry is in the last part of its life, in which it is refreshed ahead.

    One that was stored under another CACHE_TTL, and would live too long, is as well.
    """
    if ttl_seconds is not None and (left_ms is None or left_ms > ttl_seconds * 1000):
        return True
    return left_ms is not None and left_ms < _refresh_window_ms(entry)


def _refresh_window_ms(entry: Entry) -> float:
    if entry.ttl_ms is None:
        return 0
    return min(max(entry.ttl_ms * REFRESH_WINDOW, entry.fill_seconds * 2000), entry.ttl_ms / 2)
