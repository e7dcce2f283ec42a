"""Starts processes of the project as forks of one that has the libraries in memory already.

Importing them is most of the CPU that a start costs, and the suite starts hundreds of processes. The
project itself is imported by each process that is started, with its own environment. While coverage is
measured (`make test-coverage`) each process gets an interpreter of its own, as it does for users.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
# What can be imported without settings, and does not look at the environment when it is.
LIBRARIES = (
    *("MySQLdb", "environs", "gunicorn.app.wsgiapp", "gunicorn.workers.gthread", "orjson", "redis"),
    *("babel.dates", "django_redis.cache", "whitenoise.middleware", "csp.middleware", "rich.table"),
    *("django.contrib.sessions.backends.cached_db", "django.contrib.staticfiles.storage"),
    *("django.core.handlers.wsgi", "django.core.management", "django.db.backends.sqlite3.base"),
    *(
        "django.forms",
        "django.views.generic",
        "drf_spectacular.utils",
        "rest_framework.negotiation",
    ),
)
LONGEST_END_SECONDS = 10
LONGEST_REQUEST_BYTES = 200_000  # As much as a socket takes in one message.
COVERAGE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: IO[Any],
    *,
    errors: IO[Any] | None = None,
    new_session: bool = False,
) -> "subprocess.Popen[bytes] | Started":
    """Start `python COMMAND` in the project's folder; it begins with `-m MODULE`, `-c CODE` or a file."""
    errors = errors or output
    if any(name in os.environ for name in COVERAGE):
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=new_session,
        )
    variables = {name: os.fspath(value) for name, value in environment.items()}
    request = json.dumps([list(command), variables, new_session]).encode()
    ours, its = socket.socketpair()
    with its:
        files = [its.fileno(), output.fileno(), errors.fileno()]
        socket.send_fds(_preloaded_process(), [request], files)
    return Started(ours, command)


def run(
    command: Sequence[str], environment: Mapping[str, str], timeout: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run `python COMMAND` in the project's folder and return what it printed, and its exit code."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = start(command, environment, output, errors=errors)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(list(command), code, output.read(), errors.read())


class Started:
    """What tests use of a subprocess.Popen, for a process that is the preloaded one's child."""

    def __init__(self, status: socket.socket, command: Sequence[str]) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._status = status
        self.pid = int(status.recv(20))

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                status = self._status.recv(20)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self.returncode = os.waitstatus_to_exitcode(int(status))
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _preloaded_process() -> socket.socket:
    """Start the preloaded process; it ends when its socket is closed, with this process at the latest."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, __file__, str(its.fileno())]
        process = subprocess.Popen(command, pass_fds=[its.fileno()])

    def end() -> None:
        ours.close()
        process.wait()  # So that the CPU of all that it started is counted as this process' children's.

    atexit.register(end)
    return ours


# --- In the preloaded process -----------------------------------------------------------------------


def serve(requests: socket.socket) -> list[str]:
    """Fork a child for each request and tell how it ended; in a child, return its command."""
    running: dict[int, socket.socket] = {}
    child_ended, wake = socket.socketpair()
    for one in (child_ended, wake):
        one.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A Ctrl-C ends the tests, and they end this.
    while True:
        readable, _, _ = select.select([requests, child_ended], [], [])
        if child_ended in readable:
            child_ended.recv(1000)
            while ended := _ended_child(running):
                pid, status = ended
                with suppress(OSError), running.pop(pid) as whom:  # Whoever asked may have ended.
                    whom.send(str(status).encode())
        if requests not in readable:
            continue
        request, files, _, _ = socket.recv_fds(requests, LONGEST_REQUEST_BYTES, 3)
        if not request:
            end_all(running)
            sys.exit()
        whom = socket.socket(fileno=files[0])
        if pid := os.fork():
            whom.send(str(pid).encode())
            running[pid] = whom
            for file in files[1:]:
                os.close(file)
        else:
            return _become(json.loads(request), files)


def end_all(running: dict[int, socket.socket]) -> None:
    """End what tests that were interrupted have left running."""
    deadline = time.monotonic() + LONGEST_END_SECONDS
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    while running and time.monotonic() < deadline:
        while ended := _ended_child(running):
            running.pop(ended[0])
        time.sleep(0.05)
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _ended_child(running: Mapping[int, object]) -> tuple[int, int] | None:
    pid, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)
    return (pid, status) if pid else None


def _become(request: list[Any], files: list[int]) -> list[str]:
    command, environment, new_session = request
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(files[1], 1)
    os.dup2(files[2], 2)
    os.closerange(3, 1000)
    if new_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = str(ROOT)
    return list(command)


def execute(command: list[str]) -> None:
    """Do what `python COMMAND` does."""
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    elif command[0] == "-c":
        sys.argv = ["-c", *command[2:]]
        exec(command[1], {"__name__": "__main__"})
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    for library in LIBRARIES:
        with suppress(ImportError):  # MySQL support may be missing.
            importlib.import_module(library)
    gc.freeze()
    os.chdir(ROOT)
    execute(serve(socket.socket(fileno=int(sys.argv[1]))))
