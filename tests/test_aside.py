"""The algorithm itself, step by step, on a real Redis: two `Aside` are two processes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import orjson
import pytest
from django.conf import settings
from django.core.cache import caches
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError

from freshcache import keys, lookup
from freshcache.cache import Cache
from freshcache.circuit_breaker import Unavailable
from freshcache.entry import Entry, new_token
from freshcache.local_cache import Copy, LocalCache
from freshcache.outage import Outage
from freshcache.redis.entries import RedisEntries
from freshcache.redis.pool import NoConnectionFree, WaitingPool
from freshcache.result import Item, Limits, Outcome
from tests.waiting import wait_for

pytestmark = [pytest.mark.engines, pytest.mark.contract]

# Longer than a machine stalls: who waits in a test does so for what the test does next.
LIMITS = Limits(wait_seconds=60, lease_seconds=60, budget_seconds=60, command_seconds=0.1)
TTL_SECONDS = 6000
LAST_PART_MS = TTL_SECONDS * 1000 // 20  # well within the last tenth, where it is refreshed ahead
MAIN = Item("product", "", keys.entry_keys("product"), TTL_SECONDS, stale_seconds=60)


def limits(**changes: float) -> Limits:
    return Limits(**{**LIMITS.__dict__, **changes})


def item(**changes) -> Item:
    return Item(**{**MAIN.__dict__, **changes})


processes: list[Cache] = []


def process() -> Cache:
    entries = RedisEntries()
    renew = lambda: entries.renew(["product"])  # noqa: E731
    processes.append(Cache(entries, Outage(lambda: entries.forget("product"), renew)))
    return processes[-1]


@pytest.fixture(autouse=True)
def no_outage_outlives_its_test(monkeypatch):
    """An outage lasts until a test ends it: no thread does so while the machine stalls."""
    monkeypatch.setattr("freshcache.outage.RETRY_SECONDS", 60.0)
    monkeypatch.setattr(
        "freshcache.process_clock.LATE_PART", 1.0
    )  # and nothing is late but by a test
    yield
    while processes:
        outage = processes.pop().outage
        outage._began, outage._invalidation_lost = None, False


class Loader:
    """Returns b"1", b"2", ... and can be held between reading and returning."""

    def __init__(self) -> None:
        self.calls = 0
        self.reached = threading.Event()
        self.released = threading.Event()
        self.released.set()

    def hold(self) -> None:
        self.reached.clear()
        self.released.clear()

    def __call__(self) -> bytes:
        self.calls += 1
        body = str(self.calls).encode()
        self.reached.set()
        assert self.released.wait(30)
        return body


@pytest.fixture
def load() -> Loader:
    return Loader()


@pytest.fixture
def in_background():
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def never() -> bytes:
    raise AssertionError("the source was read")


def down() -> bytes:
    raise Unavailable


def key(name: str) -> str:
    return f"{settings.PROJECT_NAME}:1:{name}"


def test_a_value_is_loaded_once_and_then_served(load):
    assert process().fetch(MAIN, load, LIMITS).outcome is Outcome.MISS
    hit = process().fetch(MAIN, never, LIMITS)
    assert (hit.outcome, hit.body) == (Outcome.HIT, b"1")


def test_a_reader_that_is_held_between_load_and_store_cannot_store_what_is_old(load, in_background):
    load.hold()
    slow = in_background(process().fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    process().forget("product")
    load.released.set()

    assert slow.result().outcome is Outcome.BYPASS  # It came before the write, and may answer so.
    assert process().fetch(MAIN, lambda: b"new", LIMITS).body == b"new"


def test_a_held_reader_cannot_overwrite_a_newer_entry(load, in_background):
    load.hold()
    slow = in_background(process().fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    process().forget("product")
    assert process().fetch(MAIN, lambda: b"new", LIMITS).outcome is Outcome.MISS
    load.released.set()
    slow.result()

    assert process().fetch(MAIN, never, LIMITS).body == b"new"


def test_an_invalidation_frees_the_lock(load, in_background):
    load.hold()
    slow = in_background(process().fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    process().forget("product")
    # It would give up and not be the one who fills, had it to wait for the lease.
    filled = process().fetch(MAIN, lambda: b"new", limits(wait_seconds=0.5))
    load.released.set()
    slow.result()
    assert filled.outcome is Outcome.MISS


def test_a_filler_that_outlives_its_lease_can_neither_store_nor_release(
    load, in_background, redis: Redis
):
    load.hold()
    slow = in_background(process().fetch, MAIN, load, limits(lease_seconds=0.05))
    assert load.reached.wait(30)
    other = Loader()
    other.hold()
    second = in_background(process().fetch, MAIN, other, LIMITS)
    assert other.reached.wait(30)  # The lease is over, and another has claimed the fill.
    load.released.set()
    assert slow.result().outcome is Outcome.BYPASS
    assert slow.result().detail == "not-stored"
    assert redis.exists(key("product:lock"))  # the other's

    other.released.set()
    assert second.result().outcome is Outcome.MISS
    assert not redis.exists(key("product:lock"))


def test_a_filler_that_outlives_its_lease_and_fails_leaves_the_lock_of_the_next(
    load, in_background, redis: Redis
):
    def fail() -> bytes:
        load()
        raise ZeroDivisionError

    load.hold()
    slow = in_background(process().fetch, MAIN, fail, limits(lease_seconds=0.05))
    assert load.reached.wait(30)
    other = Loader()
    other.hold()
    second = in_background(process().fetch, MAIN, other, LIMITS)
    assert other.reached.wait(30)
    load.released.set()
    with pytest.raises(ZeroDivisionError):
        slow.result()
    assert redis.exists(key("product:lock"))  # the other's
    other.released.set()
    assert second.result().outcome is Outcome.MISS


def test_a_claim_ends_with_its_lease(load, in_background, redis: Redis):
    load.hold()
    slow = in_background(process().fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    left_ms = redis.pttl(key("product:lock"))
    load.released.set()
    assert slow.result().outcome is Outcome.MISS
    assert 0 < left_ms <= LIMITS.lease_seconds * 1000


def between_the_last_look_and_storing(monkeypatch, happen) -> None:
    multi = Pipeline.multi

    def happen_first(pipeline: Pipeline) -> None:
        monkeypatch.setattr(Pipeline, "multi", multi)
        happen()
        multi(pipeline)

    monkeypatch.setattr(Pipeline, "multi", happen_first)


def test_a_write_between_the_last_look_and_storing_keeps_the_old_value_out(
    load, redis: Redis, monkeypatch
):
    between_the_last_look_and_storing(monkeypatch, lambda: process().forget("product"))
    assert process().fetch(MAIN, load, LIMITS).detail == "not-stored"
    assert not redis.exists(key("product"))


def test_a_claim_lost_between_the_last_look_and_storing_is_not_ended(
    load, redis: Redis, monkeypatch
):
    lose = lambda: redis.set(key("product:lock"), "another's")  # noqa: E731
    between_the_last_look_and_storing(monkeypatch, lose)
    assert process().fetch(MAIN, load, LIMITS).detail == "not-stored"
    assert redis.get(key("product:lock")) == b"another's"


def test_a_loader_that_fails_frees_the_lock_for_the_next(redis: Redis):
    def fail() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        process().fetch(MAIN, fail, LIMITS)
    assert not redis.exists(key("product:lock"))
    assert process().fetch(MAIN, lambda: b"x", LIMITS).outcome is Outcome.MISS


def test_threads_of_one_process_share_a_fill(load, in_background):
    one_process = process()
    load.hold()
    first = in_background(one_process.fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    others = [in_background(one_process.fetch, MAIN, never, LIMITS) for _ in range(5)]
    load.released.set()
    assert first.result().outcome is Outcome.MISS
    assert {one.result().outcome for one in others} <= {Outcome.COALESCED, Outcome.HIT}
    assert {one.result().body for one in others} == {b"1"}


def counted(process: Cache, name: str) -> list[str]:
    """Have calls of a method of its entries noted in what is returned."""
    calls, method = [], getattr(process.entries, name)

    def call(*arguments, **keywords):
        calls.append(name)
        return method(*arguments, **keywords)

    setattr(process.entries, name, call)
    return calls


def aboard(process: Cache, monkeypatch) -> list[bool]:
    """Note who boards a flight: whether they lead."""
    boarded, board = [], process.singleflight.join

    def note(key):
        flight, leads = board(key)
        boarded.append(leads)
        return flight, leads

    monkeypatch.setattr(process.singleflight, "join", note)
    return boarded


def test_who_shares_a_fill_asks_for_no_claim(load, in_background, monkeypatch):
    one_process = process()
    boarded, claims = aboard(one_process, monkeypatch), counted(one_process, "claim")
    load.hold()
    all_of_them = [in_background(one_process.fetch, MAIN, load, LIMITS) for _ in range(5)]
    wait_for(lambda: len(boarded) == 5)
    load.released.set()
    assert {one.result().body for one in all_of_them} == {b"1"}
    assert (len(claims), sum(boarded)) == (1, 1)


def test_who_shares_a_fill_shares_its_failure(load, in_background, monkeypatch):
    def down() -> bytes:
        load()
        raise Unavailable

    one_process = process()
    boarded = aboard(one_process, monkeypatch)
    load.hold()
    all_of_them = [in_background(one_process.fetch, MAIN, down, LIMITS) for _ in range(5)]
    wait_for(lambda: len(boarded) == 5)
    load.released.set()
    for one in all_of_them:
        with pytest.raises(Unavailable):
            one.result()
    assert load.calls == 1


def test_a_request_after_a_write_does_not_share_a_fill_from_before_it(load, in_background):
    one_process = process()
    load.hold()
    slow = in_background(one_process.fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    one_process.forget("product")
    assert one_process.fetch(MAIN, lambda: b"new", LIMITS).body == b"new"
    load.released.set()
    assert slow.result().body == b"1"


def test_a_process_waits_for_the_fill_of_another(load, in_background):
    load.hold()
    first = in_background(process().fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    waiter = in_background(process().fetch, MAIN, never, LIMITS)
    load.released.set()
    assert first.result().outcome is Outcome.MISS
    assert waiter.result().outcome in (Outcome.COALESCED, Outcome.HIT)
    assert waiter.result().body == b"1"


def test_who_waits_while_a_write_comes_begins_anew(load, in_background):
    load.hold()
    first = in_background(process().fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    waiting = process()
    waiting.sleep = lambda seconds: process().forget("product")
    filled = waiting.fetch(MAIN, lambda: b"new", LIMITS)
    load.released.set()
    first.result()
    assert (filled.outcome, filled.body) == (Outcome.MISS, b"new")


def test_waiting_does_not_spin(load, in_background, monkeypatch):
    load.hold()
    first = in_background(process().fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    clock, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    # Only what it sleeps takes time, whatever the machine does meanwhile.
    monkeypatch.setattr(lookup, "process_clock", SimpleNamespace(now=lambda: clock[0]))
    waiting = process()
    waiting.sleep = sleep
    gave_up = waiting.fetch(MAIN, lambda: b"own", limits(wait_seconds=0.2))
    load.released.set()
    first.result()
    assert (gave_up.outcome, gave_up.detail) == (Outcome.BYPASS, "wait-timeout")
    assert pauses[0] == 0.005
    assert pauses == sorted(pauses)
    assert max(pauses) == 0.05


def test_one_request_refreshes_ahead_while_others_are_served(load, in_background, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    redis.pexpire(key("product"), LAST_PART_MS)
    load.hold()
    refresher = in_background(process().fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    others = [process().fetch(MAIN, never, LIMITS) for _ in range(3)]
    load.released.set()

    assert {(one.outcome, one.body) for one in others} == {(Outcome.HIT, b"1")}
    assert (refresher.result().outcome, refresher.result().body) == (Outcome.REFRESH, b"2")
    assert process().fetch(MAIN, never, LIMITS).body == b"2"
    assert redis.pttl(key("product")) > 0.8 * TTL_SECONDS * 1000


def test_a_slow_fill_is_refreshed_in_good_time_but_no_entry_for_most_of_its_life():
    def is_due(fill_seconds: float, left_seconds: int) -> bool:
        entry = Entry("0" * 32, "", "", fill_seconds, 1_000_000, b"")
        return lookup._is_due(entry, left_seconds * 1000, 1000)

    assert [is_due(0.1, left) for left in (99, 101)] == [True, False]
    assert [is_due(100, left) for left in (199, 201)] == [True, False]
    assert [is_due(900, left) for left in (499, 501)] == [True, False]


def test_a_refresh_that_fails_leaves_the_entry_served(load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    redis.pexpire(key("product"), LAST_PART_MS)

    hit = process().fetch(MAIN, down, LIMITS)
    assert (hit.outcome, hit.body) == (Outcome.HIT, b"1")


def test_entries_expire_apart_and_never_after_their_ttl(load, redis: Redis):
    lives = set()
    for _ in range(30):
        redis.delete(key("product"))
        process().fetch(MAIN, load, LIMITS)
        lives.add(redis.pttl(key("product")))
    assert max(lives) <= TTL_SECONDS * 1000
    assert min(lives) > TTL_SECONDS * 1000 * 0.89
    assert max(lives) - min(lives) > TTL_SECONDS * 1000 / 60


def test_the_last_good_value_bridges_an_outage_of_the_source(load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    redis.delete(key("product"))  # It has expired.
    stale = process().fetch(MAIN, down, LIMITS)
    assert (stale.outcome, stale.body) == (Outcome.STALE, b"1")
    process().forget("product")
    with pytest.raises(Unavailable):
        process().fetch(MAIN, down, LIMITS)


def test_the_last_good_value_is_kept_for_the_time_that_it_may_bridge(load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    longer_ms = redis.pttl(key("product:stale")) - redis.pttl(key("product"))
    assert longer_ms == pytest.approx(MAIN.stale_seconds * 1000, abs=1000)


def test_the_last_good_value_of_another_query_bridges_nothing(load, redis: Redis):
    names = keys.entry_keys("product", "a query", 10)
    process().fetch(item(query="one", names=names), load, LIMITS)
    redis.delete(key(names.entry))
    with pytest.raises(Unavailable):
        process().fetch(item(query="other", names=names), down, LIMITS)


def test_the_last_good_value_bridges_nothing_but_an_outage_of_the_source(load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    redis.delete(key("product"))

    def fail() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        process().fetch(MAIN, fail, LIMITS)
    with pytest.raises(Unavailable):  # CACHE_STALE_IF_ERROR has been set to 0 since.
        process().fetch(item(stale_seconds=0), down, LIMITS)


def test_what_redis_held_before_an_outage_of_both_bridges_nothing(load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    redis.delete(key("product"))
    cut_off = process()

    def lose_both() -> bytes:
        cut_off.outage.trip(RedisError("down"))
        return down()

    with pytest.raises(Unavailable):
        cut_off.fetch(MAIN, lose_both, LIMITS)


def spoil_fields(value: bytes) -> bytes:
    return value[:33] + orjson.dumps({**orjson.loads(value[33:-2]), "etag": 0}) + b"\n1"


@pytest.mark.parametrize(
    "spoil", [lambda value: value[:-1], lambda value: value + b"1", spoil_fields]
)
def test_an_entry_that_is_not_whole_is_a_miss(spoil, load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    redis.set(key("product"), spoil(redis.get(key("product"))), keepttl=True)
    found = process().fetch(MAIN, lambda: b"new", LIMITS)
    assert found.body == b"new"


@pytest.mark.parametrize("name", ["product", "product:lock", "product:stale"])
@pytest.mark.parametrize("kind", ["list", "garbage"])
def test_whatever_lies_under_a_key_is_replaced(name, kind, load, redis: Redis):
    if kind == "list":
        redis.rpush(key(name), "x")
    else:
        redis.set(key(name), b"\x80\x04garbage\n\xff")
    assert process().fetch(MAIN, load, LIMITS).outcome is Outcome.MISS
    assert process().fetch(MAIN, never, LIMITS).body == b"1"


@pytest.mark.parametrize("kind", ["list", "garbage"])
def test_whatever_lies_under_the_generation_does_no_harm(kind, load, redis: Redis):
    name = f"{settings.PROJECT_NAME}:0:product:generation"
    if kind == "list":
        redis.rpush(name, "x")
    else:
        redis.set(name, b"\xff\x00garbage")
    first, _ = [process().fetch(MAIN, load, limits(wait_seconds=5)) for _ in range(2)]
    assert (first.outcome, first.body) == (Outcome.MISS, b"1")
    process().forget("product")
    assert process().fetch(MAIN, lambda: b"new", LIMITS).body == b"new"
    assert process().fetch(MAIN, never, LIMITS).body == b"new"


def test_variants_that_share_a_slot_never_get_each_others_value(load):
    names = keys.entry_keys("product", "a query", 10)
    one, other = item(query="one", names=names), item(query="other", names=names)
    for _ in range(2):
        assert process().fetch(one, lambda: b"1", LIMITS).body == b"1"
        assert process().fetch(other, lambda: b"2", LIMITS).body == b"2"


@pytest.mark.parametrize("count", [1, 2])
def test_variants_of_a_slot_that_are_filled_at_once_get_their_own(
    count, load, in_background, monkeypatch
):
    """By one process, and by two."""
    names = keys.entry_keys("product", "a query", 10)
    one, other = item(query="one", names=names), item(query="other", names=names)
    waiting = process()
    filling = waiting if count == 1 else process()
    is_waiting = threading.Event()
    waiting.sleep = lambda seconds: (is_waiting.set(), time.sleep(seconds))
    load.hold()
    first = in_background(filling.fetch, one, load, LIMITS)
    assert load.reached.wait(30)
    second = in_background(waiting.fetch, other, lambda: b"other", LIMITS)
    came = is_waiting.wait(10)
    load.released.set()
    assert (first.result().body, second.result().body) == (b"1", b"other")
    assert came


def test_variants_of_a_slot_share_no_read_past_the_cache(load, in_background):
    names = keys.entry_keys("product", "a query", 10)
    cut_off = process()
    cut_off.outage.trip(RedisError("down"))
    load.hold()
    first = in_background(cut_off.fetch, item(query="one", names=names), load, LIMITS)
    assert load.reached.wait(30)
    try:
        other = item(query="other", names=names)
        second = in_background(cut_off.fetch, other, lambda: b"other", LIMITS)
        assert second.result(10).body == b"other"
    finally:
        load.released.set()
    assert first.result().body == b"1"


def test_a_request_over_its_budget_reads_the_source(load):
    spent = process().fetch(MAIN, load, limits(budget_seconds=0.05))
    assert (spent.outcome, spent.detail) == (Outcome.BYPASS, "cache-slow")


def test_a_refresh_that_is_over_budget_leaves_the_entry_served(load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    redis.pexpire(key("product"), LAST_PART_MS)
    slow = limits(budget_seconds=0.1 + 1e-6)  # Room for one command, and then for no other.
    assert process().fetch(MAIN, never, slow).outcome is Outcome.HIT


def test_what_a_transaction_reads_is_shared_with_nobody(load, in_background):
    cut_off = failing("read")
    cut_off.fetch(MAIN, load, LIMITS)
    load.hold()
    in_transaction = in_background(cut_off.fetch, MAIN, load, LIMITS, may_store=False)
    assert load.reached.wait(30)
    assert cut_off.fetch(MAIN, lambda: b"new", LIMITS).body == b"new"
    load.released.set()
    assert in_transaction.result().body == b"2"


def test_what_a_transaction_reads_is_not_stored_and_refreshes_nothing(load, redis: Redis):
    assert process().fetch(MAIN, load, LIMITS, may_store=False).detail == "transaction"
    assert process().fetch(MAIN, load, LIMITS).outcome is Outcome.MISS
    redis.pexpire(key("product"), LAST_PART_MS)
    assert process().fetch(MAIN, never, LIMITS, may_store=False).body == b"2"


def test_the_end_of_a_leading_thread_is_its_own(in_background):
    reads = process().reads
    reached, released = threading.Event(), threading.Event()

    def die() -> bytes:
        reached.set()
        assert released.wait(30)
        raise SystemExit

    first = in_background(reads.read, "key", lambda: b"running")
    first.result()
    leader = in_background(reads.read, "key", die)
    assert reached.wait(30)
    others = [in_background(reads.read, "key", lambda: b"own") for _ in range(3)]
    wait_for(lambda: len(reads._next) == 1)
    released.set()
    with pytest.raises(SystemExit):
        leader.result()
    assert {one.result() for one in others} == {b"own"}


def test_a_fork_leaves_the_child_no_flight_to_wait_for(load, in_background):
    parent = process()
    load.hold()
    held = in_background(parent.reads.read, "key", load)
    assert load.reached.wait(30)
    with parent.outage._lock:
        parent.reset_after_fork()  # as os.register_at_fork has it done in the child
        assert parent.reads.read("key", lambda: b"own") == b"own"
        assert not parent.outage._lock.locked()
    load.released.set()
    held.result()


@pytest.fixture
def all_in_use(monkeypatch):
    """All connections of the cache's pool, which is one, are in use."""
    client = caches["default"].client.get_client()
    pool = WaitingPool.from_url(settings.REDIS_URL, max_connections=1, timeout=0.05)
    monkeypatch.setattr(client, "connection_pool", pool)
    taken = pool.get_connection()
    yield
    pool.release(taken)
    pool.disconnect()


