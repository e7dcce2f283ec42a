"""Replicas that lag, fail, hang or stand still: what may be late is late by a bound, the rest never."""

import contextlib
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.line import Line
from tests.preloaded import ROOT
from tests.processes import Answer, StoreProcess, clean_environment
from tests.scale.clients import EDITOR, PASSWORD, Browser
from tests.scale.servers import Replication
from tests.servers import free_port, start_redis
from tests.visitors import prices
from tests.waiting import wait_for

MAX_LAG_SECONDS = 1.0
DELAY_SECONDS = 3
TIMEOUT_SECONDS = 2  # MYSQL_TIMEOUT_SECONDS
CONNECT_SECONDS = TIMEOUT_SECONDS // 2
NOISE_SECONDS = 1.5  # what a busy machine may add to any promise
HISTORY_SECONDS = 15
PARTS_OF_HISTORY = 5
TABLE = "store_product"
FIRST_PRICE = 1000
NAIVE = ("-c", "tests/scale/fills_from_replicas.py")

Open = Callable[..., StoreProcess]


@pytest.fixture(scope="module")
def variables(replication: Replication, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a store on the replicated database, which has been prepared."""
    redis = start_redis(free_port())
    found = clean_environment(
        VAR_DIR=str(tmp_path_factory.mktemp("var")),
        SECRET_KEY="a-secret-of-the-test-" * 3,
        REDIS_URL=f"redis://127.0.0.1:{redis.port}/0",
        THROTTLE_LOGIN="off",
        THROTTLE_WRITES="off",
        LOCAL_CACHE="off",
        CACHE_BUDGET_SECONDS="5",  # A machine that runs the tests stalls now and then.
        MYSQL_REPLICA_MAX_LAG=str(MAX_LAG_SECONDS),
        MYSQL_TIMEOUT_SECONDS=str(TIMEOUT_SECONDS),
        **replication.variables,
    )
    manage(found, "prepare")
    manage(
        found | {"DJANGO_SUPERUSER_PASSWORD": PASSWORD},
        *("createsuperuser", "--noinput", f"--username={EDITOR}", "--email=editor@store.example"),
    )
    return found


@pytest.fixture
def servers(replication: Replication, variables: dict[str, str]) -> Iterator[Replication]:
    """All servers up to date, and the first product at its first price."""
    replication.primary.run(f"UPDATE store.{TABLE} SET price = {FIRST_PRICE} WHERE id = 1")
    replication.mend()
    Redis.from_url(variables["REDIS_URL"]).flushall()
    yield replication
    replication.mend()


@pytest.fixture
def open_store(servers: Replication, variables: dict[str, str], tmp_path: Path) -> Iterator[Open]:
    """Start gunicorn with two workers; returns once its replicas are read."""
    opened: list[StoreProcess] = []

    def open_one(*arguments: str, **more: str) -> StoreProcess:
        log = tmp_path / f"store-{len(opened)}.log"
        arguments = ("--workers", "2", *arguments)
        opened.append(StoreProcess(log, arguments, variables | more, inherit=False))
        opened[-1].wait_until_open()
        wait_until_read(opened[-1], servers)
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def manage(variables: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def reads(store: StoreProcess) -> dict[str, float]:
    """Return how many reads that may be late each database has answered."""
    text = store.get("/metrics").body.decode()
    found = re.findall(r'^store_late_reads_total{database="(\w+)"} (\S+)', text, re.MULTILINE)
    return {name: float(count) for name, count in found}


def wait_until_read(store: StoreProcess, servers: Replication) -> None:
    """Wait until each replica is read and the primary is not, in both workers if they share the work."""
    expected = {f"replica_{n}" for n, _ in enumerate(servers.replicas, start=1)}

    def are_read() -> bool:
        before = reads(store)
        ask(store, 24)
        after = reads(store)
        return {name for name in after if after[name] > before.get(name, 0)} == expected

    for _ in range(3):
        wait_for(are_read)


def ask(
    store: StoreProcess, count: int, path: str = "/store/?limit=1"
) -> list[tuple[float, Answer]]:
    """Return `count` answers, asked for by some clients, and how long each took."""

    def timed(_: int) -> tuple[float, Answer]:
        started = time.monotonic()
        answer = store.get(path)
        return time.monotonic() - started, answer

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(timed, range(count)))


def price(store: StoreProcess, path: str = "/store/?limit=1") -> int:
    return int(prices(store.get(path))[0] or 0)


def editor(store: StoreProcess) -> Browser:
    """Someone who changes prices, and of whom the store's readers know nothing."""
    return Browser(store, signs_in_each_time=True)


# --- Which database is asked ----------------------------------------------------------------------


def test_reads_that_may_be_late_go_to_replicas_and_to_no_primary(open_store, servers):
    store = open_store("--workers", "1")  # Another one could have no proofs yet.
    first, second = servers.replicas
    with (
        servers.primary.counting(TABLE) as on_primary,
        first.counting(TABLE) as on_first,
        second.counting(TABLE) as on_second,
    ):
        for path in ("/store/?limit=1", "/store/products/1/", "/shop/1/"):
            assert {answer.status for _, answer in ask(store, 20, path)} == {200}
    assert on_primary == []
    assert len(on_first) + len(on_second) == 60
    assert min(len(on_first), len(on_second)) >= 10


def test_fills_baskets_and_who_writes_go_to_the_primary_alone(open_store, servers):
    store = open_store()
    first, second = servers.replicas
    with (
        servers.primary.counting(TABLE) as on_primary,
        first.counting(TABLE) as on_first,
        second.counting(TABLE) as on_second,
    ):
        for path in ("/store/cached/", "/store/cached/?search=a", "/store/products/?limit=5"):
            assert store.get(path).status in (200, 201)
        assert store.get("/store/products/popular/").status == 200
        assert store.get("/shop/1/price/").status == 200
        editor(store).reprice(1, FIRST_PRICE + 1)
        visitor = Browser(store)
        visitor.get("/store/basket/")
        status, _ = visitor.request(
            "/store/basket/1/", "PUT", b'{"quantity": 1}', "application/json"
        )
        assert status == 200
        visitor.get("/store/basket/")
    assert on_first == on_second == []
    assert len(on_primary) >= 6


SCRIPT = """
from django.db import transaction, Error
from store import replicas
from store.models import Product
import time

def where():
    return replicas.read(lambda: Product.objects.using(None).order_by("pk")[:1].get()._state.db)

with replicas.late():
    while where() == "default":
        time.sleep(0.05)
    print("late", where())
    with transaction.atomic():
        print("in a transaction", where())
        product = replicas.read(lambda: Product.objects.get(pk=1))
    print("for the cache", replicas.on_primary(where))
    product = replicas.read(lambda: Product.objects.get(pk=1))
print("outside a request", where())
print("read from", product._state.db)
product.save()
print("written to", product._state.db)
try:
    Product.objects.using("replica_1").update(price=1)
except Error as error:
    print("on a replica", error.args[0])
"""


def test_transactions_and_commands_use_the_primary_and_replicas_take_no_writes(servers, variables):
    printed = manage(variables, "shell", "--no-imports", "-c", SCRIPT)
    found = dict(line.rsplit(" ", 1) for line in printed.splitlines())
    assert found.pop("late").startswith("replica_")
    assert found.pop("read from").startswith("replica_")
    assert found == {
        "outside a request": "default",
        "in a transaction": "default",
        "for the cache": "default",
        "written to": "default",
        "on a replica": "1792",  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    }


# --- What the cache keeps -------------------------------------------------------------------------


class History:
    """Writers and readers of one price, which only grows, beside random losses in Redis.

    `stale` has cached lists and `late` uncached ones that were older than a write acknowledged before.
    """

    def __init__(self, store: StoreProcess, redis: Redis, seed: int) -> None:
        self.store = store
        self.redis = redis
        self.dice = random.Random(seed)
        self.acknowledged = self.written = FIRST_PRICE
        self.reads = 0
        self.stale: list[tuple[float, str]] = []
        self.late: list[tuple[float, str]] = []
        self._began_at = time.monotonic()
        self._lock = threading.Lock()

    def run(self) -> None:
        actors = [self._write, self._lose, self._read_uncached, *[self._read_cached] * 4]
        with ThreadPoolExecutor(len(actors)) as pool:
            for done in [pool.submit(actor, random.Random(self.dice.random())) for actor in actors]:
                done.result()

    def is_all_along(self, seen: list[tuple[float, str]]) -> bool:
        """Say whether some of it was seen in each part of the history."""
        part_seconds = HISTORY_SECONDS / PARTS_OF_HISTORY
        parts = {int((moment - self._began_at) / part_seconds) for moment, _ in seen}
        return parts >= set(range(PARTS_OF_HISTORY))

    def _goes_on(self) -> bool:
        return time.monotonic() < self._began_at + HISTORY_SECONDS

    def _write(self, dice: random.Random) -> None:
        client = editor(self.store)
        while self._goes_on():
            self.written += 1
            client.reprice(1, self.written)
            self.acknowledged = self.written
            time.sleep(dice.choice([0.01, 0.1, 0.5]))

    def _lose(self, dice: random.Random) -> None:
        while self._goes_on():
            keys = list(self.redis.scan_iter("*:product*"))
            if keys:
                self.redis.delete(dice.choice(keys))
            time.sleep(dice.uniform(0.05, 0.3))

    def _read_cached(self, dice: random.Random) -> None:
        paths = ["/store/cached/", "/store/cached/?limit=1", "/store/products/?limit=1"]
        while self._goes_on():
            self._read(dice.choice(paths), self.stale)
            time.sleep(dice.uniform(0, 0.03))

    def _read_uncached(self, dice: random.Random) -> None:
        while self._goes_on():
            self._read("/store/?limit=1", self.late)
            time.sleep(dice.uniform(0, 0.1))

    def _read(self, path: str, older: list[tuple[float, str]]) -> None:
        moment, floor = time.monotonic(), self.acknowledged
        answer = self.store.get(path)
        found = prices(answer)[0]
        assert answer.status in (200, 201)
        assert found is not None
        with self._lock:
            self.reads += 1
            if found < floor:
                older.append((moment, f"{path}: {found} after {floor}"))


@pytest.mark.parametrize("fills_from", ["primary", "replicas"])
def test_no_cached_list_is_what_a_lagging_replica_said_after_a_write(
    open_store, servers, variables, fills_from
):
    """With fills from replicas, which is wrong, the same history has to find old lists all along."""
    # Replicas may be read for longer than they lag, so that they are read at any time. A lag of one
    # second is one of up to two on MySQL, which counts whole seconds.
    may_lag = {"MYSQL_REPLICA_MAX_LAG": "10", "MYSQL_TIMEOUT_SECONDS": "10"}
    store = open_store(*(NAIVE if fills_from == "replicas" else ()), **may_lag)
    servers.delay(1)
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    history = History(store, Redis.from_url(variables["REDIS_URL"]), seed)
    history.run()
    late, stale = history.late, history.stale
    print(f"{history.reads} reads, {len(late)} late, {len(stale)} stale, {history.written} written")
    assert history.is_all_along(late), "replicas that lagged were not read all along"
    if fills_from == "replicas":
        assert history.is_all_along(stale)
    else:
        assert stale == []


# --- How late a read may be -----------------------------------------------------------------------


def latest(store: StoreProcess, changed_at: float, new: int, path: str) -> tuple[int, float]:
    """Read for longer than replicas lag; return how many reads were old, and when the last one began."""
    old, last = 0, 0.0
    while time.monotonic() < changed_at + DELAY_SECONDS + 1:
        began = time.monotonic()
        if price(store, path) != new:
            old, last = old + 1, began - changed_at
        time.sleep(0.01)
    return old, last


def test_an_uncached_list_is_late_by_no_more_than_the_bound(open_store, servers):
    store = open_store()
    servers.delay(DELAY_SECONDS)
    late = []
    for new in (FIRST_PRICE + 1, FIRST_PRICE + 2):
        servers.catch_up()
        wait_until_read(store, servers)
        editor(store).reprice(1, new)
        old, last = latest(store, time.monotonic(), new, "/store/?limit=1")
        print(f"{old} reads were old, the last {last:.3f} s after the write")
        late.append(old)
        assert last < MAX_LAG_SECONDS
    assert any(late), "no replica was read while it lagged, so that this test has shown nothing"


def test_a_replica_that_stands_still_is_read_no_more_until_it_has_caught_up(open_store, servers):
    store = open_store()
    first, second = servers.replicas
    first.stand_still()
    editor(store).reprice(1, FIRST_PRICE + 1)
    time.sleep(MAX_LAG_SECONDS)
    with first.counting(TABLE) as on_first, second.counting(TABLE) as on_second:
        assert {prices(answer)[0] for _, answer in ask(store, 40)} == {FIRST_PRICE + 1}
    assert on_first == []
    assert len(on_second) >= 30
    first.catch_up_again()
    wait_until_read(store, servers)


def test_a_replica_that_has_not_heard_of_writes_is_not_believed(open_store, servers):
    """Behind a dead line it takes itself for up to date."""
    store = open_store()
    first = servers.replicas[0]
    line = Line(servers.primary.port)
    try:
        servers.follow(first, line.port)
        servers.catch_up()
        wait_until_read(store, servers)
        line.go_dead()
        editor(store).reprice(1, FIRST_PRICE + 1)
        time.sleep(MAX_LAG_SECONDS)
        assert first.own_delay_seconds() == 0
        with first.counting(TABLE) as on_first:
            assert {prices(answer)[0] for _, answer in ask(store, 40)} == {FIRST_PRICE + 1}
        assert on_first == []
    finally:
        line.close()


# --- Who writes reads what they wrote -------------------------------------------------------------


@pytest.mark.parametrize("how", ["session", "basic"])
def test_who_writes_reads_their_own_writes_at_once_though_all_replicas_lag(
    open_store, servers, how
):
    store = open_store()
    servers.delay(DELAY_SECONDS)
    mine = Browser(store, signs_in_each_time=how == "basic")
    if how == "session":
        mine.sign_in()
    others_saw_old = False
    for new in range(FIRST_PRICE + 1, FIRST_PRICE + 4):
        servers.catch_up()
        wait_until_read(store, servers)
        mine.reprice(1, new)
        others_saw_old |= any(prices(answer)[0] != new for _, answer in ask(store, 8))
        ends_at = time.monotonic() + DELAY_SECONDS + 1
        while time.monotonic() < ends_at:
            assert mine.get("/store/?limit=1")["results"][0]["price"] == new
            assert mine.get("/store/products/1/")["price"] == new
            assert mine.get("/store/products/?limit=1")["results"][0]["price"] == new
            assert shown(mine.request("/shop/1/", accept="text/html")[1]) == new
            if how == "session":
                _, form = mine.request("/admin/store/product/1/change/", accept="text/html")
                assert f'value="{new}"' in form
            time.sleep(0.02)
    assert others_saw_old, (
        "no replica was read while it lagged, so that this test has shown nothing"
    )


def shown(page: str) -> int:
    found = re.search(r'data-price="(\d+)"', page)
    assert found, page
    return int(found[1])


def test_who_only_reads_gets_no_cookie(open_store):
    store = open_store()
    visitor = Browser(store)
    for path in ("/store/", "/store/cached/", "/store/products/"):
        visitor.get(path)
    assert len(visitor.jar) == 0


# --- Replicas that fail ---------------------------------------------------------------------------


class Crowd:
    """Readers who go on asking while something happens; `answers` has what they got, and how quickly."""

    def __init__(self, store: StoreProcess) -> None:
        self.store = store
        self.answers: list[tuple[float, float, int]] = []  # when, seconds, status
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            status = self.store.get("/store/?limit=1").status
            self.answers.append((began, time.monotonic() - began, status))
            time.sleep(0.02)

    def seconds_since(self, moment: float) -> list[float]:
        return [seconds for began, seconds, _ in self.answers if began > moment]


@pytest.mark.parametrize("how", ["kill", "hang"])
@pytest.mark.parametrize("count", [1, 2])
def test_replicas_that_fail_make_no_read_fail_and_none_wait_for_long(
    open_store, servers, how, count
):
    store = open_store(
        MYSQL_REPLICA_MAX_LAG="20"
    )  # It is not for want of a proof that they are left alone.
    failing = servers.replicas[:count]
    with Crowd(store) as crowd:
        time.sleep(0.5)
        for replica in failing:
            getattr(replica, how)()
        time.sleep(count * (TIMEOUT_SECONDS + CONNECT_SECONDS))
        settled_at = time.monotonic()
        time.sleep(2)
        before = reads(store)
        time.sleep(1)
        after = reads(store)
        for replica in failing:
            replica.go_on()
    wait_until_read(store, servers)
    assert {status for *_, status in crowd.answers} == {200}
    slowest = max(seconds for _, seconds, _ in crowd.answers)
    settled = crowd.seconds_since(settled_at)
    nine_of_ten = statistics.quantiles(settled, n=10)[-1]
    print(f"slowest {slowest:.2f} s, later nine of ten within {nine_of_ten * 1000:.1f} ms")
    assert slowest < count * (TIMEOUT_SECONDS + CONNECT_SECONDS) + NOISE_SECONDS
    # Who comes later does not wait for what is known to be down.
    assert nine_of_ten < CONNECT_SECONDS / 2
    for number, _ in enumerate(failing, start=1):
        assert after.get(f"replica_{number}", 0) == before.get(f"replica_{number}", 0)
    assert sum(after.values()) > sum(before.values())


def test_a_query_that_takes_too_long_is_asked_of_one_replica_and_none_is_left_alone(
    open_store, servers
):
    store = open_store("--workers", "1", MYSQL_REPLICA_MAX_LAG="20")
    first, second = servers.replicas
    with (
        servers.primary.counting(TABLE) as on_primary,
        first.counting(TABLE) as on_first,
        second.counting(TABLE) as on_second,
        first.locking(TABLE),
        second.locking(TABLE),
    ):
        ((seconds, answer),) = ask(store, 1)
    assert answer.status == 200
    assert TIMEOUT_SECONDS <= seconds < TIMEOUT_SECONDS + NOISE_SECONDS
    assert (len(on_first) + len(on_second), len(on_primary)) == (1, 1)
    before = reads(store)
    ask(store, 24)
    after = reads(store)
    assert {name for name in after if after[name] > before.get(name, 0)} == {
        "replica_1",
        "replica_2",
    }
    assert "left alone" not in store.log.read_text()


def test_a_query_that_takes_the_primary_too_long_as_well_is_503_and_replicas_go_on(
    open_store, servers
):
    store = open_store("--workers", "1", MYSQL_REPLICA_MAX_LAG="20")
    with contextlib.ExitStack() as stack:
        for server in (servers.primary, *servers.replicas):
            stack.enter_context(server.locking(TABLE))
        ((seconds, answer),) = ask(store, 1)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert seconds < 2 * TIMEOUT_SECONDS + NOISE_SECONDS
    assert {answer.status for _, answer in ask(store, 24)} == {200}


def test_what_may_be_late_is_counted_once_it_is_answered_and_nothing_else_is(open_store, servers):
    store = open_store("--workers", "1")
    before = reads(store)
    assert editor(store).get("/store/?limit=1")["results"]
    assert editor(store).get("/store/products/1/")["price"] == FIRST_PRICE
    assert reads(store) == before
    servers.primary.kill()
    time.sleep(MAX_LAG_SECONDS + 0.1)
    before = reads(store)
    assert {answer.status for _, answer in ask(store, 20)} == {503}
    assert reads(store) == before


def test_without_the_primary_nothing_is_late_by_more_than_the_bound(open_store, servers):
    """Nobody could tell how far behind a replica is: hits go on, other reads are refused."""
    store = open_store()
    assert store.get("/store/cached/").status == 201
    servers.primary.kill()
    time.sleep(MAX_LAG_SECONDS + 0.1)
    assert {answer.status for _, answer in ask(store, 20)} == {503}
    assert {answer.status for _, answer in ask(store, 20, "/store/cached/")} == {200}
    servers.primary.go_on()
    wait_until_read(store, servers)
