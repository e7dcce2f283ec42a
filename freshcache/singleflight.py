"""Threads of one process that want the same thing at the same time get it from one of them.

The same idea as Go's singleflight package, with one difference each: a flight is boarded by key, and
its passengers may set a limit to their patience; a shared read is one that begins after all who share
it have asked, so that nobody gets what was read before they came.
"""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Call(Generic[T]):
    """Something that one thread is getting and others wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._landed = threading.Event()
        self._taken_over = False
        self._result: T | None = None
        self._error: BaseException | None = None

    def land(self, result: T | None = None, error: BaseException | None = None) -> None:
        """Hand `result`, or `error`, to all who wait; with neither they have to begin anew.

        Only the first landing counts, where a flight has been taken over from its leader.
        """
        with self._lock:
            if not self._landed.is_set():
                self._result, self._error = result, error
                self._landed.set()

    def take_over(self) -> bool:
        """Return True to the first who asks, and who then has to land the flight."""
        with self._lock:
            first, self._taken_over = not self._taken_over, True
            return first

    def wait(self, seconds: float | None) -> bool:
        """Wait up to `seconds`; return whether the flight has landed."""
        return self._landed.wait(seconds)

    def result(self) -> T | None:
        """Return what was handed over by `land()`; raises the error that was."""
        if self._error is not None:
            raise self._error
        return self._result


class SingleFlight(Generic[T]):
    """The flights that are under way, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Call[T]] = {}

    def join(self, key: Hashable) -> tuple[Call[T], bool]:
        """Return the flight under way for `key` and False, or a new one and True: lead it, end it."""
        with self._lock:
            if flight := self._under_way.get(key):
                return flight, False
            flight = self._under_way[key] = Call()
            return flight, True

    def end(self, key: Hashable, flight: Call[T]) -> None:
        """Let nobody else board; to be called before the flight lands."""
        with self._lock:
            if self._under_way.get(key) is flight:
                del self._under_way[key]


class SharedReads(Generic[T]):
    """At most one read of a key at a time, and one more that all who come meanwhile will share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[Hashable, Call[T]] = {}
        self._reading: dict[Hashable, Call[T]] = {}

    def read(self, key: Hashable, load: Callable[[], T]) -> T:
        """Return what a `load()` returns that begins after this call; raises what it raises."""
        with self._lock:
            flight = self._next.get(key)
            leads = flight is None
            if flight is None:
                flight = self._next[key] = Call()
            before = self._reading.get(key)
        if leads:
            self._lead(key, flight, before, load)
        else:
            flight.wait(None)
        result = flight.result()
        return self.read(key, load) if result is None else result

    def _lead(
        self, key: Hashable, flight: Call[T], before: Call[T] | None, load: Callable[[], T]
    ) -> None:
        try:
            if before:
                before.wait(None)
            with self._lock:  # From here on, who comes has to wait for the next read.
                del self._next[key]
                self._reading[key] = flight
            flight.land(load())
        except Exception as error:  # It is raised in all who wait.
            flight.land(error=error)
        finally:
            with self._lock:
                for calls in (self._next, self._reading):
                    if calls.get(key) is flight:
                        del calls[key]
            flight.land()  # The end of a thread is its own: the others begin anew.
