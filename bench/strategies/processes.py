"""The processes that a row is made of: a gunicorn that answers, and one that changes products."""

import gzip
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from bench.strategies.rows import Row
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
OPEN_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 20
# What a client waits, unless what it waits for is the question.
PATIENCE_SECONDS = 30
GZIP = b"\x1f\x8b"
SYNC = ("--worker-class", "sync", "--threads", "1")


def threaded(threads: int, *, keep_alive: bool = True) -> tuple[str, ...]:
    """Return gunicorn's options for workers of several threads; with four, gunicorn.conf.py's own."""
    seconds = "5" if keep_alive else "0"
    return ("--worker-class", "gthread", "--threads", str(threads), "--keep-alive", seconds)


class BenchError(Exception):
    """The benchmark cannot go on, as the figures would be wrong; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where a row finds its products and its cache."""

    redis_url: str
    variables: dict[str, str]  # that name the database
    body: Path  # the bytes of the whole answer

    def environment(self, row: Row) -> dict[str, str]:
        """Return the environment of a row's processes: the defaults that users have."""
        not_for_rows = ("CACHE_", "LOCAL_CACHE", "MYSQL_TIMEOUT")  # servers.start() sets them.
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(not_for_rows)
        }
        ours = {"REDIS_URL": self.redis_url, "BENCH_BODY": str(self.body), "LOG_LEVEL": "CRITICAL"}
        return kept | {"PYTHONPATH": str(ROOT)} | ours | self.variables | row.variables


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def prices(self) -> dict[int, int]:
        """Return the price of each product by its id; raises ValueError if it is no such answer."""
        body = gzip.decompress(self.body) if self.body.startswith(GZIP) else self.body
        try:
            return {one["id"]: one["price"] for one in orjson.loads(body)["results"]}
        except (TypeError, KeyError) as error:
            raise ValueError(f"no list of products: {body[:100]!r}") from error


class Process:
    """A process in a session of its own, so that Ctrl-C reaches it through us alone."""

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        folder: Path = ROOT,
        *,
        answers: bool = False,
    ) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if answers else self.log,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )

    def stop(self) -> None:
        """Ask it to end; `close()` waits until it has."""
        if self.process.poll() is None:
            self.process.terminate()

    def close(self) -> None:
        self.stop()
        try:
            self.process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream:
                stream.close()

    def printed(self) -> str:
        self.log.seek(0)
        return self.log.read()[-2000:]


class Server(Process):
    """A gunicorn that serves one row; `options` are gunicorn's."""

    def __init__(self, row: Row, place: Place, workers: int, options: Sequence[str]) -> None:
        self.row = row
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "gunicorn", row.application, "--workers", str(workers)]
        command += ["--bind", f"127.0.0.1:{self.port}", "--no-control-socket", *options]
        environment = place.environment(row) | {"PORT": str(self.port)}
        # The project's gunicorn.conf.py, which gunicorn reads from its folder, is not for the bare one.
        bare = row.application.endswith("constant_wsgi")
        super().__init__(command, environment, place.body.parent if bare else ROOT)

    def wait_until_open(self) -> "Server":
        deadline = time.monotonic() + OPEN_TIMEOUT_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/healthz").status == 200:
                    return self
            except OSError:
                time.sleep(0.05)
        raise BenchError(f"the server of {self.row.name} does not open:\n{self.printed()}")

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def cpu_seconds(self) -> float:
        """Return the time that the workers have computed for since they began."""
        times = [worker.cpu_times() for worker in self.workers()]
        return sum(one.user + one.system for one in times)

    def memory_mb(self) -> tuple[float, float]:
        """Return a worker's RSS and PSS, which counts what processes share once, on average."""
        found = [worker.memory_full_info() for worker in self.workers()]
        sizes = [
            sum(values) / len(found) / 1e6
            for values in zip(*((one.rss, one.pss) for one in found), strict=True)
        ]
        return sizes[0], sizes[1]


class Writer(Process):
    """A process of a row that changes products; see `writing`, which it runs."""

    def __init__(self, row: Row, place: Place) -> None:
        environment = place.environment(row)
        command = [sys.executable, "-m", "bench.strategies.writing"]
        super().__init__(command, environment, answers=True)
        self.row = row

    def tell(self, command: str, *numbers: int) -> None:
        """Have it begin; `answer()` waits until it is done."""
        assert self.process.stdin
        self.process.stdin.write(" ".join([command, *map(str, numbers)]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"the writer of {self.row.name} failed:\n{self.printed()}")
        return json.loads(line)

    def do(self, command: str, *numbers: int) -> Any:
        self.tell(command, *numbers)
        return self.answer()
