"""Waiting for something to come true, and no longer."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], seconds: float = 60) -> float:
    """Return after how many seconds `condition()` was true; fails after `seconds`."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"it did not happen within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began
