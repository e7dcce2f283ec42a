"""Measures what `make bench` does not: CPU of Redis and the database, and what hearing of changes costs.

It calls the store in process and reads the CPU time of each process from the kernel, so that other work
on the machine does little to the figures; what over_http.py measures it does harm.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.test import override_settings
from redis import Redis
from rich.console import Console

from bench import servers
from bench.cache_costs.traffic import observer
from bench.capacity import over_http
from bench.capacity.costs import PAGE, Cost, CostsError, Measured
from bench.strategies.site import Site
from store import catalogue, keys
from store.caching import Outcome
from store.caching.announcements import PINGS_IN_A_LAG
from store.catalogue import ProductQuery
from store.models import Product
from tests.processes import ROOT

PRODUCTS = 10_000
REDIS_DATABASES = 16
LISTENERS = 4
WARM_UP = 200
ENOUGH_VARIANTS = 1_000_000
IDLE_SECONDS = 5.0
FIRST_PAGE = ProductQuery(limit=PAGE)
US = 1e6


class Meters:
    """The CPU time so far of this process, of Redis, of the database and of the listeners."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._database = psutil.Process(_pid_of_database())
        self.listeners: list[psutil.Process] = []

    def read(self) -> dict[str, float]:
        now = self._redis.info()
        database = self._database.cpu_times()
        listening = [one.cpu_times() for one in self.listeners]
        return {
            "clock": time.monotonic(),
            "web": time.process_time(),
            "redis": now["used_cpu_user"] + now["used_cpu_sys"],
            "database": database.user + database.system,
            "bytes": now["total_net_output_bytes"],
            "listeners": sum(one.user + one.system for one in listening),
        }

    @contextmanager
    def measure(self) -> Iterator[dict[str, float]]:
        """Fill the dictionary with what the body has taken of each."""
        before, taken = self.read(), {}
        yield taken
        taken |= {name: value - before[name] for name, value in self.read().items()}


def measure_all(rounds: int, turns: int, seconds: float) -> dict[str, Any]:
    """Measure with `rounds` of each, and rates in `turns` of `seconds`; returns what costs.json holds."""
    variants = settings.CACHE_MAX_VARIANTS
    # No page puts another one out.
    with override_settings(CACHE_MAX_VARIANTS=ENOUGH_VARIANTS), ExitStack() as cleanup:
        site = Site(cleanup, REDIS_DATABASES)
        return _measure_all(site, rounds, turns, seconds, variants)


def _measure_all(
    site: Site, rounds: int, turns: int, seconds: float, variants: int
) -> dict[str, Any]:
    say = Console(stderr=True).print
    if not settings.MYSQL_HOST:
        raise CostsError("MariaDB or MySQL is needed: SQLite's time is part of the store's")
    say(f"Making {PRODUCTS:,} products")
    place = site.place(PRODUCTS)
    with observer() as redis:
        meters = Meters(redis)
        work: dict[str, Callable[[int], object]] = {"hit": _hit, "fill": _fill, "write": _write}
        costs = {}
        for name, one in work.items():
            say(f"Measuring each {name}")
            costs[name] = _cost_of(one, meters, rounds)
        say(f"Measuring what it costs {LISTENERS} processes to hear of it")
        listening, hearing = _hearing(meters, rounds, costs["fill"])
        entry_bytes, page_bytes = _memory(redis)
    say("Counting connections")
    redis_connections, database_connections = over_http.connections(place)
    measured = Measured(
        **costs,
        listening=listening,
        hearing=hearing,
        entry_bytes=entry_bytes,
        page_bytes=page_bytes,
        redis_connections=redis_connections,
        database_connections=database_connections,
        copies_bytes=settings.LOCAL_CACHE_MAX_BYTES,
        variants=variants,
        ttl_seconds=settings.CACHE_TTL,
        cores=os.cpu_count() or 1,
        rates=over_http.rates(place, turns, seconds, say),
    )
    return {
        "machine": servers.describe(),
        "rounds": rounds,
        "pings_a_second": PINGS_IN_A_LAG / settings.LOCAL_CACHE_MAX_LAG,
        **asdict(measured),
    }


