"""freshcache's settings: the dict FRESHCACHE of Django's settings, in which everything has a default.

They are read when they are needed, never at import, so that tests can override them.
"""

from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What FRESHCACHE may hold: the same names in capitals. Times are in seconds, sizes in bytes."""

    # What the cache calls itself in the header Cache-Status.
    name: str = "freshcache"
    # How long past its lifetime the last good value may bridge an outage of its source; 0: never.
    stale_if_error_seconds: int = 3600
    # How many keys the entries of one region may have, whatever clients ask for.
    max_variants: int = 1000
    # How long a request waits for another one that loads the same.
    wait_seconds: float = 2.0
    # How long who loads may take until another process may; it is extended while the process lives.
    lease_seconds: float = 5.0
    # What one read may spend on Redis in all.
    budget_seconds: float = 0.25
    # How long connecting to Redis, and one answer of it, may take; None: a part of the budget.
    connect_seconds: float | None = None
    read_seconds: float | None = None
    # Of the pool of each process.
    max_connections: int = 50
    # Whether each process keeps entries in its own memory, and for how long after another process has
    # written it may serve what it has.
    local_cache: bool = True
    local_cache_max_lag_seconds: float = 0.1
    local_cache_max_bytes: int = 32_000_000
    # URLs of nodes, where the cache is a Redis Cluster.
    cluster_nodes: tuple[str, ...] = ()

    @property
    def connect_timeout(self) -> float:
        """For finding a free connection, and again for opening one."""
        return self.budget_seconds * 0.2 if self.connect_seconds is None else self.connect_seconds

    @property
    def read_timeout(self) -> float:
        """Twice this and some time between is less than the budget: a slow answer is asked for again."""
        return self.budget_seconds * 0.36 if self.read_seconds is None else self.read_seconds

    @property
    def command_timeout(self) -> float:
        return 2 * self.connect_timeout + self.read_timeout

    @property
    def pool_options(self) -> dict[str, Any]:
        """Short, explicit and without hidden retries: a hung Redis costs a fraction of a second."""
        return {
            "socket_connect_timeout": self.connect_timeout,
            "socket_timeout": self.read_timeout,
            "max_connections": self.max_connections,
            "timeout": self.connect_timeout,
            "retry": None,
            "retry_on_timeout": False,
            "protocol": 2,
            "driver_info": None,  # Two commands less for each new connection.
        }


# The least that makes sense.
LEAST = {
    **dict.fromkeys(("stale_if_error_seconds", "wait_seconds"), 0),
    **dict.fromkeys(("connect_seconds", "read_seconds", "budget_seconds", "lease_seconds"), 0.001),
    **dict.fromkeys(("local_cache_max_lag_seconds",), 0.001),
    **dict.fromkeys(("max_connections", "local_cache_max_bytes"), 1),
    "max_variants": 10,
}
# What a setting has to be, by the kind of its default.
KINDS: dict[type, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "True or False"),
    str: (str, "a text"),
    tuple: ((tuple, list), "a list of texts"),
}
_last: tuple[Any, Configuration] = (None, Configuration())


def current() -> Configuration:
    """Return the settings as they are now.

    Raises ImproperlyConfigured for a name that is not known, and for a value that cannot be right.
    """
    global _last  # What was checked last, so that each dict is checked once.
    given = getattr(settings, "FRESHCACHE", None)
    if given is not _last[0]:
        _last = (given, _checked(given or {}))
    return _last[1]


def _checked(given: Any) -> Configuration:
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"FRESHCACHE has to be a dict, not {given!r}.")
    known = {field.name.upper(): field for field in fields(Configuration)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(str(name).upper(), known, n=1, cutoff=0)
            raise ImproperlyConfigured(
                f"FRESHCACHE has no setting {name!r}. Did you mean {near[0]!r}?"
            )
        field = known[name]
        if not (value is None and field.default is None):
            kind = float if field.default is None else type(field.default)
            _check(name, value, kind, LEAST.get(field.name))
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return Configuration(**values)


def _check(name: str, value: Any, kind: type, least: float | None) -> None:
    kinds, words = KINDS[kind]
    is_right = isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))
    if not is_right or (least is not None and value < least):
        bound = f" of at least {least}" if least is not None else ""
        raise ImproperlyConfigured(f"FRESHCACHE[{name!r}] has to be {words}{bound}, not {value!r}.")
