"""Measures hits, misses and invalidations, by calling the product list in process as the view does."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache import caches

from bench.cache_costs.catalogues import open_catalogue
from bench.cache_costs.figures import Memory, RequestTimes, Traffic
from bench.cache_costs.traffic import observer, traffic_of
from freshcache import Outcome, keys
from store import catalogue
from store.product_query import ProductQuery
from store.regions import products

T = TypeVar("T")

ALL_PRODUCTS = ProductQuery()
FILLS_PER_ROUND = 5
HITS_PER_FILL = 6


class MeasurementError(Exception):
    """What was measured is not what should have been; the message says what it was."""


def request_times(name: str) -> RequestTimes:
    """Return the median microseconds of each kind of request, all kinds taking turns."""
    open_catalogue(name)
    read(Outcome.MISS)
    read_uncached()  # The connections are open, and what was loaded is in the processor's caches.
    catalogue.products_changed()
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(FILLS_PER_ROUND):
        fetched, microseconds = timed(lambda: read(Outcome.MISS))
        samples["miss"].append(microseconds)
        samples["miss_cache"].append(fetched.cache_seconds * 1e6)
        samples["miss_load"].append(fetched.load_seconds * 1e6)
        for _ in range(HITS_PER_FILL):
            samples["hit"].append(timed(lambda: read(Outcome.HIT))[1])
        samples["invalidation"].append(timed(catalogue.products_changed)[1])
        samples["uncached"].append(timed(read_uncached)[1])
    return RequestTimes(**{kind: statistics.median(values) for kind, values in samples.items()})


def read(expected: Outcome) -> Any:
    """Read the cached list, as the view does; raises MeasurementError unless it comes as expected."""
    fetched = catalogue.list_products_cached(ALL_PRODUCTS).fetched
    if fetched.outcome is not expected:
        raise MeasurementError(
            f"expected a {expected.value}, got a {fetched.outcome.value} {fetched.detail}".strip()
        )
    return fetched


def read_uncached() -> None:
    """Read the list from the database, as /store/ does."""
    catalogue.list_products(ALL_PRODUCTS)


def request_traffic(name: str) -> dict[str, Traffic]:
    """Return the traffic of each kind of request, by the name of the kind."""
    open_catalogue(name)
    read(Outcome.MISS)
    catalogue.products_changed()
    found = {
        "a miss after an invalidation": traffic_of(lambda: read(Outcome.MISS)),
        "a hit": traffic_of(lambda: read(Outcome.HIT)),
    }
    with observer() as redis:
        redis.delete(_whole_key(products.name))
        found["a miss on an expired entry"] = traffic_of(lambda: read(Outcome.MISS))
        found["an invalidation"] = traffic_of(catalogue.products_changed)
        redis.script_flush()
    found["the first miss after Redis was started"] = traffic_of(lambda: read(Outcome.MISS))
    return found


def memory(name: str) -> Memory:
    """Return the size of the list and what Redis needs for its entry and for the stale copy."""
    open_catalogue(name)
    body = read(Outcome.MISS).body
    names = keys.entry_keys(products.name)
    with observer() as redis:
        entry, stale = (
            int(redis.memory_usage(_whole_key(key)) or 0) for key in (names.entry, names.stale)
        )
    return Memory(len(body), entry, stale)


def _whole_key(name: str) -> str:
    return str(caches["default"].make_key(name))


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work()` returns, and the microseconds that it took."""
    started = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - started) * 1e6
