"""Measure for how long other processes serve a list that a write has made old (LOCAL_CACHE).

It starts a Redis, a database and a store of its own. This process changes a price again and again and
notes when each change was acknowledged; readers ask the store's workers all the while. A read is late if
it lacks what was acknowledged before it was asked. The histogram goes to docs/bench/lag.md.
"""

import argparse
import bisect
import datetime
import http.client
import threading
import time
from pathlib import Path

import orjson
from rich.console import Console

from bench import servers
from bench.cache_costs.report import Table
from tests.servers import temporary_folder

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "bench" / "lag.md"
PATH = "/store/cached/?limit=1"
WORKERS, READERS = 2, 4
BOUNDS_MS = (0.5, 1, 2, 5, 10, 20, 50, 100)


def read(port: int, count: int, seen: list[tuple[float, int]], ended: threading.Event) -> None:
    """Read the first product's price `count` times; note when each was asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while len(seen) < count and not ended.is_set():
        asked_at = time.monotonic()
        connection.request("GET", PATH)
        body = connection.getresponse().read()
        seen.append((asked_at, orjson.loads(body)["results"][0]["price"]))
    connection.close()


def write_until(ended: threading.Event, pause_seconds: float) -> list[float]:
    """Return when each of the prices 1, 2, 3, ... was acknowledged."""
    from store.models import Product

    acknowledged: list[float] = []
    while not ended.is_set():
        Product.objects.filter(pk=1).update(price=len(acknowledged) + 1)
        acknowledged.append(time.monotonic())
        time.sleep(pause_seconds)
    return acknowledged


def lateness_ms(seen: list[tuple[float, int]], acknowledged: list[float]) -> list[float]:
    """Return how late each read was: 0 if it had all that was acknowledged before it was asked."""
    found = []
    for asked_at, price in seen:
        last = bisect.bisect_left(
            acknowledged, asked_at
        )  # Prices 1 to `last` had been acknowledged.
        found.append((asked_at - acknowledged[price]) * 1000 if price < last else 0.0)
    return found


def histogram(late_ms: list[float]) -> Table:
    rows = [("not late", f"{sum(late == 0 for late in late_ms):,}")]
    lower = 0.0
    for upper in (*BOUNDS_MS, float("inf")):
        count = sum(lower < late <= upper for late in late_ms)
        name = f"up to {upper:g} ms" if upper < float("inf") else f"more than {lower:g} ms"
        rows.append((name, f"{count:,}"))
        lower = upper
    return Table(
        title="How late reads in other processes are",
        note=f"{len(late_ms):,} reads; the latest was {max(late_ms):.1f} ms late.",
        headings=("late by", "reads"),
        rows=rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.lag", description=__doc__)
    parser.add_argument("--reads", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two writes")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="Markdown file to write")
    arguments = parser.parse_args()
    servers.start()
    from django.conf import settings
    from django.core.management import call_command

    from store.models import Product
    from tests.processes import StoreProcess

    call_command("prepare", verbosity=0)
    Product.objects.update_or_create(pk=1, defaults={"name": "measured", "price": 0})
    store = StoreProcess(
        temporary_folder() / "store.log", ("--workers", str(WORKERS)), {"LOCAL_CACHE": "on"}
    )
    try:
        store.wait_until_open()
        late_ms = measure(store.port, arguments.reads, arguments.pause)
    finally:
        store.close()
    table = histogram(late_ms)
    Console().print(table.for_terminal())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = "\n".join(f"- {name}: {value}" for name, value in servers.describe())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        f"# How far copies lag behind\n\n{table.as_markdown().partition(chr(10))[2].strip()}\n\n"
        f"Measured on {today} with `make bench-lag`: a price is changed every "
        f"{arguments.pause * 1000:g} ms while {READERS} readers ask {WORKERS} workers;\n"
        f"`LOCAL_CACHE_MAX_LAG` is {settings.LOCAL_CACHE_MAX_LAG * 1000:g} ms.\n\n{machine}\n"
    )
    print(f"Written to {arguments.output}")


def measure(port: int, reads: int, pause_seconds: float) -> list[float]:
    ended = threading.Event()
    seen: list[list[tuple[float, int]]] = [[] for _ in range(READERS)]
    readers = [
        threading.Thread(target=read, args=(port, reads // READERS, mine, ended)) for mine in seen
    ]
    acknowledged: list[float] = []
    writer = threading.Thread(
        target=lambda: acknowledged.extend(write_until(ended, pause_seconds)), daemon=True
    )
    for thread in (writer, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    ended.set()
    writer.join()
    return [late for mine in seen for late in lateness_ms(mine, acknowledged)]


if __name__ == "__main__":
    main()
