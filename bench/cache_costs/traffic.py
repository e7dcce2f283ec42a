"""Counts what something makes of Redis."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from django.conf import settings
from redis import Redis
from redis.connection import AbstractConnection

from bench.cache_costs.figures import Traffic


def traffic_of(work: Callable[[], object]) -> Traffic:
    """Return what `work()` makes of Redis: round trips, and the commands that Redis ran for it.

    redis-py sends a command, or a whole pipeline, by one call of the method that is counted here, and
    reads the replies before it sends more. A script's own commands count as Redis counts them.
    """
    round_trips = 0
    send: Any = AbstractConnection.send_packed_command

    def counting_send(self: AbstractConnection, *args: Any, **kwargs: Any) -> Any:
        nonlocal round_trips
        round_trips += 1
        return send(self, *args, **kwargs)

    with observer() as redis:
        before = _commands_run(redis)
        with patch.object(AbstractConnection, "send_packed_command", counting_send):
            work()
        after = _commands_run(redis)
    ran = {name: calls - before.get(name, 0) for name, calls in sorted(after.items())}
    return Traffic(round_trips, {name: calls for name, calls in ran.items() if calls})


@contextmanager
def observer() -> Iterator[Redis]:
    with Redis.from_url(settings.REDIS_URL, protocol=2, driver_info=None) as redis:
        redis.ping()
        yield redis


def _commands_run(redis: Redis) -> dict[str, int]:
    stats = redis.info("commandstats")
    calls = {name.removeprefix("cmdstat_").upper(): one["calls"] for name, one in stats.items()}
    calls.pop("INFO", None)  # The question itself.
    return calls
