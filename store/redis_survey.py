"""What a Redis server is doing and what it holds, for operators.

INFO, SLOWLOG GET, and SCAN with MEMORY USAGE in batches; never KEYS, which would hold the server up.
What the ACL does not permit is NOT_PERMITTED. Raises RedisError if the server cannot be reached.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.conf import settings
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

T = TypeVar("T")
CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
BATCH_KEYS = 500
# Of more keys of a family the memory is estimated from these: an asked key costs some 2 us of the server.
MEASURED_KEYS = 1000
SLOW_COMMANDS = 10
OTHERS = "(not the store's)"
NOT_PERMITTED = "not permitted"


@dataclass
class Family:
    """The keys of one family, and the memory of those that were measured."""

    keys: int = 0
    measured: int = 0
    measured_bytes: int = 0

    @property
    def is_estimate(self) -> bool:
        return self.measured < self.keys

    @property
    def bytes(self) -> int | None:
        """What all keys take, in proportion to the measured ones; None if none could be."""
        return round(self.measured_bytes / self.measured * self.keys) if self.measured else None


@dataclass(frozen=True)
class SlowCommand:
    """A command that took long; of its arguments only whose keys they name, as they may be secrets."""

    microseconds: int
    began: int  # seconds since 1970
    command: str
    families: list[str] = field(default_factory=list)


def connect(url: str) -> Redis:
    """Return a client with an operator's patience; redis-py's own would try ten times."""
    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=READ_SECONDS,
        protocol=2,
        driver_info=None,
    )


def info(redis: Redis) -> dict[str, Any] | None:
    """Return what INFO says, or None if it is not permitted."""
    return _if_permitted(lambda: dict(redis.info()))


def slow_commands(redis: Redis) -> list[SlowCommand] | None:
    """Return the latest of the slow log, or None if it is not permitted."""
    found = _if_permitted(lambda: list(redis.slowlog_get(SLOW_COMMANDS)))
    return None if found is None else [_slow_command(entry) for entry in found]


def families(redis: Redis) -> dict[str, Family] | None:
    """Return the families in the server's logical database by name, or None if it is not permitted.

    A key that moves while SCAN goes on may be counted twice.
    """
    return _if_permitted(lambda: _families(redis))


def family_of(key: str) -> str:
    """Return the family of a key: after PROJECT_NAME, and Django's version, comes its name.

    The keys of RQ begin with its own name.
    """
    first, *rest = key.split(":")
    if first == "rq":
        return first
    if first != settings.PROJECT_NAME or not rest:
        return OTHERS
    return next((part for part in rest if not part.isdecimal()), OTHERS)


def _families(redis: Redis) -> dict[str, Family]:
    found: dict[str, Family] = {}
    for batch in _batches(redis):
        to_measure = []
        for key in batch:
            family = found.setdefault(family_of(key), Family())
            family.keys += 1
            if family.keys <= MEASURED_KEYS and family_of(key) != OTHERS:
                to_measure.append(key)
        for key, size in zip(to_measure, _memory(redis, to_measure), strict=True):
            if isinstance(size, int):  # Neither gone meanwhile nor refused.
                found[family_of(key)].measured += 1
                found[family_of(key)].measured_bytes += size
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


def _memory(redis: Redis, keys: list[str]) -> list[Any]:
    if not keys:
        return []
    with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.memory_usage(key)
        return pipeline.execute(raise_on_error=False)


def _if_permitted(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except NoPermissionError:
        return None
    except ResponseError as error:  # A managed Redis does not know commands that it has renamed.
        if "unknown command" in str(error):
            return None
        raise
