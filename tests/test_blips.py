"""Redis stalls, loses a connection or refuses one command: that is an outage for nobody."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from mirakuru import TCPExecutor
from redis import Redis

from freshcache import keys, runtime
from freshcache.cache import Cache
from freshcache.outage import Outage
from freshcache.redis.entries import RedisEntries
from freshcache.result import Item, Limits, Outcome, Result
from tests.configuration import configure
from tests.line import Line
from tests.servers import free_port, start_redis
from tests.waiting import wait_for

READ_SECONDS = 1.0
STALL_SECONDS = (
    1.2  # One answer comes too late, the next one does not, if the machine is slow as well.
)
LIMITS = Limits(2, 5, budget_seconds=60, command_seconds=0.1)
ITEM = Item("product", "", keys.entry_keys("product"), 600, 600)


@pytest.fixture(scope="module")
def server() -> Iterator[TCPExecutor]:
    executor = start_redis(free_port())
    yield executor
    executor.kill()


@pytest.fixture
def redis(server: TCPExecutor) -> Iterator[Redis]:
    """The server itself, beside the line."""
    with Redis(port=server.port) as client:
        client.flushall()
        yield client


@pytest.fixture
def line(server: TCPExecutor, settings: Any) -> Iterator[Line]:
    made = Line(server.port)
    configure(settings, READ_SECONDS=READ_SECONDS)
    settings.REDIS_URL = f"redis://127.0.0.1:{made.port}/0"
    settings.CACHES = {
        **settings.CACHES,
        "default": {**settings.CACHES["default"], "LOCATION": settings.REDIS_URL},
    }
    yield made
    made.close()


@pytest.fixture
def cache(line: Line, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """One process, whose outages end when a test has them end, with an entry in Redis."""
    monkeypatch.setattr("freshcache.outage.RETRY_SECONDS", 60.0)
    monkeypatch.setattr("freshcache.process_clock.LATE_PART", 1.0)
    entries, families = RedisEntries(), ["product"]
    outage = Outage(
        lambda: entries.forget("product"),
        lambda: entries.renew(families),
        entries.delete,
        lambda: entries.prove(families),
        runtime.location,
    )
    made = Cache(entries, outage)
    assert fetch(made, b"old").outcome is Outcome.MISS
    return made


def fetch(cache: Cache, value: bytes, limits: Limits = LIMITS) -> Result:
    return cache.fetch(ITEM, lambda: value, limits)


def stall(line: Line) -> None:
    line.go_dead()
    threading.Timer(STALL_SECONDS, line.mend).start()


def generation(redis: Redis) -> bytes | None:
    return redis.get(f"{settings.PROJECT_NAME}:{keys.UNVERSIONED}:product:generation")


# --- No outage --------------------------------------------------------------------------------------


def test_a_short_stall_is_waited_for_and_leaves_what_is_cached(cache, line, redis):
    before = generation(redis)
    stall(line)
    assert fetch(cache, b"new").outcome is Outcome.HIT
    assert not cache.outage.is_open
    assert generation(redis) == before


def test_a_write_during_a_short_stall_is_announced(cache, line, redis):
    stall(line)
    cache.forget("product")
    assert not cache.outage.is_open
    assert generation(redis) is None


def test_a_fill_during_a_short_stall_waits_for_no_claim_of_its_own(cache, line, redis):
    cache.forget("product")
    began = time.monotonic()
    assert cache.entries.make_generation(ITEM.names)
    real = cache.entries.claim

    def claim_while_it_stalls(*arguments: Any, **options: Any) -> Any:
        cache.entries.claim = real  # type: ignore[method-assign]
        real(*arguments, **options)  # carried out, and its answer lost
        return real(*arguments, **options)

    cache.entries.claim = claim_while_it_stalls  # type: ignore[method-assign]
    assert fetch(cache, b"new").outcome is Outcome.MISS
    assert time.monotonic() - began < LIMITS.wait_seconds


def test_a_lost_connection_is_no_outage(cache, redis):
    for _ in range(3):
        redis.client_kill_filter(_type="normal", skipme=True)
        assert fetch(cache, b"new").outcome is Outcome.HIT
    assert not cache.outage.is_open


@pytest.mark.parametrize("refused", ["-@scripting", "-pttl", "-watch"])
def test_a_command_that_is_refused_is_no_outage(refused, cache, redis, caplog):
    cache.forget("product")
    redis.execute_command("ACL", "SETUSER", "default", refused)
    try:
        for _ in range(2):
            found = fetch(cache, b"new")
            assert (found.outcome, found.body) == (Outcome.BYPASS, b"new")
        assert not cache.outage.is_open
        assert len(caplog.records) == 1
        assert "NoPermissionError" in caplog.text
    finally:
        redis.execute_command("ACL", "SETUSER", "default", "+@all")
    assert fetch(cache, b"new").outcome is Outcome.MISS


def test_without_time_for_another_try_it_takes_two_that_follow_each_other(cache, line):
    hurried = Limits(2, 5, budget_seconds=0.3, command_seconds=0.1, retry_seconds=0.2)
    line.go_dead()
    assert fetch(cache, b"new", hurried).detail == "cache-slow"
    assert not cache.outage.is_open
    assert fetch(cache, b"new", hurried).detail == "cache-down"
    line.mend()


# --- Outages ----------------------------------------------------------------------------------------


def down(cache: Cache, line: Line) -> None:
    line.go_dead()
    assert fetch(cache, b"new").detail == "cache-down"
    assert cache.outage.is_open
    line.mend()


def test_after_an_outage_nothing_from_before_it_is_served(cache, line, redis):
    """Another process may have lost a write in it, and make up for that a moment later."""
    before = generation(redis)
    down(cache, line)
    assert cache.outage.try_to_end()
    assert generation(redis) != before
    assert fetch(cache, b"new").outcome is Outcome.MISS


def test_an_outage_says_why_once(cache, line, caplog):
    down(cache, line)
    assert cache.outage.try_to_end()
    (why, _) = (record.message for record in caplog.records)
    assert "TimeoutError" in why
    assert f"127.0.0.1:{line.port}" in why
    assert "MGET" in why or "PTTL" in why or "pipeline" in why


def test_a_claim_that_an_outage_has_left_holds_up_nobody(cache, line, redis):
    cache.forget("product")
    cache.entries.make_generation(ITEM.names)
    real = cache.entries.claim

    def claim_as_it_goes(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        line.go_dead()
        return real(*arguments, **options)

    cache.entries.claim = claim_as_it_goes  # type: ignore[method-assign]
    assert fetch(cache, b"new").detail == "cache-down"
    cache.entries.claim = real  # type: ignore[method-assign]
    line.mend()
    wait_for(cache.outage.try_to_end)
    assert fetch(cache, b"new").outcome is Outcome.MISS


def test_a_write_that_could_not_be_announced_is_made_up_for(cache, line):
    line.go_dead()
    cache.forget("product")
    assert cache.outage.has_pending_invalidations
    line.mend()
    wait_for(cache.outage.try_to_end)
    assert fetch(cache, b"new").body == b"new"


def test_a_server_that_has_come_back_with_what_is_old_is_not_believed(cache, line, redis):
    other = start_redis(free_port())
    try:
        with Redis(port=other.port) as restored:
            for key in redis.scan_iter():
                restored.restore(key, max(0, redis.pttl(key)), redis.dump(key))
        cache.forget("product")
        assert fetch(cache, b"new").outcome is Outcome.MISS
        line.cut()
        assert fetch(cache, b"newer").detail == "cache-down"
        line._target = other.port
        line.mend()
        wait_for(cache.outage.try_to_end)
        assert fetch(cache, b"newer").body == b"newer"
    finally:
        other.kill()