@pytest.mark.usefixtures("all_in_use")
def test_all_connections_in_use_is_no_outage(load):
    busy = process()
    assert busy.fetch(MAIN, load, LIMITS).detail == "cache-slow"
    assert busy.generation("product") is None
    assert not busy.outage.is_open


@pytest.mark.usefixtures("all_in_use")
def test_a_write_that_no_connection_was_free_for_is_made_up_for():
    busy = process()
    busy.forget("product")
    assert busy.outage.has_pending_invalidations


def test_a_pool_that_is_too_small_says_so():
    url = settings.REDIS_URL
    pool = WaitingPool.from_url(url, max_connections=1, timeout=0.05)
    taken = pool.get_connection()
    with pytest.raises(NoConnectionFree, match="all 1 connections"):
        pool.get_connection()
    pool.release(taken)
    pool.disconnect()


def test_an_entry_from_before_a_lifetime_was_set_is_refreshed(load):
    process().fetch(item(ttl_seconds=None), load, LIMITS)
    assert process().fetch(MAIN, load, LIMITS).outcome is Outcome.REFRESH


@pytest.fixture
def listening(redis: Redis):
    """The cache of a process with copies, which Redis announces changes to."""
    entries = RedisEntries()
    copies = LocalCache(
        entries.own_connection, entries.prefixes, max_lag_seconds=60, max_bytes=1000
    )
    aside = Cache(entries, Outage(lambda: None, lambda: None), copies=copies)
    wait_for(lambda: copies.find("product", "") or copies._messages.is_connected)
    yield aside
    copies._messages._used_at = float("-inf")  # Its thread ends its connection.


