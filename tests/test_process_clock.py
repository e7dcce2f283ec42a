"""The process' own lateness is no slowness of what it waits for.

The interpreter's lock is held by a C function that sleeps: nothing else of the process runs meanwhile, as
where there is no core for it.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import OperationalError
from mirakuru import TCPExecutor
from prometheus_client import REGISTRY
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from freshcache import keys
from freshcache.cache import Cache
from freshcache.circuit_breaker import Verdict
from freshcache.leases import Leases
from freshcache.outage import Outage, TooSlow
from freshcache.process_clock import ProcessClock, Stopwatch, process_clock, retry_while_late
from freshcache.redis.entries import Lease, RedisEntries
from freshcache.redis.pool import judge_at
from freshcache.result import Item, Limits, Outcome
from tests import preloaded
from tests.configuration import configure
from tests.relay import Relay
from tests.servers import free_port, start_redis
from tests.waiting import wait_for

READ_SECONDS = 0.2
ITEM = Item("product", "", keys.entry_keys("product"), 600, 600)
LIMITS = Limits(2, 5, budget_seconds=0.5, command_seconds=0.2, retry_seconds=0.2)
PATIENT = Limits(60, 60, budget_seconds=60, command_seconds=0.1)
STOPPED = """
import time
from freshcache.process_clock import Stopwatch
watch, began = Stopwatch(), time.monotonic()
print("ready", flush=True)
while time.monotonic() - began < 0.5:
    time.sleep(0.01)
