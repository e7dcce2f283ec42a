"""What the cache does, counted for Prometheus where prometheus-client is installed.

Label values are a fixed few: names of regions, outcomes, results.
"""

from importlib.util import find_spec
from typing import Any

if find_spec("prometheus_client"):
    from prometheus_client import Counter, Gauge, Histogram
else:

    class NotCounted:
        """Takes what a metric takes, and counts nothing."""

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def labels(self, *_: Any) -> "NotCounted":
            return self

        def inc(self) -> None: ...

        def set(self, _value: float) -> None: ...

        def observe(self, _value: float) -> None: ...

    Counter = Gauge = Histogram = NotCounted  # type: ignore[assignment, misc]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
BYTES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000, 4_000_000, 16_000_000)

requests = Counter(
    "freshcache_requests", "Reads through the cache, by what became of them", ["region", "outcome"]
)
invalidations = Counter(
    "freshcache_invalidations", "Times a region was invalidated", ["region", "result"]
)
fill_seconds = Histogram(
    "freshcache_fill_seconds", "Time to load a value", ["region"], buckets=SECONDS
)
wait_seconds = Histogram(
    "freshcache_wait_seconds", "Time spent waiting for another's fill", ["region"], buckets=SECONDS
)
entry_bytes = Histogram(
    "freshcache_entry_bytes", "Size of stored values", ["region"], buckets=BYTES
)
late_seconds = Histogram(
    "freshcache_process_late_seconds",
    "How late the processes' own timers are: the time that they wait for a core or for their own threads",
    buckets=SECONDS,
)
redis_outage = Gauge(
    "freshcache_circuit_open",
    "Processes whose circuit breaker for Redis is open",
    multiprocess_mode="livesum",
)
