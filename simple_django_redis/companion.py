"""A worker for the jobs beside the web server, so that one command opens a whole store.

It belongs to gunicorn's master: started when the store is open, started again if it ends, ended with it.
"""

import subprocess
import sys
import threading
from pathlib import Path

from simple_django_redis.embedded import end_with_parent

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
STOP_SECONDS = 10.0


class Companion:
    """A process that is kept running by a thread of this one."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str]) -> None:
        """Keep the process running from now on; it is not waited for."""
        self._thread = threading.Thread(
            target=self._keep_running, args=[environment], name="companion", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the process, by force if it takes longer than STOP_SECONDS."""
        self._stopped.set()
        if self._thread:
            self._thread.join()
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _keep_running(self, environment: dict[str, str]) -> None:
        pause = PAUSE_SECONDS
        while not self._stopped.wait(pause):
            if self._process and self._process.poll() is None:
                pause = PAUSE_SECONDS
                continue
            self._process = subprocess.Popen(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                # Ctrl-C in the terminal is for gunicorn, which ends this one in its turn.
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)  # One that fails at once fails again.


# One for each process, whatever reads gunicorn.conf.py again at a reload.
worker = Companion([sys.executable, str(MANAGE), "rqworker"])
