"""gunicorn's configuration for a store that fills its cache from replicas, which is wrong.

What tests that look for lists older than an acknowledged write have to find.
"""

from pathlib import Path
from typing import Any

exec(Path("gunicorn.conf.py").read_text())  # All that the project's own says.
_initialise = post_worker_init  # noqa: F821


def post_worker_init(worker: Any) -> None:
    from store import catalogue, replicas

    _initialise(worker)
    read = catalogue._read

    def from_replica(query: catalogue.ProductQuery) -> bytes:
        with replicas.late():
            return replicas.read(lambda: read(query))

    catalogue._read = from_replica
