"""What `store.metrics` has counted, added up over gunicorn's workers.

Each worker counts in files of its slot, under PROMETHEUS_MULTIPROC_DIR; without that, as in a command or
a test, there is this process alone.
"""

import os
import struct
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from freshcache.result import Outcome

T = TypeVar("T")
STARTING_SECONDS = 0.1  # Longer than a worker takes from making its file to filling it.
# Reads that found a value in the cache, as Result.from_cache has it.
FROM_CACHE = (Outcome.HIT, Outcome.COALESCED, Outcome.STALE)


@dataclass(frozen=True)
class CacheTotals:
    """What the cache has done since the store was opened, and what it is doing."""

    reads: int
    from_cache: int
    fills: int
    fill_seconds: float  # all fills together
    waits: int  # reads that waited for another's fill
    invalidations: int
    processes_without_redis: int
    event_clients: int

    @property
    def hit_ratio(self) -> float | None:
        return self.from_cache / self.reads if self.reads else None

    @property
    def mean_fill_seconds(self) -> float | None:
        return self.fill_seconds / self.fills if self.fills else None


class NotThere(Exception):
    """The folder that the workers count in is gone, or a file of it is."""


def read(use: Callable[[CollectorRegistry], T]) -> T:
    """Return what `use` makes of the registry that has all workers' samples; raises NotThere."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return use(REGISTRY)
    registry = CollectorRegistry()
    try:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        try:
            return use(registry)
        except struct.error:  # A worker that starts is just making its file, empty at first.
            time.sleep(STARTING_SECONDS)
            return use(registry)
    except (OSError, ValueError, struct.error) as error:
        raise NotThere("what the workers have counted has been removed") from error


def of_cache() -> CacheTotals:
    """Return what the cache has done, over all families; nothing if that is not there."""
    try:
        sums, outcomes = read(_sums)
    except NotThere:
        sums, outcomes = defaultdict(float), defaultdict(float)
    return CacheTotals(
        reads=int(sums["freshcache_requests_total"]),
        from_cache=int(sum(outcomes[outcome.value] for outcome in FROM_CACHE)),
        fills=int(sums["freshcache_fill_seconds_count"]),
        fill_seconds=sums["freshcache_fill_seconds_sum"],
        waits=int(sums["freshcache_wait_seconds_count"]),
        invalidations=int(sums["freshcache_invalidations_total"]),
        processes_without_redis=int(sums["freshcache_circuit_open"]),
        event_clients=int(sums["store_event_streams"]),
    )


def _sums(registry: CollectorRegistry) -> tuple[dict[str, float], dict[str, float]]:
    """Return the sums of all samples by name, and the reads through the cache by outcome."""
    sums: dict[str, float] = defaultdict(float)
    outcomes: dict[str, float] = defaultdict(float)
    for metric in registry.collect():
        for sample in metric.samples:
            sums[sample.name] += sample.value
            if sample.name == "freshcache_requests_total":
                outcomes[sample.labels["outcome"]] += sample.value
    return sums, outcomes
