"""Copies of entries in a process: dropped when Redis says so, and not served when it says nothing."""

import itertools
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from mirakuru import TCPExecutor
from redis import Redis
from redis.connection import Connection

from freshcache.entry import Entry
from freshcache.local_cache import Copy, LocalCache, NoLocalCache
from store.models import Product
from tests.line import Line
from tests.servers import PATIENT_BUDGET_SECONDS, free_port, redis_binary, start_redis
from tests.visitors import ask_at_once, complaints, is_hit, prices, reprice
from tests.waiting import wait_for
from tests.witnesses import Readers, Write, late_reads, rising_prices

pytestmark = pytest.mark.engines
on_database = pytest.mark.django_db(transaction=True)

LAG_SECONDS = 0.1
NOT_THE_POINT_SECONDS = 60.0  # a lag that no stall outlasts, for tests of what does not hang on it


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


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A server of the test's own, to which anything may be done."""
    version = subprocess.check_output([redis_binary(), "--version"], text=True)
    # Redis 6 has no such setting, and lets everybody use DEBUG.
    allow = () if "v=6." in version else ("--enable-debug-command", "yes")
    executor = start_redis(free_port(), *allow)
    yield Redis(port=executor.port)
    executor.kill()


@pytest.fixture
def make(server) -> Iterator[Callable[..., LocalCache]]:
    """Make the copies of a process, which track keys of their own prefix."""
    made: list[LocalCache] = []

    def make_one(
        lag: float = NOT_THE_POINT_SECONDS, max_bytes: int = 1000, **connection
    ) -> LocalCache:
        options = {"port": server.port, "protocol": 3, "socket_timeout": 30} | connection
        copies = LocalCache(lambda: Connection(**options), lambda: ["a:"], lag, max_bytes)
        made.append(copies)
        return copies

    yield make_one
    for copies in made:
        copies._messages._used_at = float("-inf")  # Its thread ends its connection.


def copy(body: bytes = b"[1]", query: str = "", use_until: float | None = None) -> Copy:
    entry = Entry("0" * 32, query, "tag", 0.001, 600_000, body)
    return Copy(entry, "family:generation", use_until, None)


def track(copies: LocalCache) -> None:
    """Return once Redis announces changes to `copies`."""

    def is_tracking() -> bool:
        copies.find("", "")
        return copies._messages.is_connected

    wait_for(is_tracking)


def keep(copies: LocalCache, name: str = "family", **values) -> Copy:
    kept = copy(**values)
    copies.keep(copies.epoch(), name, kept)
    return kept


def heard(copies: LocalCache, redis: Redis) -> None:
    """Return once all changes so far have been announced, which is well before the next check."""
    announced = threading.Event()

    def changed(names: list[str], happened_after: float) -> None:
        LocalCache.changed(copies, names, happened_after)
        if any(name.endswith("marker") for name in names):
            announced.set()

    copies.changed = changed
    redis.set("a:marker", secrets.token_hex(4))
    assert announced.wait(30)
    del copies.changed


def test_a_copy_is_served_once_changes_are_announced(make):
    copies = make()
    assert copies.find("family", "") is None
    track(copies)
    kept = keep(copies)
    assert copies.find("family", "") is kept
    assert copies.find("family", "another query") is None
    assert copies.find("other", "") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda redis: redis.delete("a:family"),
        lambda redis: redis.set("a:family", "new"),
        lambda redis: redis.pexpire("a:family", 1),
        lambda redis: redis.delete("a:family:generation"),
        lambda redis: redis.set("a:family:generation", "new"),
        lambda redis: redis.flushdb(),
        lambda redis: redis.rename("a:family", "elsewhere"),
    ],
)
def test_what_changes_in_redis_is_dropped(make, redis, change):
    for key in ("a:family", "a:family:generation"):
        redis.set(key, "old")
    copies = make()
    track(copies)
    keep(copies)
    change(redis)
    heard(copies, redis)
    assert copies.find("family", "") is None
    assert copies._copies == {}


@pytest.fixture
def other() -> Iterator[TCPExecutor]:
    executor = start_redis(free_port(), "--repl-diskless-sync-delay", "0")
    yield executor
    executor.kill()


def restore(redis, other) -> None:
    dumped = redis.dump("a:family:generation")
    redis.flushdb()
    redis.restore("a:family:generation", 0, dumped)