def _cost_of(work: Callable[[int], object], meters: Meters, rounds: int) -> Cost:
    for number in range(WARM_UP):
        work(-number - 1)
    with meters.measure() as taken:
        for number in range(rounds):
            work(number)
    return _per(taken, rounds)


def _per(taken: dict[str, float], count: float) -> Cost:
    return Cost(
        web_us=taken["web"] * US / count,
        redis_us=taken["redis"] * US / count,
        database_us=taken["database"] * US / count,
        redis_bytes=taken["bytes"] / count,
    )


def _hit(_number: int) -> None:
    fetched = catalogue.list_products_cached(FIRST_PAGE).fetched
    assert fetched.outcome in (Outcome.HIT, Outcome.FILLED), fetched


def _fill(number: int) -> None:
    """Ask for a page that nobody has asked for, by a price that hardly any product is below."""
    query = ProductQuery(limit=PAGE, min_price=number)
    fetched = catalogue.list_products_cached(query).fetched
    assert fetched.outcome is Outcome.FILLED, fetched


def _write(number: int) -> None:
    pk = _first_product() + number % PRODUCTS
    assert Product.objects.filter(pk=pk).update(price=number % 1000) == 1, pk


@cache
def _first_product() -> int:
    return Product.objects.order_by("pk")[0].pk


def _hearing(meters: Meters, rounds: int, alone: Cost) -> tuple[Cost, Cost]:
    """Return what a process takes a second to listen, and to hear of a fill of another process."""
    with meters.measure() as silence:
        time.sleep(IDLE_SECONDS)
    processes = [_start_listener() for _ in range(LISTENERS)]
    try:
        meters.listeners = [psutil.Process(one.pid) for one in processes]
        for one in processes:
            assert one.stdout
            one.stdout.readline()
        time.sleep(IDLE_SECONDS)
        with meters.measure() as idle:
            time.sleep(IDLE_SECONDS)
        with meters.measure() as busy:
            for number in range(rounds):
                _fill(rounds + number)
    finally:
        meters.listeners = []
        for one in processes:
            one.kill()
            one.communicate()
    a_second = {
        "web": idle["listeners"] / idle["clock"],
        "redis": idle["redis"] / idle["clock"] - silence["redis"] / silence["clock"],
        "bytes": idle["bytes"] / idle["clock"],
        "database": 0.0,
    }
    heard = {
        "web": busy["listeners"] - a_second["web"] * busy["clock"],
        "redis": busy["redis"] - a_second["redis"] * busy["clock"] - alone.redis_us * rounds / US,
        "bytes": busy["bytes"] - a_second["bytes"] * busy["clock"] - alone.redis_bytes * rounds,
        "database": 0.0,
    }
    heard = {name: max(0.0, value) for name, value in heard.items()}
    return _per(a_second, LISTENERS), _per(heard, LISTENERS * rounds)


def _start_listener() -> "subprocess.Popen[bytes]":
    variables = {
        "LOCAL_CACHE": "on",
        "CACHE_MAX_VARIANTS": str(ENOUGH_VARIANTS),
        "MYSQL_NAME": connection.settings_dict["NAME"],
    }
    command = [sys.executable, "-m", "bench.capacity.listener"]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE)


def _memory(redis: Redis) -> tuple[int, int]:
    """Return what Redis needs for a page and its stale copy, and how long a page is."""
    catalogue.products_changed()
    body = catalogue.list_products_cached(FIRST_PAGE).fetched.body
    slot = keys.entry_keys(keys.PRODUCT_LIST, FIRST_PAGE.normalised(), settings.CACHE_MAX_VARIANTS)
    whole = [str(caches["default"].make_key(name)) for name in (slot.entry, slot.stale)]
    return sum(int(redis.memory_usage(name) or 0) for name in whole), len(body)


def _pid_of_database() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@pid_file")
        return int(Path(cursor.fetchone()[0]).read_text())
