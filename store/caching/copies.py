"""Copies of entries in this process, which Redis keeps as fresh as a promise says.

CLIENT TRACKING in broadcast mode makes Redis announce every change of our keys on a connection of its
own (https://redis.io/docs/latest/develop/reference/client-side-caching/). On the same connection PING is
sent again and again, and answers come in order: once it is answered, all changes from before it was sent
have been announced. A copy is served only if that was less than `max_lag_seconds` ago, so that a dead
line, a hung Redis or a slow thread end the serving by themselves, and no read is older than that.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from store.caching.entry import Entry
from store.caching.fetched import Fetched, Outcome
from store.keys import generation_key

logger = logging.getLogger(__name__)
# Several pings have to get lost, or late, before copies are not served for a moment.
PINGS_IN_A_LAG = 4
IDLE_SECONDS = 5.0  # Without a request for so long nothing is tracked.
RETRY_SECONDS = 1.0
# A server that knows no tracking (before Redis 6) may be replaced one day.
RETRY_UNSUPPORTED_SECONDS = 60.0
GENERATION = generation_key("")  # How the names of all generations end.


@dataclass(frozen=True, eq=False)
class Copy:
    """An entry as Redis had it."""

    entry: Entry
    generation: str  # the name of its family's generation
    use_until: float | None  # by time.monotonic(); from then on it is about to be refreshed
    expires_at: float | None

    def as_hit(self) -> Fetched:
        ttl = age = None
        if self.expires_at is not None:
            ttl = max(0.0, self.expires_at - time.monotonic())
            age = None if self.entry.ttl_ms is None else max(0.0, self.entry.ttl_ms / 1000 - ttl)
        entry = self.entry
        return Fetched(entry.body, Outcome.HIT, entry.etag, ttl_seconds=ttl, age_seconds=age)


class NoCopies:
    """Keeps none, for where each read is to ask Redis."""

    def start_over(self) -> None: ...
    def find(self, name: str, query: str) -> Copy | None:
        return None

    def epoch(self) -> int:
        return 0

    def keep(self, epoch: int, name: str, copy: Copy) -> None: ...
    def expect(self, name: str) -> None: ...
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
        self._connect = connect
        self._prefixes = prefixes
        self._max_lag_seconds = max_lag_seconds
        self._max_bytes = max_bytes
        self.start_over()

    def start_over(self) -> None:
        """After a fork: no copy, and no thread that hears of changes."""
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._bytes = 0
        self._expected: set[str] = set()
        self._epoch = 0
        self._announced_until = float("-inf")
        self._used_at = float("-inf")
        self._thread: threading.Thread | None = None

    # --- For requests -------------------------------------------------------------------------------

    def find(self, name: str, query: str) -> Copy | None:
        """Return the copy of the entry `name` if it may be served."""
        now = time.monotonic()
        self._used_at = now
        if now - self._announced_until >= self._max_lag_seconds:
            self._see_to_thread()
            return None
        with self._lock:
            copy = self._copies.get(name)
            if copy is None or copy.entry.query != query:
                return None
            if copy.use_until is not None and now >= copy.use_until:
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
            if epoch != self._epoch or self._announced_until == float("-inf"):
                return
            self._drop(name)
            self._copies[name] = copy
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._copies)))

    def expect(self, name: str) -> None:
        """Take the next announcement of the entry `name` for our own: what is stored here stays.

        Were it somebody else's, the copy would stay longer than the entry, but not be older than its
        generation, on which alone depends what is fresh.
        """
        with self._lock:
            if self._announced_until > float("-inf"):
                self._expected.add(name)

    def forget(self, generation: str) -> None:
        """Drop what a write of this process has made old: to be called once Redis has been told."""
        self._changed([generation])

    # --- For the thread -----------------------------------------------------------------------------

    def _see_to_thread(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._track, name="copies", daemon=True)
                self._thread.start()
        self._wanted.set()

    def _track(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            pause = RETRY_SECONDS
            try:
                self._follow()
                continue
            except ResponseError as error:
                pause = RETRY_UNSUPPORTED_SECONDS
                logger.warning("Redis announces no changes, so no copies are kept: %s", error)
            except (RedisError, OSError):
                pass  # Requests meet it too, and say so.
            time.sleep(pause)

    def _follow(self) -> None:
        """Hear of changes until nobody asks for copies any more; raises RedisError."""
        connection = self._connect()
        try:
            connection.connect()
            # As redis-py does for its own cache, which refuses servers that are not Redis 7.4.
            connection._parser.set_invalidation_push_handler(self._announced)
            tracking = [part for prefix in self._prefixes() for part in ("PREFIX", prefix)]
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *tracking)
            connection.read_response()
            with self._lock:  # What was read before this went unwatched.
                self._epoch += 1
            while time.monotonic() - self._used_at < IDLE_SECONDS:
                self._ping(connection)
        finally:
            with self._lock:
                self._announced_until = float("-inf")
                self._forget_all()
            connection.disconnect()

    def _ping(self, connection: Any) -> None:
        asked_at = time.monotonic()
        connection.send_command("PING")
        connection.read_response()  # Announcements that come first are heard first.
        self._announced_until = asked_at
        next_ping = asked_at + self._max_lag_seconds / PINGS_IN_A_LAG
        while (left := next_ping - time.monotonic()) > 0:
            if connection.can_read(timeout=left):
                connection.read_response(push_request=True)

    def _announced(self, message: list[Any]) -> None:
        keys = message[1]  # None: the whole database has been flushed.
        self._changed(None if keys is None else [self._name(key) for key in keys])

    def _changed(self, names: list[str] | None) -> None:
        with self._lock:
            if names is None:
                self._forget_all()
                return
            for name in names:
                if name in self._expected:
                    self._expected.discard(name)
                else:
                    self._drop(name)
            outdated = [name for name, copy in self._copies.items() if copy.generation in names]
            for name in outdated:
                self._drop(name)
            # What was read before may be older than this.
            self._epoch += any(name.endswith(GENERATION) for name in names)

    def _name(self, whole_key: bytes) -> str:
        key = whole_key.decode("utf-8", "replace")
        return next((key.removeprefix(one) for one in self._prefixes() if key.startswith(one)), key)

    def _forget_all(self) -> None:
        self._epoch += 1
        self._copies.clear()
        self._expected.clear()
        self._bytes = 0

    def _drop(self, key: str) -> None:
        if copy := self._copies.pop(key, None):
            self._bytes -= len(copy.entry.body)