def promote(redis, other) -> None:
    """Have the server follow another that lacks what it had, and become a primary again."""
    redis.replicaof("127.0.0.1", other.port)
    wait_for(lambda: redis.info("replication")["master_link_status"] == "up")
    redis.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    "change",
    [
        lambda redis, other: redis.swapdb(0, 1),
        lambda redis, other: (redis.swapdb(0, 1), redis.set("a:family:generation", "1" * 32)),
        lambda redis, other: redis.flushall(asynchronous=True),
        lambda redis, other: redis.rename("a:family:generation", "b:elsewhere"),
        lambda redis, other: redis.move("a:family:generation", 1),
        lambda redis, other: redis.execute_command("DEBUG", "RELOAD"),
        lambda redis, other: redis.client_kill_filter(_type="normal", skipme=True),
        restore,
        promote,
    ],
)
def test_whatever_happens_to_redis_the_next_write_is_heard(make, own_redis, other, change):
    redis = own_redis
    redis.set("a:family:generation", "0" * 32)
    copies = make(port=redis.connection_pool.connection_kwargs["port"], lag=LAG_SECONDS)
    track(copies)

    def is_served() -> bool:
        return keep(copies) and copies.find("family", "")

    wait_for(is_served)
    change(redis, other)
    redis.delete("a:family:generation")  # Its message is not sent where there is nothing.
    time.sleep(LAG_SECONDS)
    assert copies.find("family", "") is None


def test_what_changes_beside_it_leaves_a_copy_alone(make, redis):
    copies = make()
    track(copies)
    kept = keep(copies)
    for key in ("a:other", "a:other:generation", "b:family"):
        redis.set(key, "x")
    heard(copies, redis)
    assert copies.find("family", "") is kept


def test_what_this_process_stores_itself_stays(make, redis):
    redis.set("a:family:generation", "old")
    copies = make()
    track(copies)
    copies.expect("family")
    kept = keep(copies)
    redis.set("a:family", "ours")
    heard(copies, redis)
    assert copies.find("family", "") is kept
    redis.set("a:family", "another's")
    heard(copies, redis)
    assert copies.find("family", "") is None
    kept = keep(copies)
    copies.expect("family")
    redis.delete("a:family:generation")
    heard(copies, redis)
    assert copies.find("family", "") is None


def test_a_change_between_reading_and_keeping_counts(make, redis):
    redis.set("a:family:generation", "old")
    copies = make()
    track(copies)
    epoch = copies.epoch()
    redis.delete("a:family:generation")
    heard(copies, redis)
    copies.keep(epoch, "family", copy())
    assert copies.find("family", "") is None


def test_what_was_read_before_changes_were_announced_is_not_kept(make):
    copies = make()
    epoch = copies.epoch()
    track(copies)
    copies.keep(epoch, "family", copy())
    assert copies.find("family", "") is None


def test_what_was_read_before_a_check_is_not_kept_after_it(make):
    copies = make()
    track(copies)
    epoch = copies.epoch()
    copies.checked({}, happened_after=time.monotonic(), asked_at=time.monotonic())
    copies.keep(epoch, "family", copy())
    assert copies.find("family", "") is None


def test_a_write_of_this_process_counts_at_once(make):
    copies = make()
    track(copies)
    keep(copies)
    keep(copies, "other")
    copies.forget("family:generation")
    assert copies.find("family", "") is None
    epoch = copies.epoch()
    copies.forget("family:generation")
    copies.keep(epoch, "family", copy())
    assert copies.find("family", "") is None


def test_a_copy_is_not_served_once_it_is_due_for_a_refresh(make):
    copies = make()
    track(copies)
    keep(copies, use_until=time.monotonic() + 60)
    assert copies.find("family", "") is not None
    keep(copies, use_until=time.monotonic())
    assert copies.find("family", "") is None


def test_memory_is_bounded_and_what_is_used_stays(make):
    copies = make(max_bytes=30)
    track(copies)
    for number in range(3):
        keep(copies, f"entry-{number}", body=b"x" * 10)
    copies.find("entry-0", "")
    keep(copies, "entry-3", body=b"x" * 10)
    found = [n for n in range(4) if copies.find(f"entry-{n}", "")]
    assert found == [0, 2, 3]
    keep(copies, "entry-0", body=b"x" * 31)
    assert copies.find("entry-0", "") is not None  # The one from before; Redis would announce it.
    keep(copies, "entry-4", body=b"x" * 30)
    assert [n for n in range(5) if copies.find(f"entry-{n}", "")] == [4]
    assert copies._bytes == 30


