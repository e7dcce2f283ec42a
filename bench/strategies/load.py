"""Loads a server with wrk (https://github.com/wg/wrk), and says what it has measured."""

import json
import math
import resource
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.strategies.processes import PATIENCE_SECONDS, BenchError

REPORT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 4
MISSING = "wrk is missing; install it with: apt-get install wrk (or: brew install wrk)"


@dataclass(frozen=True)
class Load:
    requests: int
    requests_a_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    client_seconds: float  # of CPU


def is_installed() -> bool:
    return shutil.which("wrk") is not None


def load(
    url: str, seconds: float, headers: dict[str, str], connections: int = CONNECTIONS, *words: str
) -> Load:
    """Ask `url` as fast as it answers; raises BenchError unless all of it was answered well.

    `words` are for wrk.lua.

    It is a closed loop: a connection asks again when it has been answered, so a pause of the server
    delays few requests. wrk makes up for that in the percentiles (`stats_correct` in its source): to each
    request that took long it adds those that would have been sent meanwhile, had the rate been constant.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds) + 1}s"]
    command += ["--timeout", f"{PATIENCE_SECONDS}s", "-s", str(REPORT)]
    command += [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    before = _seconds_of_children()
    process = subprocess.Popen(
        [*command, url, "--", *words], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(
            signal.SIGINT
        )  # It takes whole seconds only, and reports when it is stopped.
    finally:
        printed, _ = process.communicate()
    found = json.loads(printed.strip().splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise BenchError(f"{found['failed']} of {found['requests']} requests to {url} failed")
    return Load(
        found["requests"],
        found["requests"] / (found["duration"] / 1e6),
        *(found[name] / 1000 for name in ("p50", "p99", "p999")),
        client_seconds=_seconds_of_children() - before,
    )


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # those that have ended
    return used.ru_utime + used.ru_stime
