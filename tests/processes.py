"""The store as users run it: gunicorn with the project's own configuration, in its own processes."""

import http.client
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.db import connection

from tests import preloaded
from tests.servers import free_port

OPEN_TIMEOUT_SECONDS = 60


def clean_environment(**variables: str) -> dict[str, str]:
    """Return an environment that says nothing about servers; only the coverage goes on counting."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {**kept, "PATH": os.environ["PATH"], **variables}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """Something that answers HTTP at `address` and `port`."""

    address = "127.0.0.1"
    port: int
    demo_cookie = ""  # of a demo whose printed address has been opened

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Answer:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


class StoreProcess(Server):
    """A gunicorn master with its workers; what it prints is in `log`."""

    def __init__(
        self,
        log: Path,
        arguments: tuple[str, ...],
        variables: Mapping[str, Any],
        *,
        inherit: bool = True,
    ) -> None:
        """Start it on the suite's servers, or, if it is not to `inherit` them, with `variables` alone."""
        self.log = log
        self.port = free_port()
        command = ["-m", "gunicorn", "simple_django_redis.wsgi", *arguments]
        environment = {**(os.environ if inherit else {}), "PORT": str(self.port)}
        if inherit and {"REDIS_URL", "QUEUE_REDIS_URL"} & variables.keys():
            # A test of what an outage of Redis costs: what holds for users holds for this process.
            del environment["CACHE_BUDGET_SECONDS"]
        if inherit and {"MYSQL_PORT", "MYSQL_REPLICA_HOST"} & variables.keys():
            # A test of what an outage of the database costs, likewise.
            environment.pop("MYSQL_TIMEOUT_SECONDS", None)
        environment |= variables
        if "MYSQL_HOST" in environment and "MYSQL_NAME" not in variables:
            environment["MYSQL_NAME"] = str(connection.settings_dict["NAME"])
        with log.open("wb") as output:
            self.process = preloaded.start(command, environment, output)

    def wait_until_open(self) -> None:
        deadline = time.monotonic() + OPEN_TIMEOUT_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/healthz").status == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the store did not open:\n{self.log.read_text()}")

    def sockets(self, *ports: int) -> Counter[int]:
        """Return how many sockets to `ports`, in whatever state, its processes have, by their ids."""
        master = psutil.Process(self.process.pid)
        return Counter(
            process.pid
            for process in [master, *master.children()]
            for one in process.net_connections("tcp")
            if one.raddr and one.raddr.port in ports
        )

    def close(self) -> int:
        """Ask gunicorn to stop, wait for it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


class WorkerProcess:
    """A worker for the jobs, as `manage.py rqworker` runs it; what it prints is in `log`."""

    def __init__(self, log: Path, arguments: tuple[str, ...], variables: dict[str, Any]) -> None:
        self.log = log
        environment = {**os.environ, **variables}
        if "MYSQL_HOST" in environment:
            environment["MYSQL_NAME"] = str(connection.settings_dict["NAME"])
        with log.open("wb") as output:
            command = ["manage.py", "rqworker", *arguments]
            self.process = preloaded.start(command, environment, output, new_session=True)

    def wait_until_listening(self) -> None:
        deadline = time.monotonic() + OPEN_TIMEOUT_SECONDS
        while "Listening on" not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def close(self) -> int:
        """Ask the worker to stop, wait for it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