def test_a_line_that_goes_dead_ends_the_serving_within_the_lag(make, server):
    line = Line(server.port)
    copies = make(lag=0.5, port=line.port, socket_timeout=20)
    track(copies)
    keep(copies)
    wait_for(lambda: copies.find("family", "") is not None)
    line.go_dead()
    time.sleep(0.5)
    assert copies.find("family", "") is None
    line.close()


def test_a_redis_that_hangs_ends_the_serving_within_the_lag():
    executor = start_redis(free_port())
    options = {"port": executor.port, "protocol": 3, "socket_timeout": 20}
    copies = LocalCache(lambda: Connection(**options), lambda: ["a:"], 0.5, 1000)
    track(copies)
    keep(copies)
    os.kill(executor.process.pid, signal.SIGSTOP)
    time.sleep(0.5)
    assert copies.find("family", "") is None
    executor.kill()


def test_a_lost_connection_drops_all_copies_and_is_made_anew(make, redis):
    copies = make()
    track(copies)
    keep(copies)
    epoch = copies.epoch()
    redis.client_kill_filter(_type="normal", skipme=True)
    wait_for(lambda: copies.epoch() > epoch)
    track(copies)
    assert copies.find("family", "") is None
    keep(copies)
    assert copies.find("family", "") is not None


def test_all_is_known_from_before_a_ping_was_sent_not_until_it_is_answered(make, server):
    reached, released = threading.Event(), threading.Event()

    class Slow(Connection):
        def read_response(self, *arguments, **keywords):
            answer = super().read_response(*arguments, **keywords)
            if answer == b"PONG":
                reached.set()
                assert released.wait(30)
            return answer

    copies = make()
    copies._messages._connect = lambda: Slow(port=server.port, protocol=3)
    copies.find("", "")
    assert reached.wait(30)
    answered_at = time.monotonic()
    released.set()
    track(copies)
    assert copies._messages.complete_until < answered_at


def test_a_process_that_serves_nothing_tracks_nothing(make, redis, monkeypatch):
    monkeypatch.setattr("freshcache.invalidation_listener.IDLE_SECONDS", 0.2)
    copies = make(lag=2.0, client_name="idle")  # It looks once in each quarter of that.
    track(copies)
    keep(copies)
    wait_for(lambda: not copies._messages.is_connected)
    wait_for(lambda: "idle" not in {one["name"] for one in redis.client_list()})
    track(copies)
    assert copies.find("family", "") is None


def test_a_server_that_refuses_to_announce_means_no_copies(make, redis, caplog):
    user = secrets.token_hex(4)
    redis.acl_setuser(user, enabled=True, nopass=True, categories=["+@all"], commands=["-client"])
    copies = make(username=user, password="")
    copies.find("", "")
    wait_for(lambda: "Redis announces no changes" in caplog.text)
    keep(copies)
    assert copies.find("family", "") is None
    assert copies._copies == {}  # It would take memory for nothing.


def test_after_a_fork_the_child_has_no_copies_and_tracks_by_itself(make):
    copies = make()
    track(copies)
    keep(copies)
    copies.reset_after_fork()
    assert copies.find("family", "") is None
    assert copies._copies == {}
    track(copies)
    keep(copies)
    assert copies.find("family", "") is not None


def test_no_copies_keep_nothing():
    copies = NoLocalCache()
    copies.reset_after_fork()
    copies.keep(copies.epoch(), "family", copy())
    copies.forget("family:generation")
    assert copies.find("family", "") is None


# --- Several processes ----------------------------------------------------------------------------


def warm(store) -> None:
    for _ in range(20):
        store.get("/store/cached/")
    wait_for(lambda: is_hit(store.get("/store/cached/")))


def write(count: int, pause_seconds: float) -> list[Write]:
    """Raise a price `count` times."""
    writes = []
    for price in itertools.islice(rising_prices, count):
        Product.objects.filter(name="Book A").update(price=price)
        writes.append(Write(time.monotonic(), price))
        time.sleep(pause_seconds)
    return writes


@on_database
def test_no_other_process_serves_what_has_been_old_for_longer_than_the_lag(open_store, books):
    store = open_store("--workers=2", LOCAL_CACHE="on", LOCAL_CACHE_MAX_LAG=str(LAG_SECONDS))
    warm(store)
    with Readers(store) as readers:
        writes = write(100, pause_seconds=0.02)
    readers.assert_all_answered()
    assert late_reads(readers.reads, writes, LAG_SECONDS) == []


