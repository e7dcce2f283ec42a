"""Leases of the fills of this process, in the time that it has had: who is merely late keeps its claim.

A lease is there for a filler that has died or hangs. One that waits for a core, which others wait for as
well, would lose it to the next one, which is no quicker. So a thread makes up for what this process was
late by: EVAL of a script that looks for the claim's token first. Redis down: the lease ends as it is.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import RedisError

from freshcache.background_thread import BackgroundThread
from freshcache.process_clock import process_clock

LOOKS_IN_A_LEASE = 4
# What is less late than this part of the lease is left alone: it costs a command.
LATE_PART = 0.05


class Lease:
    """One claim: `extend(seconds)` makes it end so many seconds from now."""

    def __init__(self, seconds: float, extend: Callable[[float], object]) -> None:
        self.seconds = seconds
        self._extend = extend
        self._own_began = process_clock.now()
        self._ends_at = time.monotonic() + seconds

    def make_up(self) -> None:
        """Extend it by what this process was late."""
        left = self.seconds - (process_clock.now() - self._own_began)
        ends_at = time.monotonic() + left
        if left > 0 and ends_at - self._ends_at > self.seconds * LATE_PART:
            with suppress(RedisError):
                self._extend(left)
                self._ends_at = ends_at


class Leases:
    """The claims that this process holds."""

    def __init__(self) -> None:
        self._thread = BackgroundThread("leases", self._look_after)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """After a fork: no thread, and no claim."""
        self._thread.reset_after_fork()
        self._held: dict[str, Lease] = {}

    @contextmanager
    def hold(self, token: str, seconds: float, extend: Callable[[float], object]) -> Iterator[None]:
        """Look after the claim that `token` proves, and that has just been made, around the body."""
        self._held[token] = Lease(seconds, extend)
        self._thread.ensure_running()  # Without one the claim ends by the clock on the wall.
        try:
            yield
        finally:
            self._held.pop(token, None)

    def _look_after(self) -> None:
        while held := list(self._held.values()):
            time.sleep(min(lease.seconds for lease in held) / LOOKS_IN_A_LEASE)
            for lease in list(self._held.values()):
                lease.make_up()
