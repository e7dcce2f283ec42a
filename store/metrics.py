"""What the store does beside its cache, counted for Prometheus; label values are a fixed few.

With gunicorn each worker counts in files of its slot (see gunicorn.conf.py), which /metrics adds up.
"""

from prometheus_client import Counter, Gauge

late_reads = Counter(
    "store_late_reads", "Reads that may be late, by which database answered", ["database"]
)
event_streams = Gauge(
    "store_event_streams", "Clients that listen to /store/events/", multiprocess_mode="livesum"
)
event_streams_dropped = Counter(
    "store_event_streams_dropped",
    "Clients of /store/events/ that did not read (slow), or for whom there was no room (full)",
    ["reason"],
)
