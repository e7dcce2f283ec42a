"""What one process passes on of the stream of events: one connection and thread for all its clients.

The thread waits for the bell (Pub/Sub) and then reads the stream on from the last entry that it has,
into a list that all clients of the process share; each has but its own place in it. So there is no
queue that could overflow, and no seam between what was missed and what is new. A client whose place is
not there any more (trimmed, flushed, somebody else's) gets a `reset`. Redis down: all wait.
"""

import logging
import os
import threading
import time
from collections import Counter

from django.conf import settings
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from freshcache.circuit_breaker import RETRY_SECONDS, Unavailable
from freshcache.redis.errors import describe
from freshcache.sparing_log import Sparingly, kind_of
from store import event_stream, keys, metrics
from store.event_stream import RESET, Entry
from store.throttling import TooMany

logger = logging.getLogger(__name__)
# Without a bell the stream is looked at all the same: how long a lost one or a flush goes unnoticed.
LOOK_SECONDS = 1.0
# How long the thread outlives the last client, who may be about to reconnect.
LINGER_SECONDS = 10.0
UNKNOWN = ""  # A place that no entry has, which leads to a reset as soon as there are entries.


class TooManyClients(Unavailable):
    """The process has as many streams open as EVENTS_MAX_CLIENTS lets it."""


class Feed:
    """The events of one process, and who follows them."""

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Begin with nothing, as after a fork: there is no thread, and locks may be held by nobody."""
        self._changed = threading.Condition()
        self._reading = threading.Lock()
        self._entries: list[Entry] = []
        self._is_current = False
        self._followers = 0
        self._clients = Counter[str]()
        self._last_left = 0.0
        self._thread: threading.Thread | None = None
        self._complaints = Sparingly()

    def follow(
        self, last_id: str | None, client: str, max_clients: int, max_of_one: int
    ) -> "Follower":
        """Return a follower of what comes after `last_id`, or from now on; it has to be closed.

        Raises TooManyClients, also where no thread can be had, and TooMany if `max_of_one` are the
        client's own.
        """
        with self._changed:
            if self._clients[client] >= max_of_one:
                metrics.event_streams_dropped.labels("full").inc()
                raise TooMany(int(RETRY_SECONDS), "Too many streams are open from this address.")
            if self._followers >= max_clients:
                metrics.event_streams_dropped.labels("full").inc()
                raise TooManyClients(f"{max_clients} streams are open")
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._listen, name="events", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # "can't start new thread"
                    metrics.event_streams_dropped.labels("full").inc()
                    raise TooManyClients("no thread can be had to listen for events") from error
                self._thread = thread
            self._followers += 1
            self._clients[client] += 1
        metrics.event_streams.inc()
        # What another process has passed on already, to a client that now comes here, is known then.
        self._look()
        with self._changed:
            newest = self._entries[-1].id if self._is_current else UNKNOWN
        return Follower(self, client, last_id or newest)

    def after(self, last_id: str, wait_seconds: float) -> list[Entry]:
        """Return what comes after `last_id`, waiting for it if there is nothing; [] if nothing came."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_current and self._entries[-1].id != last_id, wait_seconds
            )
            entries = self._entries if self._is_current else []
        for index in reversed(range(len(entries))):
            if entries[index].id == last_id:
                return entries[index + 1 :]
        reset = event_stream.encode({"event": RESET})
        return [Entry(entries[-1].id, RESET, reset)] if entries else []

    def leave(self, client: str) -> None:
        """A follower of the client goes."""
        with self._changed:
            self._followers -= 1
            self._clients -= Counter([client])  # Those who have none left are not kept.
            self._last_left = time.monotonic()
        metrics.event_streams.dec()

    def _listen(self) -> None:
        while self._is_wanted():
            try:
                with event_stream.bell() as bell:
                    while self._is_wanted():
                        bell.get_message(timeout=LOOK_SECONDS)
                        self._look()
            except RedisError as error:  # `_look()` tells whether it is more than this connection.
                self._complain(error)
                time.sleep(RETRY_SECONDS)
                self._look()

    def _is_wanted(self) -> bool:
        """Say whether this thread is to go on; after a "no" another one may have been started."""
        with self._changed:
            if self._thread is not threading.current_thread():
                return False
            if not self._followers and time.monotonic() > self._last_left + LINGER_SECONDS:
                self._thread, self._is_current = None, False
            return self._thread is not None

    def _look(self) -> None:
        """Read the stream on from the last entry, or all of it if that one is not there any more."""
        with self._reading:
            entries = self._entries
            try:
                newer = event_stream.read_after(entries[-1].id) if entries else None
                if newer is None:
                    entries = event_stream.read_all()
                elif newer:
                    entries = (entries + newer)[-keys.EVENTS_CAP - 1 :]
            except (RedisError, Unavailable) as error:
                self._is_current = False
                self._complain(error)
                return
            with self._changed:
                if not self._is_current or entries is not self._entries:
                    self._entries, self._is_current = entries, bool(entries)
                    self._changed.notify_all()

    def _complain(self, error: Exception) -> None:
        # The breaker tells of outages. What else there may be does not change every second.
        is_told = isinstance(error, Unavailable | RedisConnectionError | RedisTimeoutError)
        if not is_told and self._complaints.allows(kind_of(error)):
            logger.warning("Events wait: %s", describe(error, settings.QUEUE_REDIS_URL))


class Follower:
    """One client's place in the events of the process."""

    def __init__(self, feed: Feed, client: str, last_id: str) -> None:
        self.last_id = last_id
        self._client = client
        self._feed: Feed | None = feed

    def next(self, wait_seconds: float) -> list[Entry]:
        """Return what is new, waiting for it; [] if nothing was."""
        entries = self._feed.after(self.last_id, wait_seconds) if self._feed else []
        if entries:
            self.last_id = entries[-1].id
        return entries

    def close(self) -> None:
        """Make room for another client."""
        feed, self._feed = self._feed, None
        if feed:
            feed.leave(self._client)


# What all threads of this process share.
process_feed = Feed()
os.register_at_fork(after_in_child=process_feed.reset_after_fork)