def lose_the_lease(redis: Redis) -> None:
    redis.delete(key("product:lock"))


def invalidate(redis: Redis) -> None:
    RedisEntries().forget("product")


def copy_of(body: bytes) -> Copy:
    entry = Entry("0" * 32, "", "tag", 0.001, None, body)
    return Copy(entry, MAIN.names.generation, use_until=None, expires_at=None)


def hear_all(aside: Cache, redis: Redis) -> None:
    """Return once `aside` has heard of all that has happened in Redis: messages come in order."""
    marker = f"marker {new_token()}"
    aside.copies._expected.add(marker)
    redis.set(key(marker), "")
    wait_for(lambda: marker not in aside.copies._expected)


def test_a_write_of_another_process_is_announced(listening, load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    hear_all(listening, redis)
    listening.fetch(MAIN, never, LIMITS)
    assert listening.copies.find(MAIN.names.entry, "")
    process().forget("product")
    hear_all(listening, redis)
    assert listening.copies.find(MAIN.names.entry, "") is None


@pytest.mark.parametrize("lose", [lose_the_lease, invalidate])
def test_a_fill_that_stored_nothing_takes_no_message_for_its_own(lose, listening, redis: Redis):
    def load() -> bytes:
        lose(redis)
        process().fetch(MAIN, lambda: b"another's", LIMITS)
        hear_all(listening, redis)
        return b"mine"

    assert listening.fetch(MAIN, load, LIMITS).detail == "not-stored"
    assert listening.fetch(MAIN, never, LIMITS).body == b"another's"
    assert listening.copies.find("product", "")
    redis.delete(key("product"))
    hear_all(listening, redis)
    assert listening.copies.find("product", "") is None


def test_a_fill_that_could_not_ask_to_store_takes_no_message_for_its_own(
    listening, redis: Redis, monkeypatch
):
    def put(*_: object) -> bool:
        raise NoConnectionFree("all connections are in use")

    monkeypatch.setattr(listening.entries, "put", put)
    assert listening.fetch(MAIN, lambda: b"mine", LIMITS).detail == "not-stored"
    monkeypatch.undo()
    listening.copies.keep(listening.copies.epoch(), "product", copy_of(b"another's"))
    redis.set(key("product"), "changed")
    hear_all(listening, redis)
    assert listening.copies.find("product", "") is None


def test_a_claim_that_came_to_nothing_is_given_up(load, redis: Redis, monkeypatch):
    def put(*_: object) -> bool:
        raise NoConnectionFree("all connections are in use")

    slow = process()
    monkeypatch.setattr(slow.entries, "put", put)
    assert slow.fetch(MAIN, load, LIMITS).detail == "not-stored"
    assert not redis.exists(key("product:lock"))


def test_who_has_loaded_stores_whatever_redis_has_taken_before(load):
    slow, spent = process(), limits()
    claim = slow.entries.claim

    def claim_slowly(*arguments, **keywords):
        object.__setattr__(spent, "budget_seconds", 0.0)  # From here on all is too much.
        return claim(*arguments, **keywords)

    slow.entries.claim = claim_slowly
    assert slow.fetch(MAIN, load, spent).outcome is Outcome.MISS
    assert process().fetch(MAIN, never, LIMITS).outcome is Outcome.HIT


def failing(method: str) -> Cache:
    broken = process()

    def fail(*arguments: object, **keywords: object) -> object:
        raise RedisError(method)

    setattr(broken.entries, method, fail)
    return broken


@pytest.mark.parametrize("method", ["read", "make_generation", "claim", "put"])
def test_redis_failing_at_any_step_ends_in_an_answer_from_the_source(method, load):
    broken = failing(method)
    assert broken.fetch(MAIN, load, LIMITS).outcome is Outcome.BYPASS
    assert load.calls == 1
    assert broken.outage.is_open
    assert broken.fetch(MAIN, load, LIMITS).detail == "cache-down"


def test_in_an_outage_redis_is_left_alone(load):
    cut_off = process()
    asked = [counted(cut_off, name) for name in ("read", "read_stale", "make_generation", "forget")]
    cut_off.outage.trip(RedisError("down"), invalidation_lost=True)
    assert cut_off.fetch(MAIN, load, LIMITS).detail == "cache-down"
    assert cut_off.generation("product") is None
    cut_off.forget("product")
    assert asked == [[], [], [], []]


def test_asking_for_a_generation_leaves_the_entries_of_it(load):
    process().fetch(MAIN, load, LIMITS)
    assert process().generation("product") == process().generation("product")
    assert process().fetch(MAIN, never, LIMITS).outcome is Outcome.HIT


def test_new_generations_alone_make_entries_be_forgotten(load):
    process().fetch(MAIN, load, LIMITS)
    RedisEntries().renew(["product"])
    assert process().fetch(MAIN, lambda: b"new", LIMITS).body == b"new"


def test_a_redis_that_takes_no_writes_forgets_all_the_same_and_is_left_alone(load):
    process().fetch(MAIN, load, LIMITS)
    cut_off = failing("renew")
    cut_off.outage.trip(RedisError("full"))
    assert not cut_off.outage.try_to_end()
    assert process().fetch(MAIN, lambda: b"new", LIMITS).body == b"new"


def test_what_was_made_under_another_primary_does_not_count(load, monkeypatch):
    epoch = "freshcache.redis.generations.primary_epoch"
    monkeypatch.setattr(epoch, lambda url: "aaaaaaaa")
    process().fetch(MAIN, load, LIMITS)
    assert process().fetch(MAIN, never, LIMITS).outcome is Outcome.HIT
    monkeypatch.setattr(epoch, lambda url: "bbbbbbbb")
    assert process().fetch(MAIN, lambda: b"new", LIMITS).body == b"new"
    assert process().fetch(MAIN, never, LIMITS).body == b"new"


def test_an_outage_ends_with_new_generations(load):
    process().fetch(MAIN, load, LIMITS)
    cut_off = failing("read")
    cut_off.fetch(MAIN, load, LIMITS)
    # Another process' write could not be announced meanwhile: what Redis holds may be old.
    assert cut_off.outage.try_to_end()
    assert process().fetch(MAIN, lambda: b"new", LIMITS).body == b"new"


def test_a_lost_invalidation_is_made_up_for_before_the_cache_is_used_again(load):
    process().fetch(MAIN, load, LIMITS)
    writer = failing("forget")
    writer.forget("product")
    assert writer.outage.has_pending_invalidations
    assert writer.fetch(MAIN, lambda: b"new", LIMITS).body == b"new"  # past the cache
    assert process().fetch(MAIN, never, LIMITS).body == b"1"  # Others cannot know yet.
    writer.forget("product")  # postponed as well
    assert not writer.outage.try_to_end()
    assert writer.outage.has_pending_invalidations
    del writer.entries.forget  # Redis can be reached again.
    assert writer.outage.try_to_end()
    assert process().fetch(MAIN, lambda: b"new", LIMITS).body == b"new"


def test_shared_reads_begin_after_all_who_share_them_have_asked(in_background):
    reads = process().reads
    versions: list[int] = []
    first_reads, release = threading.Event(), threading.Event()

    def load_first() -> bytes:
        first_reads.set()
        assert release.wait(30)
        return b"first"

    def load_later() -> bytes:
        versions.append(1)
        return b"later"

    first = in_background(reads.read, "key", load_first)
    assert first_reads.wait(30)
    later = [in_background(reads.read, "key", load_later) for _ in range(4)]
    wait_for(lambda: len(reads._next) == 1)
    release.set()
    assert first.result() == b"first"
    assert {one.result() for one in later} == {b"later"}
    assert 1 <= len(versions) <= 4
