"""What can happen again and again is logged so many times a minute at most."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable

SECONDS = 60.0


class Sparingly:
    """Says of each line whether it is one of the first `most` of its kind within a minute.

    There are a few kinds only: of errors their type and number, never their text.
    """

    def __init__(self, most: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=most))

    def allows(self, kind: Hashable) -> bool:
        with self._lock:
            said, now = self._said[kind], self._clock()
            if len(said) == self._most and now - said[0] < SECONDS:
                return False
            said.append(now)
            return True

    def forget(self) -> None:
        """Allow everything again."""
        self._said.clear()


def kind_of(error: BaseException) -> Hashable:
    """Return type and number of an error."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else None
    return type(error), code
