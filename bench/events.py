"""Measure how long it takes from the commit of a change to the clients of /store/events/.

It starts a Redis, a database and a store of its own, with as many streams open as its workers have
room for, and changes a product again and again.
"""

import argparse
import statistics
import time

from rich.console import Console
from rich.table import Table

from bench import servers
from tests.servers import temporary_folder

WORKERS = 2
PAUSE_SECONDS = 0.01  # Between two writes, so that each is measured by itself.


def measure(port: int, *, clients: int, writes: int) -> list[float]:
    """Return the milliseconds of each of `writes` to each of `clients` of the store at `port`.

    They are counted from before `save()`, and so include the write and its commit.
    """
    from store.models import Product
    from tests.listeners import listening

    product = Product.objects.create(name="measured", price=0)
    started: dict[int, float] = {}
    with listening(port, clients) as listeners:
        for price in range(1, writes + 1):
            product.price = price
            started[price] = time.time()
            product.save()
            time.sleep(PAUSE_SECONDS)
        delays = [
            (one.at - started[one.data["price"]]) * 1000
            for listener in listeners
            for one in listener.until(lambda one: one.data["price"] == writes)
            if one.data["price"] in started
        ]
    product.delete()
    return delays


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.events", description=__doc__)
    parser.add_argument("--writes", type=int, default=500, help="how many (%(default)s)")
    arguments = parser.parse_args()
    servers.start()
    from django.conf import settings
    from django.core.management import call_command

    from tests.processes import StoreProcess

    call_command("prepare", verbosity=0)
    clients = WORKERS * settings.EVENTS_MAX_CLIENTS
    room = {"EVENTS_MAX_PER_ADDRESS": str(settings.EVENTS_MAX_CLIENTS)}
    store = StoreProcess(temporary_folder() / "store.log", ("--workers", str(WORKERS)), room)
    try:
        store.wait_until_open()
        delays = measure(store.port, clients=clients, writes=arguments.writes)
    finally:
        store.close()
    console = Console()
    for name, value in servers.describe():
        console.print(f"{name}: {value}")
    console.print(table(delays, clients, arguments.writes))


def table(delays: list[float], clients: int, writes: int) -> Table:
    """Lay out medians and tails in milliseconds."""
    result = Table(
        title=f"{writes} changes, each to {clients} clients; ms from save() to the client"
    )
    cuts = statistics.quantiles(delays, n=100, method="inclusive")
    figures = {"median": cuts[49], "p95": cuts[94], "p99": cuts[98], "longest": max(delays)}
    for name in figures:
        result.add_column(name, justify="right")
    result.add_row(*(f"{figure:.1f}" for figure in figures.values()))
    return result


if __name__ == "__main__":
    main()
