"""Measure for how long other processes serve a list that a write has made old (LOCAL_CACHE).

It starts a Redis, a database and a store of its own. This process changes a price again and again and
notes when each change was acknowledged; readers ask the store's workers all the while. A read is late if
it lacks what was acknowledged before it was asked. Then it counts who reads the past after a write of
their own, or because of an event, with and without sending back what they got (`own_writes`). Both
tables go to docs/bench/lag.md.
"""

import argparse
import bisect
import datetime
import http.client
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from rich.console import Console

from bench import servers
from bench.cache_costs.report import Table
from tests.servers import temporary_folder

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from tests.processes import StoreProcess

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "bench" / "lag.md"
PATH = "/store/cached/?limit=1"
WORKERS, READERS = 2, 4
KNOWN_WRITES = 60  # of each kind
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
    parser.add_argument("--writes", type=int, default=KNOWN_WRITES, help="how many (%(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="Markdown file to write")
    arguments = parser.parse_args()
    servers.start()
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from store.models import Product
    from tests.processes import StoreProcess

    call_command("prepare", verbosity=0)
    Product.objects.update_or_create(pk=1, defaults={"name": "measured", "price": 0})
    editor = User.objects.create_superuser("editor")
    variables = {"LOCAL_CACHE": "on", "THROTTLE_WRITES": "off"}
    options = ("--workers", str(WORKERS), "--keep-alive", "75")
    store = StoreProcess(temporary_folder() / "store.log", options, variables)
    try:
        store.wait_until_open()
        late_ms = measure(store.port, arguments.reads, arguments.pause)
        known = known_writes(store, editor, arguments.writes)
    finally:
        store.close()
    table = histogram(late_ms)
    for one in (table, known):
        Console().print(one.for_terminal())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = "\n".join(f"- {name}: {value}" for name, value in servers.describe())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        f"# How far copies lag behind\n\n{table.as_markdown().partition(chr(10))[2].strip()}\n\n"
        f"Measured on {today} with `make bench-lag`: a price is changed every "
        f"{arguments.pause * 1000:g} ms while {READERS} readers ask {WORKERS} workers;\n"
        f"`LOCAL_CACHE_MAX_LAG` is {settings.LOCAL_CACHE_MAX_LAG * 1000:g} ms.\n\n"
        f"{known.as_markdown().strip()}\n\n{machine}\n"
    )
    print(f"Written to {arguments.output}")


def known_writes(store: "StoreProcess", editor: "User", count: int) -> Table:
    """Return who of those that know of a write reads the list from before it."""
    from django.test import Client

    from bench.own_writes import old_after_events, old_after_own_writes

    client = Client()
    client.force_login(editor)
    prices = itertools.count(10**6)

    def of_own(*, sends_back: bool) -> int:
        return old_after_own_writes(store, 1, prices, client, count=count, sends_back=sends_back)

    def of_events(*, sends_back: bool) -> int:
        return old_after_events(store, 1, prices, count=count, sends_back=sends_back)

    kinds: list[tuple[str, Callable[..., int]]] = [
        ("after a write of their own (cookie)", of_own),
        ("because of an event (X-Store-Seen)", of_events),
    ]
    rows = [
        (name, *(f"{old(sends_back=back)} of {count}" for back in (False, True)))
        for name, old in kinds
    ]
    return Table(
        title="Who is shown the past",
        note="Reads of the list that lacked a write that their client knew of.\n"
        "After a write of its own each went to the other worker; both had copies.",
        headings=("who reads", "sends nothing back (as before)", "sends back what it got"),
        rows=rows,
    )


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
