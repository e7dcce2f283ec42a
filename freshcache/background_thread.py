"""A thread of this process that is there while there is work for it.

It does not survive a fork, and there may be none to be had: whoever has work asks for it each time.
"""

import contextlib
import threading
from collections.abc import Callable


class BackgroundThread:
    """Calls `work()`, which returns when nothing is left to do, in a daemon thread."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Begin without a thread: a fork does not take it along, and the lock may be held by nobody."""
        self._lock = threading.Lock()
        self._is_wanted = False
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def ensure_running(self) -> bool:
        """See that `work()` is called once more; return False if no thread can be had for it."""
        with self._lock:
            self._is_wanted = True
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                with contextlib.suppress(RuntimeError):  # "can't start new thread"
                    thread.start()
                    self._thread = thread
            return self._thread is not None

    def _run(self) -> None:
        try:
            while self._is_still_wanted():
                self._work()
        except BaseException:
            with self._lock:
                self._thread = None
            raise

    def _is_still_wanted(self) -> bool:
        """Say whether `work()` was asked for since it was last begun; after a "no" the thread ends."""
        with self._lock:
            wanted, self._is_wanted = self._is_wanted, False
            if not wanted:
                self._thread = None
            return wanted
