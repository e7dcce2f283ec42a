"""A cache for Django that is never wrong and never falls over.

    # <app>/regions.py, which freshcache finds by itself in every process
    products = Region("product", depends_on=[Product], ttl=600)

    result = products.get_or_load(key, load)  # from the cache, or from load(), which returns bytes
    products.invalidate()                     # only after writes that bypass Django

README.md has the settings, and what holds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freshcache.circuit_breaker import Unavailable
    from freshcache.region import Region
    from freshcache.result import Outcome, Result
    from freshcache.source import is_loading

__all__ = ["Outcome", "Region", "Result", "Unavailable", "is_loading"]

# Imported when it is asked for, as a project's settings may need other modules of this package before
# they are complete.
_MODULES = {
    "Outcome": "result",
    "Region": "region",
    "Result": "result",
    "Unavailable": "circuit_breaker",
    "is_loading": "source",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