@on_database
def test_without_copies_no_process_serves_what_is_old_at_all(open_store, books):
    store = open_store("--workers=2", LOCAL_CACHE="off")
    warm(store)
    with Readers(store) as readers:
        writes = write(100, pause_seconds=0.02)
    readers.assert_all_answered()
    assert late_reads(readers.reads, writes) == []


@on_database
def test_a_worker_that_was_stopped_meanwhile_serves_nothing_old(open_store, books):
    store = open_store("--workers=1", LOCAL_CACHE="on", LOCAL_CACHE_MAX_LAG=str(LAG_SECONDS))
    warm(store)
    (worker,) = [
        int(line.rpartition(" ")[2])
        for line in store.log.read_text().splitlines()
        if "Booting worker" in line
    ]
    for price in range(20, 25):
        warm(store)
        os.kill(worker, signal.SIGSTOP)
        Product.objects.update(price=price)
        acknowledged = time.monotonic()
        time.sleep(0.3)
        os.kill(worker, signal.SIGCONT)
        assert time.monotonic() - acknowledged > LAG_SECONDS
        assert prices(store.get("/store/cached/"))[0] == price


@on_database
def test_the_process_that_writes_sees_its_own_write_at_once(open_store, editor, books):
    store = open_store("--workers=1", LOCAL_CACHE="on", LOCAL_CACHE_MAX_LAG="5")
    warm(store)
    for price in range(20, 60):
        assert reprice(store, editor, books[0], price) == 200
        assert prices(store.get("/store/cached/"))[0] == price
        store.get("/store/cached/")


def outages_of(store) -> int:
    return len([one for one in complaints(store.log) if "left alone" in one])


@on_database
def test_a_dead_line_to_redis_makes_no_answer_older_than_the_lag(open_store, books):
    executor = start_redis(free_port())
    line = Line(executor.port)
    store = open_store(
        "--workers=1",
        LOCAL_CACHE="on",
        REDIS_URL=f"redis://127.0.0.1:{line.port}/0",
        LOCAL_CACHE_MAX_LAG=str(LAG_SECONDS),
        SECRET_KEY=settings.SECRET_KEY,
        CACHE_BUDGET_SECONDS="5",
    )
    warm(store)
    outages = outages_of(store)
    line.go_dead()
    Product.objects.update(price=66)  # Nobody could tell that Redis.
    time.sleep(LAG_SECONDS)
    assert prices(store.get("/store/cached/")) == [66, 66, 66]
    line.mend()
    assert prices(store.get("/store/cached/")) == [66, 66, 66]
    assert outages_of(store) == outages + 1
    line.close()
    executor.kill()


@on_database
def test_a_redis_that_is_killed_and_comes_back_makes_no_answer_older_than_the_lag(
    open_store, books
):
    executor = start_redis(free_port())
    store = open_store(
        "--workers=1",
        LOCAL_CACHE="on",
        REDIS_URL=f"redis://127.0.0.1:{executor.port}/0",
        LOCAL_CACHE_MAX_LAG=str(LAG_SECONDS),
        SECRET_KEY=settings.SECRET_KEY,
    )
    warm(store)
    writes = []
    with Readers(store) as readers:
        for price in itertools.islice(rising_prices, 3):
            executor.kill()
            Product.objects.update(price=price)  # Nobody could tell that Redis.
            writes.append(Write(time.monotonic(), price))
            time.sleep(2 * LAG_SECONDS)
            executor.start()
            wait_for(lambda: is_hit(store.get("/store/cached/")))
    readers.assert_all_answered()
    assert late_reads(readers.reads, writes, LAG_SECONDS) == []
    executor.kill()


@on_database
def test_copies_cost_a_process_one_connection(open_store, books):
    server = start_redis(free_port())
    url = f"redis://127.0.0.1:{server.port}/0"
    variables = {
        "REDIS_URL": url,
        "SECRET_KEY": settings.SECRET_KEY,
        "CACHE_BUDGET_SECONDS": PATIENT_BUDGET_SECONDS,
    }
    store = open_store("--workers=2", "--threads=2", LOCAL_CACHE="on", **variables)
    with Redis(port=server.port) as own:

        def tracking() -> int:
            return sum("t" in one["flags"] for one in own.client_list(_type="normal"))

        wait_for(lambda: ask_at_once(store) and tracking() >= 2)
        for _ in range(3):
            ask_at_once(store)
            assert tracking() <= 2  # Fewer if a worker that stalls has been idle for long.
        wait_for(lambda: ask_at_once(store) and tracking() == 2)
    server.kill()
