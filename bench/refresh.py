"""Measure what readers wait for while another process writes (LOCAL_CACHE): docs/bench/refresh.md.

It starts a Redis, a database and a store of its own; each product query takes 60 ms. This process
changes a price at a steady rate while readers ask for lists at random, the first of which is asked for
most. It prints a table in Markdown; MariaDB or MySQL has to be there.
"""

import argparse
import datetime
import http.client
import os
import random
import statistics
import sys
import threading
import time

from bench import servers
from bench.cache_costs.report import Table
from tests.servers import temporary_folder

LISTS = (1, 12, 100)
WRITES_PER_SECOND = (1, 20, 100)
QUERY_SECONDS = 0.06
SLOW_SECONDS = 0.05
WORKERS, READERS = 2, 4
PAUSE_SECONDS = 0.005  # of a reader between two reads: the store is not to be short of CPU
PRODUCT_QUERY = b"FROM `store_product`"

Reads = list[tuple[bool, float]]  # whether each was a hit, and the seconds that it took


def read_until(port: int, lists: int, found: Reads, ended: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not ended.wait(PAUSE_SECONDS):
        number = 1 + int(lists * random.random() ** 2)
        started = time.monotonic()
        connection.request("GET", f"/store/cached/?limit={number}")
        answer = connection.getresponse()
        answer.read()
        is_hit = "; hit" in (answer.headers["Cache-Status"] or "")
        found.append((is_hit, time.monotonic() - started))
    connection.close()


def write_until(rate: float, ended: threading.Event) -> None:
    from store.models import Product

    due = time.monotonic()
    while not ended.wait(max(0.0, due - time.monotonic())):
        Product.objects.filter(pk=1).update(price=random.randrange(10_000))
        due = max(due + 1 / rate, time.monotonic() - 1)


def measure(port: int, lists: int, rate: float, seconds: float) -> Reads:
    ended = threading.Event()
    found: list[Reads] = [[] for _ in range(READERS)]
    threads = [
        threading.Thread(target=read_until, args=(port, lists, mine, ended)) for mine in found
    ]
    threads.append(threading.Thread(target=write_until, args=(rate, ended)))
    for thread in threads:
        thread.start()
    time.sleep(1)  # All lists have been read, and copies are kept.
    for mine in found:
        mine.clear()
    time.sleep(seconds)
    ended.set()
    for thread in threads:
        thread.join()
    return [read for mine in found for read in mine]


def row(lists: int, rate: float, reads: Reads) -> tuple[str, ...]:
    taken = sorted(seconds for _, seconds in reads)
    return (
        f"{lists}",
        f"{rate:g}",
        f"{len(reads)}",
        f"{sum(is_hit for is_hit, _ in reads) / len(reads):.0%}",
        f"{sum(seconds > SLOW_SECONDS for seconds in taken) / len(taken):.0%}",
        f"{statistics.median(taken) * 1000:.1f}",
        f"{taken[int(len(taken) * 0.99)] * 1000:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.refresh", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="a cell (%(default)s)")
    parser.add_argument("--lists", type=int, nargs="*", default=LISTS, help="how many there are")
    parser.add_argument("--writes", type=float, nargs="*", default=WRITES_PER_SECOND)
    arguments = parser.parse_args()
    servers.start()
    if "MYSQL_PORT" not in os.environ:
        sys.exit("Queries can be held up for this on MariaDB or MySQL only; install one of them.")
    from django.conf import settings
    from django.core.management import call_command

    from store.models import Product
    from tests.processes import StoreProcess
    from tests.relay import Relay

    call_command("prepare", verbosity=0)
    Product.objects.bulk_create(
        Product(name=f"product {number}", price=number) for number in range(max(LISTS))
    )
    relay = Relay(int(os.environ["MYSQL_PORT"]), PRODUCT_QUERY, lambda _: time.sleep(QUERY_SECONDS))
    store = StoreProcess(
        temporary_folder() / "store.log",
        ("--workers", str(WORKERS)),
        {"LOCAL_CACHE": "on", "MYSQL_PORT": str(relay.port), "MYSQL_TIMEOUT_SECONDS": "60"},
    )
    try:
        store.wait_until_open()
        rows = [
            row(lists, rate, measure(store.port, lists, rate, arguments.seconds))
            for lists in arguments.lists
            for rate in arguments.writes
        ]
    finally:
        store.close()
        relay.close()
    table = Table(
        title="Reads while another process writes",
        note=f"Each product query takes {QUERY_SECONDS * 1000:.0f} ms; LOCAL_CACHE_MAX_LAG is "
        f"{settings.LOCAL_CACHE_MAX_LAG * 1000:g} ms; {READERS} readers ask {WORKERS} workers.",
        headings=("lists", "writes/s", "reads", "hits", "> 50 ms", "median ms", "p99 ms"),
        rows=rows,
        text_columns=0,
    )
    print(table.as_markdown())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    print(f"\nMeasured on {today} with `make bench-refresh`.\n")
    print("\n".join(f"- {name}: {value}" for name, value in servers.describe()))


if __name__ == "__main__":
    main()
