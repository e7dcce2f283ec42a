"""What Redis says of changes, to one process; and until when nothing can have been left unsaid.

CLIENT TRACKING in broadcast mode makes Redis announce every change of our keys on a connection of its
own (https://redis.io/docs/latest/develop/reference/client-side-caching/). The same connection asks again
and again for the generations (MGET), as not all is announced: not SWAPDB, a resync, a DEL of what is not
there. Answers come in order, so all from before it was sent is known then. A dead line, a hung Redis or a
slow thread leave that moment where it is.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from redis.exceptions import RedisError, ResponseError

from freshcache.background_thread import BackgroundThread
from freshcache.process_clock import process_clock

logger = logging.getLogger(__name__)
# Several checks have to get lost, or late, before copies are not served for a moment.
PINGS_IN_A_LAG = 4
IDLE_SECONDS = 5.0  # Without a request for so long nothing is tracked.
RETRY_SECONDS = 1.0
# A server that knows no tracking (before Redis 6) may be replaced one day.
RETRY_UNSUPPORTED_SECONDS = 60.0
NEVER = float("-inf")


class Listener(Protocol):
    """Who is told of changes."""

    def changed(self, names: list[str], happened_after: float) -> None:
        """Hear that keys have changed, no earlier than `happened_after`, by time.monotonic()."""

    def forget_all(self) -> None:
        """Hear that anything may have changed."""

    def generations(self) -> list[str]:
        """Return the names of the generations that matter."""

    def checked(self, found: dict[str, str | None], happened_after: float, asked_at: float) -> None:
        """Hear what generations Redis held after `asked_at`.

        Had one changed before `happened_after`, it was told.
        """


class InvalidationListener:
    """The thread of a process that hears of changes, while somebody asks.

    `connect()` returns a redis-py connection that speaks RESP3, `prefixes()` what our keys begin with.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        prefixes: Callable[[], list[str]],
        max_lag_seconds: float,
        listener: Listener,
    ) -> None:
        self._connect = connect
        self._prefixes = prefixes
        self._max_lag_seconds = max_lag_seconds
        self._listener = listener
        self._thread = BackgroundThread("copies", self._track)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """After a fork: no thread."""
        self._thread.reset_after_fork()
        self._used_at = NEVER
        self.complete_until = NEVER

    @property
    def is_connected(self) -> bool:
        return self.complete_until > NEVER

    def are_complete(self, now: float) -> bool:
        """Say whether all has been announced that happened earlier than `max_lag_seconds` ago."""
        self._used_at = now
        if now - self.complete_until < self._max_lag_seconds:
            return True
        self._thread.ensure_running()
        return False

    def _track(self) -> None:
        try:
            self._follow()
        except ResponseError as error:
            logger.warning("Redis announces no changes, so no copies are kept: %s", error)
            time.sleep(RETRY_UNSUPPORTED_SECONDS)
        except (RedisError, OSError):
            time.sleep(RETRY_SECONDS)  # Requests meet it too, and say so.

    def _follow(self) -> None:
        """Hear of changes until nobody asks any more; raises RedisError."""
        connection = self._connect()
        try:
            connection.connect()
            # As redis-py does for its own cache, which refuses servers that are not Redis 7.4.
            connection._parser.set_invalidation_push_handler(self._announced)
            tracking = [part for prefix in self._prefixes() for part in ("PREFIX", prefix)]
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *tracking)
            connection.read_response()
            while time.monotonic() - self._used_at < IDLE_SECONDS:
                self._check(connection)
        finally:
            self.complete_until = NEVER
            self._listener.forget_all()
            connection.disconnect()

    def _check(self, connection: Any) -> None:
        process_clock.now()  # It beats while there are requests, also if all are answered from copies.
        asked_at = time.monotonic()
        names = self._listener.generations()
        if names:
            prefix = self._prefixes()[-1]
            connection.send_command("MGET", *(prefix + name for name in names))
        else:
            connection.send_command("PING")
        answer = connection.read_response()  # Announcements that come first are heard first.
        tokens = [token and token.decode("utf-8", "replace") for token in answer] if names else []
        found = dict(zip(names, tokens, strict=True))
        self._listener.checked(found, self.complete_until, asked_at)
        self.complete_until = asked_at
        next_check = asked_at + self._max_lag_seconds / PINGS_IN_A_LAG
        while (left := next_check - time.monotonic()) > 0:
            if connection.can_read(timeout=left):
                connection.read_response(push_request=True)

    def _announced(self, message: list[Any]) -> None:
        keys = message[1]
        if keys is None:  # The whole database has been flushed.
            self._listener.forget_all()
        else:
            # Had it happened before that check, it would have been announced before its answer.
            self._listener.changed([self._name(key) for key in keys], self.complete_until)

    def _name(self, whole_key: bytes) -> str:
        key = whole_key.decode("utf-8", "replace")
        return next((key.removeprefix(one) for one in self._prefixes() if key.startswith(one)), key)
