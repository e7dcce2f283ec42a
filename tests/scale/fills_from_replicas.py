"""gunicorn's configuration for a store that fills its cache from replicas, which is wrong.

What tests that look for lists older than an acknowledged write have to find.
"""

from pathlib import Path
from typing import Any

exec(Path("gunicorn.conf.py").read_text())  # All that the project's own says.
_initialise = post_worker_init  # noqa: F821


def post_worker_init(worker: Any) -> None:
    from freshcache import source
    from store import catalogue, replicas
    from store.product_query import ProductQuery

    _initialise(worker)
    read = catalogue.read_as_json

    def from_replica(query: ProductQuery) -> bytes:
        token = source._is_loading.set(False)
        try:
            with replicas.late():
                return replicas.read(lambda: read(query))
        finally:
            source._is_loading.reset(token)

    catalogue.read_as_json = from_replica
