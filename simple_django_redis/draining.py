"""A graceful end behind a load balancer: not ready first, and only then no longer there.

gunicorn stops accepting as soon as it is asked to end (SIGTERM), and what a balancer still sends is lost.
For DRAIN_SECONDS /readyz says 503 and everything is served as before; then gunicorn's own end follows.
"""

import mmap
import os
import signal
import threading
from types import FrameType
from typing import Any

# Shared by the master, which sets it, and the workers, which it forks.
_is_draining = mmap.mmap(-1, 1)


def is_draining() -> bool:
    """Say whether this process, or its master, has been asked to end."""
    return _is_draining[0] == 1


def before_end(seconds: float) -> None:
    """Have the first SIGTERM to this process begin the draining, and the next one end it as now."""
    end: Any = signal.getsignal(signal.SIGTERM)
    me = os.getpid()

    def drain(number: int, frame: FrameType | None) -> None:
        # A worker that has just been forked, and has no handler of its own yet, has this one.
        if os.getpid() != me or is_draining():
            end(number, frame)
            return
        _is_draining[0] = 1
        timer = threading.Timer(seconds, os.kill, [me, signal.SIGTERM])
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, drain)
