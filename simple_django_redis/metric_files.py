"""Where gunicorn's workers put what they count: files in a folder that others may remove at any time.

Folders for temporary files are cleaned by programs such as systemd-tmpfiles. Counting never takes the
store down: a worker makes the folder again, and without one it counts for itself.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def make_folder() -> None:
    """Make the folder of this master's workers, which is gone once it ends.

    To be called before anything imports prometheus_client.
    """
    folder = tempfile.mkdtemp(prefix="store-metrics-")
    os.environ[VARIABLE] = folder
    # systemd-tmpfiles leaves alone what is locked. Held until this process ends.
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)
    atexit.register(_remove, folder, os.getpid())


def see_to_folder() -> None:
    """Make the folder again if it has been removed."""
    with contextlib.suppress(OSError):
        Path(os.environ[VARIABLE]).mkdir(mode=0o700, parents=True, exist_ok=True)


def use(find_slot: Callable[[], int | str]) -> None:
    """Have this process count in files of the slot that `find_slot()` names."""
    from prometheus_client import values  # It looks at the variable when it is imported.

    in_files: Callable[..., Any] = values.MultiProcessValue(find_slot)  # type: ignore[no-untyped-call]

    class Value:
        """prometheus_client makes one for each number that it counts."""

        _multiprocess = True

        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            for _ in range(2):
                try:
                    return in_files(*arguments, **options)
                except OSError:
                    see_to_folder()
            return values.MutexValue(*arguments, **options)  # type: ignore[no-untyped-call]

    values.ValueClass = Value


def forget_process(slot: int | str) -> None:
    """Remove what a process that has ended says of its present state."""
    from prometheus_client.multiprocess import mark_process_dead

    with contextlib.suppress(OSError):
        mark_process_dead(slot)  # type: ignore[no-untyped-call]


def _remove(folder: str, owner_pid: int) -> None:
    """At the master's exit, whose exit handlers its workers inherit."""
    if os.getpid() == owner_pid:
        shutil.rmtree(folder, ignore_errors=True)
