"""What the cache does, counted for Prometheus; label values are a fixed few.

With gunicorn each worker counts in files of its slot (see gunicorn.conf.py), which /metrics adds up.
"""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
BYTES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000, 4_000_000, 16_000_000)

requests = Counter(
    "store_cache_requests", "Reads through the cache, by what became of them", ["family", "outcome"]
)
invalidations = Counter(
    "store_cache_invalidations", "Times a family was forgotten", ["family", "result"]
)
fill_seconds = Histogram(
    "store_cache_fill_seconds", "Time to load a value", ["family"], buckets=SECONDS
)
wait_seconds = Histogram(
    "store_cache_wait_seconds", "Time spent waiting for another's fill", ["family"], buckets=SECONDS
)
entry_bytes = Histogram(
    "store_cache_entry_bytes", "Size of stored values", ["family"], buckets=BYTES
)
late_seconds = Histogram(
    "store_process_late_seconds",
    "How late the processes' own timers are: the time that they wait for a core or for their own threads",
    buckets=SECONDS,
)
redis_outage = Gauge(
    "store_redis_outage", "Processes that leave Redis alone", multiprocess_mode="livesum"
)
