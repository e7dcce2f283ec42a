"""Measures the store as it runs, over HTTP: how much it serves, and how many connections it keeps.

From the CPU that one process takes the model is worked out; against what several serve it is held.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from statistics import median
from urllib.parse import urlsplit

import psutil
from django.conf import settings
from django.db import connection
from redis import Redis

from bench.capacity.costs import PAGE, Rate
from bench.strategies.load import load
from bench.strategies.processes import PATIENCE_SECONDS, Place, Server
from bench.strategies.rows import Row
from store.models import Product
from tests.visitors import CSRF_TOKEN

WORKERS = (1, 2, 4)
HIT_RATIOS = (1.0, 0.9, 0.0)
CONNECTIONS = 16  # so many that each worker has its share of them
ENOUGH_VARIANTS = "1000000"
PATH = f"/store/cached/?limit={PAGE}"
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
PAUSE_SECONDS = 1.5  # of Redis: for as long, whoever needs it keeps a connection
PAUSES = 3  # In one of them all threads need it at the same time.
# A pause is no outage, and so many writes of one visitor are meant.
PATIENT = {"CACHE_BUDGET_SECONDS": "60", "THROTTLE_WRITES": "1000/min"}
_prices = itertools.count(1_000_000)


def rates(place: Place, rounds: int, seconds: float, say: Callable[[str], None]) -> list[Rate]:
    """Measure what a store without copies serves, from some workers and with some hit ratios."""
    variables = {"LOCAL_CACHE": "off", "CACHE_MAX_VARIANTS": ENOUGH_VARIANTS}
    found = []
    for workers in WORKERS:
        say(f"Loading {workers} workers")
        with _store(place, workers, variables) as store:
            for ratio in HIT_RATIOS:
                turns = [_turn(store, place, ratio, seconds) for _ in range(rounds)]
                a_second, web_us, client_us, others = zip(*turns, strict=True)
                medians = (median(values) for values in (web_us, client_us, others))
                found.append(Rate(workers, ratio, list(a_second), *medians))
    return found


def _turn(
    store: Server, place: Place, hit_ratio: float, seconds: float
) -> tuple[float, float, float, float]:
    """Return requests a second, microseconds of CPU for each (the store's, who asks), others' cores."""
    with Redis.from_url(place.redis_url) as redis:
        redis.flushdb()  # Pages may be asked for again for the first time.
    store.get(PATH)
    headers = {"Accept": "application/json"}
    began, others, web = time.monotonic(), _seconds_of_others(), store.cpu_seconds()
    done = load(store.url + PATH, seconds, headers, CONNECTIONS, f"{1 - hit_ratio:g}")
    others = _seconds_of_others() - others - done.client_seconds
    others_cores = others / (time.monotonic() - began)
    web_us = (store.cpu_seconds() - web) / done.requests * 1e6
    client_us = done.client_seconds / done.requests * 1e6
    return done.requests_a_second, web_us, client_us, others_cores


def _seconds_of_others() -> float:
    """Return the CPU time so far of all but this process and those of its descendants that still run."""
    whole, own = psutil.cpu_times(), psutil.Process()
    ours = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    busy = sum(getattr(whole, name, 0.0) for name in BUSY)
    return busy - sum(one.user + one.system for one in ours)


def connections(place: Place) -> tuple[int, int]:
    """Return how many connections to Redis and to the database a process keeps, once it needed many.

    More requests than it has threads come while Redis pauses, so that each thread takes a connection of
    its own: from the cache's pool, then from the pool of what is no cache. Then somebody follows events.
    """
    with _store(place, 1, PATIENT) as store, Redis.from_url(place.redis_url) as redis:
        (worker,) = store.workers()
        count = 2 * settings.EVENTS_MAX_CLIENTS
        product = Product.objects.order_by("pk")[0].pk
        with ThreadPoolExecutor(count) as pool:
            for ask in (_ask_for_a_list, partial(_fill_a_basket, product)) * PAUSES:
                redis.client_pause(int(PAUSE_SECONDS * 1000))
                statuses = set(pool.map(ask, [store] * count))
                assert statuses <= {200, 201}, statuses
        of_database = _connections_to(int(connection.settings_dict["PORT"]), worker)
        with closing(HTTPConnection("127.0.0.1", store.port, timeout=PATIENCE_SECONDS)) as stream:
            stream.request("GET", "/store/events/")
            stream.getresponse().read(1)
            return _connections_to(urlsplit(place.redis_url).port or 6379, worker), of_database


def _ask_for_a_list(store: Server) -> int:
    return store.get(f"{PATH}&max_price={next(_prices)}").status


def _fill_a_basket(product: int, store: Server) -> int:
    headers = {
        "Cookie": f"csrftoken={CSRF_TOKEN}",
        "X-CSRFToken": CSRF_TOKEN,
        "Content-Type": "application/json",
    }
    with closing(HTTPConnection("127.0.0.1", store.port, timeout=PATIENCE_SECONDS)) as asker:
        asker.request("PUT", f"/store/basket/{product}/", '{"quantity": 1}', headers)
        return asker.getresponse().status


def _connections_to(port: int, process: psutil.Process) -> int:
    return sum(bool(one.raddr) and one.raddr.port == port for one in process.net_connections())


@contextmanager
def _store(place: Place, workers: int, variables: dict[str, str]) -> Iterator[Server]:
    """Open a store with gunicorn.conf.py's own options."""
    with closing(Server(Row("store", "", PATH, variables), place, workers, ())) as server:
        yield server.wait_until_open()
