"""Call both product lists of the running store over HTTP and print what the cache buys.

The two are called in turn, so that a busy machine slows both alike.
"""

import argparse
import http.client
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import track
from rich.table import Table

PATHS = ("/store/", "/store/cached/")
WARM_UP_REQUESTS = 5
TIMEOUT_SECONDS = 10


class CompareError(Exception):
    """The comparison cannot be made; the message says why."""


@dataclass
class Timings:
    """Milliseconds of each request to one path."""

    inside_ms: list[float] = field(default_factory=list)  # what the answer's response_time says
    whole_ms: list[float] = field(default_factory=list)  # from sending the request to the last byte


def measure(url: str, requests: int) -> dict[str, Timings]:
    """Send `requests` requests to each list of the store at `url`; raises CompareError."""
    host = urlsplit(url).netloc
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)
    timings = {path: Timings() for path in PATHS}
    try:
        for _ in range(WARM_UP_REQUESTS):
            for path in PATHS:
                _request(connection, path)
        for _ in track(range(requests), "Comparing", console=Console(stderr=True)):
            for path in PATHS:
                inside_ms, whole_ms = _request(connection, path)
                timings[path].inside_ms.append(inside_ms)
                timings[path].whole_ms.append(whole_ms)
    except (OSError, http.client.HTTPException) as error:
        raise CompareError(
            f"no store answers at {url} ({error}); open it with: make run"
        ) from error
    finally:
        connection.close()
    return timings


def _request(connection: http.client.HTTPConnection, path: str) -> tuple[float, float]:
    started = time.perf_counter()
    connection.request("GET", path, headers={"Accept": "application/json"})
    response = connection.getresponse()
    body = response.read()
    whole_ms = (time.perf_counter() - started) * 1000
    if response.status not in (200, 201):
        raise CompareError(f"{path} answered {response.status}: {body[:200].decode()}")
    return json.loads(body)["response_time"] * 1000, whole_ms


def table(timings: dict[str, Timings]) -> Table:
    """Lay out medians and tails in milliseconds, and how many times faster the cached list is."""
    count = len(timings[PATHS[0]].inside_ms)
    result = Table(title=f"{count} requests to each list, in turn; milliseconds")
    for heading in ("", *PATHS, "times faster"):
        result.add_column(heading, justify="left" if not heading else "right")
    for label, of in (("response_time", "inside_ms"), ("whole request", "whole_ms")):
        columns = [quantiles(getattr(timings[path], of)) for path in PATHS]
        for name, uncached, cached in zip(("median", "p95", "p99"), *columns, strict=True):
            row = (f"{uncached:.2f}", f"{cached:.2f}", f"{uncached / cached:.1f}")
            result.add_row(f"{label}, {name}", *row)
        result.add_section()
    return result


def quantiles(values: list[float]) -> tuple[float, float, float]:
    """Return the median, the 95th and the 99th percentile of two or more values."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=200, help="to each list, at least 2")
    arguments = parser.parse_args()
    if arguments.requests < 2:
        parser.error(f"--requests must be at least 2, not {arguments.requests}")
    try:
        Console().print(table(measure(arguments.url, arguments.requests)))
    except CompareError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
