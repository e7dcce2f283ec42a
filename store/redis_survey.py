"""What a Redis server is doing and what it holds, for operators.

INFO, SLOWLOG GET, and SCAN with MEMORY USAGE, TYPE and PTTL in batches; never KEYS, which would hold the
server up.
What the ACL does not permit is NOT_PERMITTED. Raises RedisError if the server cannot be reached.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.conf import settings
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from freshcache.redis import budget as redis_budget
from freshcache.redis import cluster
from freshcache.redis.pool import make_pool
from freshcache.redis.urls import split

T = TypeVar("T")
CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
BATCH_KEYS = 500
# Of more keys of a family the rest is estimated from these: an asked key costs some 2 us of the server.
MEASURED_KEYS = 1000
SLOW_COMMANDS = 10
WITHOUT_END, GONE = -1, -2  # What PTTL says instead of a time.
ALL, CACHE, QUEUE = "cache and all else", "cache", "queue"
OTHERS = "(not the store's)"
NOT_PERMITTED = "not permitted"


@dataclass(frozen=True)
class Server:
    """One of the store's Redis servers."""

    name: str  # what of the store it is for: ALL, CACHE or QUEUE
    url: str

    @property
    def address(self) -> str:
        """Where it is, without who signs in there."""
        parts = split(self.url)
        return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass
class Family:
    """The keys of one family, and what those that were measured have in common."""

    keys: int = 0
    measured: int = 0
    measured_bytes: int = 0
    types: set[str] = field(default_factory=set)
    shortest_ms: int | None = None  # that a key has left to live; None if none has an end
    longest_ms: int | None = None
    has_lasting: bool = False  # keys without an end

    @property
    def is_estimate(self) -> bool:
        return self.measured < self.keys

    @property
    def bytes(self) -> int | None:
        """What all keys take, in proportion to the measured ones; None if none could be."""
        return round(self.measured_bytes / self.measured * self.keys) if self.measured else None

    def add(self, size: Any, key_type: Any, ttl_ms: Any) -> None:
        """Note what a key said of itself; what was not permitted is an exception."""
        if isinstance(size, int):  # Neither gone meanwhile nor refused.
            self.measured += 1
            self.measured_bytes += size
        if isinstance(key_type, bytes) and key_type != b"none":
            self.types.add(key_type.decode())
        if not isinstance(ttl_ms, int) or ttl_ms == GONE:
            return
        if ttl_ms == WITHOUT_END:
            self.has_lasting = True
            return
        self.shortest_ms = ttl_ms if self.shortest_ms is None else min(self.shortest_ms, ttl_ms)
        self.longest_ms = max(self.longest_ms or 0, ttl_ms)


@dataclass(frozen=True)
class SlowCommand:
    """A command that took long; of its arguments only whose keys they name, as they may be secrets."""

    microseconds: int
    began: int  # seconds since 1970
    command: str
    families: list[str] = field(default_factory=list)


def servers() -> list[Server]:
    """Return the store's servers: one for all, or a second one for what must not be evicted.

    Of a cluster each primary, or, if none can tell which there are, those that REDIS_URL names.
    """
    if settings.REDIS_CLUSTER_NODES:
        try:
            urls = cluster.primary_urls()
        except RedisError:
            urls = settings.REDIS_CLUSTER_NODES
        return [*(Server(CACHE, url) for url in urls), Server(QUEUE, settings.QUEUE_REDIS_URL)]
    if settings.QUEUE_REDIS_URL == settings.REDIS_URL:
        return [Server(ALL, settings.REDIS_URL)]
    return [Server(CACHE, settings.REDIS_URL), Server(QUEUE, settings.QUEUE_REDIS_URL)]


def connect(
    url: str, connect_seconds: float = CONNECT_SECONDS, read_seconds: float = READ_SECONDS
) -> Redis:
    """Return a client with an operator's patience; redis-py's own would try ten times."""
    patience = {"socket_connect_timeout": connect_seconds, "socket_timeout": read_seconds}
    return Redis.from_pool(make_pool(url, **patience))


def info(redis: Redis) -> dict[str, Any] | None:
    """Return what INFO says, or None if it is not permitted."""
    return _if_permitted(lambda: dict(redis.info()))


def slow_commands(redis: Redis) -> list[SlowCommand] | None:
    """Return the latest of the slow log, or None if it is not permitted."""
    found = _if_permitted(lambda: list(redis.slowlog_get(SLOW_COMMANDS)))
    return None if found is None else [_slow_command(entry) for entry in found]


def families(
    redis: Redis, most_keys: int | None = None, measured_keys: int = MEASURED_KEYS
) -> dict[str, Family] | None:
    """Return the families in the server's logical database by name, or None if it is not permitted.

    Of more than `most_keys`, or than a request has time for, only some are looked at, and numbers are
    in proportion; SCAN's order has nothing to do with names, but a family of few keys may be missed. A
    key that moves while SCAN goes on may be counted twice.
    """
    return _if_permitted(lambda: _families(redis, most_keys, measured_keys))


def family_of(key: str) -> str:
    """Return the family of a key: after PROJECT_NAME, and Django's version, comes its name.

    The keys of RQ begin with its own name.
    """
    first, *rest = key.split(":")
    if first == "rq":
        return first
    if first != settings.PROJECT_NAME or not rest:
        return OTHERS
    # In a cluster the family of what is cached is in braces; see `freshcache.redis.cluster.tagged_key`.
    return next((part.strip("{}") for part in rest if not part.isdecimal()), OTHERS)


def _families(redis: Redis, most_keys: int | None, measured_keys: int) -> dict[str, Family]:
    found: dict[str, Family] = {}
    seen, is_whole = 0, True
    for batch in _batches(redis):
        if seen and most_keys is not None and (seen >= most_keys or not redis_budget.has_room()):
            is_whole = False
            break
        seen += len(batch)
        to_measure, may_measure = [], redis_budget.has_room()
        for key in batch:
            family = found.setdefault(family_of(key), Family())
            family.keys += 1
            if may_measure and family.keys <= measured_keys and family_of(key) != OTHERS:
                to_measure.append(key)
        for key, answers in zip(to_measure, _measure(redis, to_measure), strict=True):
            found[family_of(key)].add(*answers)
    if not is_whole:
        share = max(1.0, int(redis.dbsize()) / seen)
        for family in found.values():
            family.keys = round(family.keys * share)
    return dict(sorted(found.items()))


def _slow_command(entry: dict[str, Any]) -> SlowCommand:
    name, *arguments = entry["command"].decode("utf-8", "replace").split()
    families = {family_of(argument) for argument in arguments} - {OTHERS}
    return SlowCommand(entry["duration"], entry["start_time"], name, sorted(families))


def _batches(redis: Any) -> Iterator[list[str]]:
    cursor = 0
    while True:
        cursor, found = redis.scan(cursor, count=BATCH_KEYS)
        yield [key.decode("utf-8", "replace") for key in found]
        if not cursor:
            return


def _measure(redis: Redis, keys: list[str]) -> list[tuple[Any, Any, Any]]:
    """Return the size, the type and the time left of each key, or the errors instead of them."""
    if not keys:
        return []
    with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.memory_usage(key)
            pipeline.type(key)
            pipeline.pttl(key)
        answers = pipeline.execute(raise_on_error=False)
    return list(zip(answers[::3], answers[1::3], answers[2::3], strict=True))


def _if_permitted(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except NoPermissionError:
        return None
    except ResponseError as error:  # A managed Redis does not know commands that it has renamed.
        if "unknown command" in str(error):
            return None
        raise
