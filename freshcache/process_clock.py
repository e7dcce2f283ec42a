"""The time that this process has had: a clock that stands still while the process is late by itself.

On a machine whose cores are busy, or behind a thread that holds the interpreter's lock, a process waits
for its turn, and what it has asked for meanwhile is not slow. How late it is, a thread sees: it sleeps
for a moment again and again, for as long as somebody asks for the time.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from freshcache import metrics
from freshcache.background_thread import BackgroundThread

T = TypeVar("T")

BEAT_SECONDS = 0.01
# While it is late it sleeps for less, so that hardly any of the time is taken for the process' own.
LATE_BEAT_SECONDS = 0.001
IDLE_SECONDS = 5.0
# Who was late for this part of a time cannot say what it was that took so long.
LATE_PART = 0.25
MOST_TRIES = 4  # of what times out again and again while this process is late


class ProcessClock:
    """The clock of one process."""

    def __init__(self) -> None:
        self._thread = BackgroundThread("process-clock", self._beat)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Begin without the thread, which a fork does not take along."""
        self._thread.reset_after_fork()
        self._used_at = 0.0
        # How late it has been in all, and when the thread is to wake up next: seen together.
        self._seen: tuple[float, float | None] = (0.0, None)

    def now(self) -> float:
        """Return the time by a clock like time.monotonic(), less all by which this process was late."""
        self._used_at = time.monotonic()
        if self._seen[1] is None:
            late, _ = self._seen
            self._seen = (late, self._used_at + BEAT_SECONDS)
            if not self._thread.ensure_running():
                self._seen = (late, None)
        while True:
            seen, now = self._seen, time.monotonic()
            if seen is self._seen:
                late, due = seen
                return now - late - (max(0.0, now - due) if due is not None else 0.0)

    def _beat(self) -> None:
        late, due = self._seen  # It may be late already: whoever has started it has set the time.
        due = due or time.monotonic() + BEAT_SECONDS
        try:
            while due - self._used_at < IDLE_SECONDS:
                self._seen = (late, due)
                time.sleep(max(0.0, due - time.monotonic()))
                woke = time.monotonic()
                metrics.late_seconds.observe(late_by := max(0.0, woke - due))
                late += late_by
                due = woke + (LATE_BEAT_SECONDS if late_by > BEAT_SECONDS else BEAT_SECONDS)
        finally:
            self._seen = (late, None)


process_clock = ProcessClock()
os.register_at_fork(after_in_child=process_clock.reset_after_fork)


class Stopwatch:
    """Measures how long something takes, from when this is made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._own_began = process_clock.now()

    @property
    def own_seconds(self) -> float:
        """How long it has taken by the process' own clock."""
        return process_clock.now() - self._own_began

    @property
    def was_late(self) -> bool:
        """Whether this process was late for so long that it may be the one who was slow."""
        own, taken = self.own_seconds, time.monotonic() - self._began
        return taken - own > max(BEAT_SECONDS, taken * LATE_PART)


def retry_while_late(ask: Callable[[], T], timeouts: type[Exception]) -> T:
    """Return what `ask()` does; what it raises of `timeouts` while this process is late does not count.

    It is called MOST_TRIES times at most.
    """
    for _ in range(MOST_TRIES - 1):
        watch = Stopwatch()
        try:
            return ask()
        except timeouts:
            if not watch.was_late:
                raise
    return ask()