print(time.monotonic() - began - watch.own_seconds)
"""


def hold_the_interpreter(seconds: float) -> None:
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


# --- The clock --------------------------------------------------------------------------------------


def test_the_clock_stands_still_while_the_interpreter_is_held():
    watch = Stopwatch()
    hold_the_interpreter(0.3)
    assert watch.was_late
    assert watch.own_seconds < 0.15


def test_the_clock_goes_on_while_something_else_is_slow():
    def own_part() -> float:
        watch, began = Stopwatch(), time.monotonic()
        time.sleep(0.05)
        return watch.own_seconds / (time.monotonic() - began)

    wait_for(lambda: own_part() > 0.9)  # On a busy machine not each time.


def test_a_process_that_was_stopped_was_late(tmp_path: Path):
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = preloaded.start(["-c", STOPPED], {}, output)
    wait_for(lambda: "ready" in log.read_text())
    stopped = psutil.Process(process.pid)
    stopped.suspend()
    time.sleep(0.6)
    stopped.resume()
    assert process.wait(60) == 0
    assert float(log.read_text().split()[1]) > 0.5


def test_a_clock_that_nobody_asks_ends_its_thread_and_begins_again(monkeypatch):
    monkeypatch.setattr("freshcache.process_clock.IDLE_SECONDS", 0.0)
    clock = ProcessClock()
    before = clock.now()
    wait_for(lambda: not clock._thread.is_running)
    assert clock._seen[1] is None
    assert clock.now() > before


def test_without_a_thread_it_goes_as_any_clock(monkeypatch):
    clock = ProcessClock()
    monkeypatch.setattr(clock._thread, "ensure_running", lambda: False)
    before = clock.now()
    hold_the_interpreter(0.05)
    assert clock.now() - before >= 0.05


def test_how_late_it_is_can_be_seen_from_outside():
    def seconds() -> float:
        return REGISTRY.get_sample_value("freshcache_process_late_seconds_sum") or 0.0

    process_clock.now()
    before = seconds()
    hold_the_interpreter(0.2)
    wait_for(lambda: seconds() > before + 0.15)


# --- What waits -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[TCPExecutor]:
    executor = start_redis(free_port())
    yield executor
    executor.kill()


class HeldUp:
    """Relays to Redis, and holds the whole process, for longer than an answer may take, when asked to."""

    def __init__(self, port: int, pattern: bytes) -> None:
        self.times = 0
        self._relay = Relay(port, pattern, self._hold)
        self.port, self.close = self._relay.port, self._relay.close

    def _hold(self, _number: int) -> None:
        if self.times:
            self.times -= 1
            time.sleep(0.02)  # Who has asked waits for the answer by now.
            hold_the_interpreter(READ_SECONDS * 1.5)


@pytest.fixture
def held_up(server: TCPExecutor, settings: Any, request: Any) -> Iterator[HeldUp]:
    with (
        closing(HeldUp(server.port, getattr(request, "param", b""))) as made,
        Redis(port=server.port) as redis,
    ):
        redis.flushall()
        configure(settings, READ_SECONDS=READ_SECONDS)
        settings.REDIS_URL = settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{made.port}/0"
        default = {**settings.CACHES["default"], "LOCATION": settings.REDIS_URL}
        settings.CACHES = {**settings.CACHES, "default": default}
        yield made


@pytest.fixture
def cache(held_up: HeldUp) -> Cache:
    entries = RedisEntries()
    prove = lambda: entries.prove(["product"])  # noqa: E731
    made = Cache(entries, Outage(lambda: None, lambda: None, prove=prove))
    assert made.fetch(ITEM, lambda: b"value", PATIENT).outcome is Outcome.MISS
    return made


@pytest.mark.parametrize(("held_up", "times"), [(b"", 3), (b"MGET", 2)], indirect=["held_up"])
def test_a_timeout_while_this_process_was_late_is_neither_slow_nor_an_outage(times, cache, held_up):
    held_up.times = times
    assert cache.fetch(ITEM, lambda: b"new", LIMITS).outcome is Outcome.HIT
    assert not held_up.times
    assert not cache.outage.is_open


@pytest.mark.parametrize("asks", ["a reader", "a writer"])
def test_a_redis_that_is_stopped_for_a_moment_is_no_outage(asks, cache, server):
    stopped = psutil.Process(server.process.pid)
    stopped.suspend()
    threading.Timer(READ_SECONDS * 1.25, stopped.resume).start()  # One answer comes too late.
    if asks == "a writer":
        cache.forget("product")
    found = cache.fetch(ITEM, lambda: b"new", PATIENT)
    assert found.outcome is (Outcome.MISS if asks == "a writer" else Outcome.HIT)
    assert not cache.outage.is_open


def test_a_write_is_announced_although_this_process_is_late(cache, held_up):
    held_up.times = 2
    cache.forget("product")
    assert not cache.outage.is_open
    assert cache.fetch(ITEM, lambda: b"new", LIMITS).body == b"new"


def test_a_ping_that_this_process_was_late_for_opens_no_circuit(held_up):
    judge = judge_at(lambda: f"redis://127.0.0.1:{held_up.port}/0")
    held_up.times = 2
    assert judge(RedisTimeoutError(), False) is Verdict.ANSWERED


def hold_up_before(cache: Cache, *commands: str) -> None:
    for name in commands:
        command: Callable[..., Any] = getattr(cache.entries, name)

        def late(*arguments: Any, command: Any = command, **options: Any) -> Any:
            hold_the_interpreter(0.4)
            return command(*arguments, **options)

        setattr(cache.entries, name, late)


def test_a_budget_is_not_spent_by_this_process_own_lateness(cache, monkeypatch):
    monkeypatch.setattr(
        "freshcache.process_clock.LATE_PART", 1.0
    )  # Its length alone is what counts.
    cache.forget("product")
    hold_up_before(cache, "read", "claim")
    assert cache.fetch(ITEM, lambda: b"new", LIMITS).outcome is Outcome.MISS


def test_who_is_over_budget_while_this_process_is_late_goes_on(cache):
    cache.forget("product")
    hold_up_before(cache, "read")
    spent = Limits(2, 5, budget_seconds=0.2, command_seconds=0.2)  # Room for one command.
    assert cache.fetch(ITEM, lambda: b"new", spent).outcome is Outcome.MISS


def test_who_leads_and_is_over_budget_reads_for_all_who_wait(cache):
    cache.forget("product")
    seen = cache.entries.read(ITEM.names, ITEM.query)
    generation = seen.generation or cache.entries.make_generation(ITEM.names)
    key = (ITEM.names.entry, ITEM.query, generation)
    boarded = []

    def claim_slowly(*_: Any, **__: Any) -> Any:
        boarded.append(cache.singleflight.join(key))
        raise TooSlow

    cache.entries.claim = claim_slowly  # type: ignore[method-assign]
    found = cache.fetch(ITEM, lambda: b"own", LIMITS)
    ((flight, leads),) = boarded[:1]
    assert found.outcome is Outcome.BYPASS
    assert not leads
    assert flight.result().body == b"own"


def test_a_filler_that_is_late_keeps_its_claim_for_so_much_longer(cache, monkeypatch):
    monkeypatch.setattr("freshcache.leases.LOOKS_IN_A_LEASE", 300)
    monkeypatch.setattr("freshcache.leases.LATE_PART", 0.005)
    extended: list[float] = []
    extend = cache.entries.extend

    def note(*arguments: Any) -> None:
        extend(*arguments)
        extended.append(arguments[-1])

    def load_late() -> bytes:
        hold_the_interpreter(0.4)
        wait_for(lambda: extended)
        return b"new"

    cache.entries.extend = note  # type: ignore[method-assign]
    cache.forget("product")
    cache.fetch(ITEM, load_late, Limits(2, 30, budget_seconds=60, command_seconds=0.1))
    assert 0 < extended[0] < 30
    assert cache.leases._held == {}


def test_a_filler_that_hangs_does_not_keep_its_claim(monkeypatch):
    monkeypatch.setattr("freshcache.leases.LATE_PART", 2.0)  # Nobody was late for so long.
    extended: list[float] = []
    with Leases().hold("token", 0.2, extended.append):
        time.sleep(0.3)
    assert extended == []


def test_only_the_claim_of_the_token_is_extended(server, cache):
    claim_with(cache, "mine", seconds=60)
    generation = cache.entries.read(ITEM.names, ITEM.query).generation
    with Redis(port=server.port) as redis:
        lock = cache.entries.lock_key(ITEM.names)
        cache.entries.extend(ITEM.names, generation, "another's", 600)
        assert redis.pttl(lock) <= 60_000
        cache.entries.extend(ITEM.names, generation, "mine", 600)
        assert redis.pttl(lock) > 60_000
        redis.delete(lock)
        cache.entries.extend(ITEM.names, generation, "mine", 600)
        assert not redis.exists(lock)


def claim_with(cache: Cache, token: str, *, seconds: float) -> None:
    generation = cache.entries.make_generation(ITEM.names)
    claimed = cache.entries.claim(ITEM.names, ITEM.query, generation, token, seconds, replace=True)
    assert claimed is Lease.CLAIMED


def test_a_call_that_this_process_is_late_for_again_and_again_is_given_up():
    tries = []

    def time_out() -> None:
        tries.append(1)
        hold_the_interpreter(0.05)
        raise OperationalError

    with pytest.raises(OperationalError):
        retry_while_late(time_out, OperationalError)
    assert len(tries) == 4


def test_a_call_that_fails_in_good_time_is_not_repeated(monkeypatch):
    monkeypatch.setattr("freshcache.process_clock.LATE_PART", 1.0)
    tries = []

    def fail() -> None:
        tries.append(1)
        raise OperationalError

    with pytest.raises(OperationalError):
        retry_while_late(fail, OperationalError)
    assert len(tries) == 1
