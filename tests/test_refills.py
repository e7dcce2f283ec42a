"""Copies that another process has made old: served for a part of the lag, while they are filled anew."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from mirakuru import TCPExecutor
from redis import Redis
from redis.connection import Connection

from freshcache.background_refresh import MOST_THREADS, BackgroundRefresh
from freshcache.entry import Entry
from freshcache.local_cache import BRIDGED_PART, Copy, LocalCache
from freshcache.runtime import cache_of
from store.models import Product
from tests.processes import Answer
from tests.servers import free_port, start_redis
from tests.test_copies import LAG_SECONDS, NOT_THE_POINT_SECONDS, track, warm
from tests.visitors import is_hit, prices, reprice
from tests.waiting import wait_for
from tests.witnesses import Readers, Write, late_reads, rising_prices

pytestmark = pytest.mark.engines
on_database = pytest.mark.django_db(transaction=True)

FAMILY, GENERATION = "family", "family:generation"
LONG_LAG_SECONDS = 2.0  # where a test waits for the end of it


@pytest.fixture(scope="module")
def server() -> Iterator[TCPExecutor]:
    executor = start_redis(free_port())
    yield executor
    executor.kill()


@pytest.fixture
def redis(server) -> Redis:
    client = Redis(port=server.port)
    client.flushdb()
    return client


@dataclass
class Filler:
    """Stands for the way of a request: a refill waits until the test lets it go on."""

    copies: LocalCache
    refilled: int = 0
    fails: bool = False
    go_on: threading.Event = field(default_factory=threading.Event)

    def keep(self, body: bytes, fill_seconds: float = 0.001) -> Copy:
        entry = Entry("0" * 32, "", "tag", fill_seconds, None, body)
        copy = Copy(entry, GENERATION, None, None, self.refill)
        self.copies.keep(self.copies.epoch(), FAMILY, copy)
        return copy

    def refill(self) -> None:
        self.refilled += 1
        self.go_on.wait(10)
        if self.fails:
            raise OSError("no database")
        self.keep(b"[new]")

    def found(self) -> bytes | None:
        copy = self.copies.find(FAMILY, "")
        return copy.entry.body if copy else None


@pytest.fixture
def make(server) -> Iterator[Callable[[float], Filler]]:
    made: list[Filler] = []

    def make_one(lag: float) -> Filler:
        options = {"port": server.port, "protocol": 3, "socket_timeout": 30}
        copies = LocalCache(lambda: Connection(**options), lambda: ["a:"], lag, 1000)
        filler = Filler(copies)
        made.append(filler)
        track(copies)
        filler.keep(b"[old]")
        return filler

    yield make_one
    for filler in made:
        filler.go_on.set()
        filler.copies._messages._used_at = float("-inf")


def change(redis: Redis, filler: Filler) -> None:
    """Do what another process does after a write; return once that has been heard of."""
    epoch = filler.copies.epoch()
    redis.set(f"a:{GENERATION}", random.random())
    wait_for(lambda: filler.copies.epoch() != epoch)


def test_what_another_process_has_changed_is_served_until_it_is_filled_anew(make, redis):
    filler = make(NOT_THE_POINT_SECONDS)
    change(redis, filler)
    assert filler.refilled == 0  # Nobody has asked.
    for _ in range(5):
        assert filler.found() == b"[old]"
    wait_for(lambda: filler.refilled == 1)
    filler.go_on.set()
    wait_for(lambda: filler.found() == b"[new]")
    assert filler.refilled == 1


def test_it_is_served_for_a_part_of_the_lag_if_a_fill_takes_longer_than_all_of_it(make, redis):
    filler = make(LONG_LAG_SECONDS)
    filler.keep(b"[old]", fill_seconds=LONG_LAG_SECONDS + 1)
    change(redis, filler)
    ends_at = time.monotonic() + LONG_LAG_SECONDS * BRIDGED_PART
    while time.monotonic() < ends_at - 0.1:
        change(redis, filler)
    while (asked_at := time.monotonic()) < ends_at + 0.5:
        assert filler.found() is None or asked_at < ends_at
    assert filler.refilled <= 1


def test_it_is_served_no_longer_than_the_lag_if_word_of_the_change_came_late(make):
    filler = make(NOT_THE_POINT_SECONDS)
    ends_at = time.monotonic() + 0.2
    filler.copies.changed([GENERATION], ends_at - NOT_THE_POINT_SECONDS)
    while (asked_at := time.monotonic()) < ends_at + 0.2:
        found = filler.found()
        assert found is None or asked_at < ends_at
        assert found == b"[old]" or time.monotonic() >= ends_at  # served for all of that time


def test_a_write_of_this_process_ends_it_at_once(make, redis):
    filler = make(NOT_THE_POINT_SECONDS)
    change(redis, filler)
    assert filler.found() == b"[old]"
    wait_for(lambda: filler.refilled == 1)
    filler.copies.forget(GENERATION)
    assert filler.found() is None


def test_a_refill_that_fails_ends_it_at_once_and_the_next_one_works(make, redis, caplog):
    filler = make(600)  # Without the failure it would be served for a quarter of that.
    filler.fails = True
    change(redis, filler)
    assert filler.found() == b"[old]"
    filler.go_on.set()
    wait_for(lambda: filler.found() is None)
    wait_for(lambda: "An entry could not be refilled" in caplog.text)
    filler.fails = False
    filler.keep(b"[old]")
    change(redis, filler)
    wait_for(lambda: filler.found() == b"[new]")


def test_what_is_changed_during_a_refill_is_not_taken_for_new(make, redis):
    filler = make(NOT_THE_POINT_SECONDS)
    epochs = [filler.copies.epoch()]
    change(redis, filler)
    assert filler.found() == b"[old]"
    stale = Copy(Entry("0" * 32, "", "tag", 0.001, None, b"[read before]"), GENERATION, None, None)
    filler.copies.keep(epochs[0], FAMILY, stale)
    assert filler.found() == b"[old]"


def test_what_cannot_be_filled_by_another_thread_is_dropped(make, redis):
    filler = make(NOT_THE_POINT_SECONDS)
    entry = Entry("0" * 32, "", "tag", 0.001, None, b"[old]")
    filler.copies.keep(filler.copies.epoch(), FAMILY, Copy(entry, GENERATION, None, None))
    change(redis, filler)
    assert filler.found() is None


# --- The thread -----------------------------------------------------------------------------------


def are_idle(refills: BackgroundRefresh) -> bool:
    return not any(thread.is_running for thread in refills._threads)


def test_refills_share_a_few_threads_that_end_when_there_are_none(monkeypatch):
    monkeypatch.setattr("freshcache.background_refresh.IDLE_SECONDS", 0.05)
    refills = BackgroundRefresh()
    for _ in range(2):
        together = threading.Barrier(MOST_THREADS)
        threads: list[int] = []

        def refill(together=together, threads=threads) -> None:
            together.wait(60)
            threads.append(threading.get_ident())

        for _ in range(2 * MOST_THREADS):
            assert refills.add(refill)
        wait_for(lambda threads=threads: len(threads) == 2 * MOST_THREADS)
        assert len(set(threads)) == MOST_THREADS
        wait_for(lambda: are_idle(refills))


def test_what_is_asked_for_most_is_refilled_first():
    refills = BackgroundRefresh()
    go_on, done = threading.Event(), []
    for _ in range(MOST_THREADS):
        refills.add(lambda: go_on.wait(60), demand=lambda: 100)
    wait_for(lambda: not refills._waiting)
    demands = [3, 1, 2, 5, 4, 0]
    for demand in demands:
        refills.add(lambda demand=demand: done.append(demand), demand=lambda demand=demand: demand)
    order = [refills._next() for _ in demands]
    assert [one.demand() for one in order if one] == sorted(demands, reverse=True)
    go_on.set()


@pytest.fixture
def no_thread_to_be_had() -> Iterator[None]:
    """Every start of a thread fails, as its stack finds no room: "can't start new thread"."""
    before = threading.stack_size(1 << 46)
    yield
    threading.stack_size(before)


def test_without_a_thread_nothing_is_promised_and_the_next_one_tries(no_thread_to_be_had):
    refills, done = BackgroundRefresh(), []
    assert not refills.add(lambda: done.append(1))
    threading.stack_size(0)
    assert refills.add(lambda: done.append(2))
    wait_for(lambda: done == [2])


def test_without_a_thread_hits_are_served_and_refills_begin_again_later(make, redis):
    filler = make(NOT_THE_POINT_SECONDS)
    filler.go_on.set()
    change(redis, filler)
    before = threading.stack_size(1 << 46)
    try:
        assert filler.found() == b"[old]"
    finally:
        threading.stack_size(before)
    assert filler.refilled == 0
    wait_for(lambda: filler.found() == b"[new]")


@pytest.mark.django_db(transaction=True)
def test_without_a_thread_the_lists_are_answered(client, no_thread_to_be_had, monkeypatch):
    copies = LocalCache(lambda: None, list, 0.1, 1000)
    monkeypatch.setattr(cache_of(), "copies", copies)
    assert client.get("/store/").status_code == 200
    assert client.get("/store/cached/").status_code == 201
    assert client.get("/store/cached/").status_code == 200


def test_after_a_fork_the_child_has_a_thread_of_its_own():
    refills = BackgroundRefresh()
    done: list[int] = []
    refills.add(lambda: done.append(1))
    wait_for(lambda: done == [1])
    refills.reset_after_fork()
    assert refills.add(lambda: done.append(2))
    wait_for(lambda: done == [1, 2])


# --- Several processes ----------------------------------------------------------------------------


@on_database
def test_no_hit_waits_while_another_process_changes_products(open_store, books):
    store = open_store(
        "--workers=1",
        "--threads=1",
        LOCAL_CACHE="on",
        LOCAL_CACHE_MAX_LAG=str(NOT_THE_POINT_SECONDS),
    )
    warm(store)

    def change_and_read() -> tuple[int, list[Answer]]:
        """Return a new price, and all answers until it is seen."""
        price, answers = next(rising_prices), []
        Product.objects.update(price=price)
        while not answers or prices(answers[-1])[0] != price:
            answers.append(store.get("/store/cached/"))
        return price, answers

    wait_for(lambda: all(map(is_hit, change_and_read()[1])))  # So it has a copy by now.
    former, _ = change_and_read()
    for _ in range(20):
        price, answers = change_and_read()
        assert {answer.status for answer in answers} == {200}
        assert all(map(is_hit, answers))
        assert {prices(answer)[0] for answer in answers} <= {former, price}
        former = price


@on_database
def test_at_random_moments_too_nobody_is_served_what_has_been_old_for_longer(
    open_store, books, editor
):
    store = open_store("--workers=2", LOCAL_CACHE="on", LOCAL_CACHE_MAX_LAG=str(LAG_SECONDS))
    warm(store)
    writes = []
    with Readers(store, count=3) as readers:
        for price in itertools.islice(rising_prices, 80):
            if random.random() < 0.3:  # one of the two processes that are read
                assert reprice(store, editor, books[0], price) == 200
            else:
                Product.objects.filter(pk=books[0].pk).update(price=price)
            writes.append(Write(time.monotonic(), price))
            time.sleep(random.choice([0, 0.005, 0.15]) * random.random())
    readers.assert_all_answered()
    assert late_reads(readers.reads, writes, LAG_SECONDS) == []
