"""The database in trouble: what is cached is served, the rest is answered 503 and at once."""

import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Protocol

import pytest
from django.conf import settings
from django.db import connection
from mirakuru import TCPExecutor
from redis import Redis

from store.models import Product
from tests import preloaded
from tests.line import Line
from tests.processes import Answer, StoreProcess
from tests.servers import free_port, start_mysql, start_redis
from tests.visitors import ask_at_once, cookies, is_hit, prices, reprice
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

NOISE_SECONDS = 2  # what a busy machine may add to any promise
RETRY_SECONDS = 1
BOOKS = [1000, 2000, None]


class Outage(Protocol):
    """A database that can be made to fail and to work again."""

    variables: dict[str, str]

    def fail(self) -> None: ...
    def mend(self) -> None: ...


class MissingTable:
    """SQLite has no server that could go; without the table each query fails in the same way."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self._failed = False

    def fail(self) -> None:
        self._run("ALTER TABLE store_product RENAME TO away")
        self._failed = True

    def mend(self) -> None:
        if self._failed:
            self._run("ALTER TABLE away RENAME TO store_product")
            self._failed = False

    def _run(self, sql: str) -> None:
        # Not through Django, which would take it for a write to the products.
        with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=10)) as database:
            database.execute(sql)


class CutLine:
    """The suite's MySQL server behind a line that is cut."""

    def __init__(self) -> None:
        self.line = Line(settings.MYSQL_PORT)
        self.variables = {"MYSQL_PORT": str(self.line.port)}
        self.fail, self.mend = self.line.cut, self.line.mend


@pytest.fixture
def database(transactional_db) -> Iterator[Outage]:
    if not settings.MYSQL_HOST:
        missing = MissingTable()
        yield missing
        missing.mend()
        return
    cut = CutLine()
    yield cut
    cut.line.close()


@pytest.fixture
def open_on(open_store, database) -> Callable[..., StoreProcess]:
    """Open a store on `database`; one worker, as each has a breaker of its own."""

    def open_one(workers: int = 1, **variables: str) -> StoreProcess:
        threads = ("--workers", str(workers), "--threads", "4")
        return open_store(*threads, **database.variables, **variables)

    return open_one


# --- What is served from the cache ----------------------------------------------------------------


def test_a_valid_entry_is_served_while_the_database_is_down(open_on, database, books):
    store = open_on(workers=2)
    store.get("/store/cached/")
    database.fail()
    for answer in ask_at_once(store):
        assert (answer.status, prices(answer)) == (200, BOOKS)
        assert is_hit(answer)
        assert "stale" not in answer.json


def test_an_entry_due_for_its_refresh_is_served_while_the_database_is_down(
    open_on, database, books, redis
):
    store = open_on(CACHE_TTL="3")
    store.get("/store/cached/")
    key = entry_key()
    database.fail()
    redis.pexpire(key, 250)  # in the last tenth of its life
    answer = store.get("/store/cached/")
    assert (answer.status, prices(answer)) == (200, BOOKS)


def test_past_its_lifetime_the_last_good_list_is_served_and_marked(open_on, database, books, redis):
    store = open_on(workers=2, CACHE_TTL="1")
    store.get("/store/cached/")
    database.fail()
    wait_until_expired(redis)
    for answer in ask_at_once(store):
        assert (answer.status, prices(answer)) == (200, BOOKS)
        assert (answer.json["stale"], answer.json["from_cache"]) == (True, True)
        assert re.fullmatch(
            r"store; hit; ttl=-\d+; detail=stale-if-error", answer.headers["Cache-Status"]
        )
        assert int(answer.headers["Age"]) >= 0


def test_a_filtered_list_has_a_last_good_one_too(open_on, database, books, redis):
    store = open_on(CACHE_TTL="1")
    path = "/store/cached/?min_price=1500"
    store.get(path)
    database.fail()
    wait_for(lambda: not list(redis.scan_iter(f"{settings.PROJECT_NAME}:*:slot:[0-9]*[0-9]")))
    answer = store.get(path)
    assert (answer.status, prices(answer), answer.json["stale"]) == (200, [2000], True)


def test_a_list_that_a_write_has_made_old_bridges_no_outage(open_on, database, books, redis):
    store = open_on(CACHE_TTL="1")
    store.get("/store/cached/")
    wait_until_expired(redis)
    Product.objects.update(price=77)
    database.fail()
    assert_unavailable(store.get("/store/cached/"))


def test_with_stale_if_error_0_no_old_list_is_served(open_on, database, books, redis):
    store = open_on(CACHE_TTL="1", CACHE_STALE_IF_ERROR="0")
    store.get("/store/cached/")
    wait_until_expired(redis)
    database.fail()
    assert_unavailable(store.get("/store/cached/"))


def test_the_last_good_list_is_served_so_long_and_no_longer(open_on, database, books, redis):
    store = open_on(CACHE_TTL="1", CACHE_STALE_IF_ERROR="2")
    store.get("/store/cached/")
    database.fail()
    stale = f"{entry_key()}:stale"
    assert redis.pttl(stale) <= 3000  # CACHE_TTL, less a bit, and CACHE_STALE_IF_ERROR
    wait_for(lambda: not redis.exists(stale))
    assert_unavailable(store.get("/store/cached/"))


# --- What is not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/store/", "/store/cached/", "/store/products/"])
def test_what_no_cache_holds_is_503_as_json_at_once(path, open_on, database, books):
    store = open_on()
    database.fail()
    for _ in range(3):
        answer, seconds = timed(store, path)
        assert_unavailable(answer)
        assert seconds < NOISE_SECONDS


def test_a_write_without_the_database_is_503(open_on, database, editor, books):
    store = open_on(SECRET_KEY=settings.SECRET_KEY)
    page = "/admin/store/product/"
    assert store.get(page, cookies(editor)).status == 200
    database.fail()
    assert reprice(store, editor, books[0], 77) == 503
    answer = store.get(page, {**cookies(editor), "Accept": "text/html"})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert answer.headers["Content-Type"].startswith("text/html")
    database.mend()
    books[0].refresh_from_db()
    assert books[0].price == 1000


@pytest.mark.mysql
def test_the_database_is_used_again_soon_after_it_is_back(open_on, database, books):
    store = open_on(workers=2)
    assert [answer.status for answer in ask_at_once(store, path="/store/")] == [200] * 16
    database.fail()
    assert [answer.status for answer in ask_at_once(store, path="/store/")] == [503] * 16
    database.mend()
    began = time.monotonic()
    downs = store.log.read_text().count("The database is down")
    assert 1 <= downs <= 2  # once a worker

    def all_are_back() -> bool:
        # 16 at once may all be answered by one worker, so the log has to name the other, too.
        statuses = {answer.status for answer in ask_at_once(store, path="/store/")}
        return statuses == {200} and store.log.read_text().count("The database is back") == downs

    wait_for(all_are_back, seconds=RETRY_SECONDS + 2 * NOISE_SECONDS)
    assert prices(store.get("/store/cached/")) == BOOKS
    assert time.monotonic() - began < RETRY_SECONDS + 3 * NOISE_SECONDS
    assert store.log.read_text().count("The database is down") == downs


@pytest.mark.mysql
def test_one_request_a_second_tries_a_database_that_is_down(open_on, database, books):
    store = open_on()
    store.get("/store/")
    database.fail()
    ask_at_once(store, 4, "/store/")
    began, before = time.monotonic(), database.line.connections

    def has_tried() -> bool:
        for path in ("/store/", "/store/cached/"):
            assert {answer.status for answer in ask_at_once(store, 4, path)} == {503}
        return time.monotonic() >= began + 2 and database.line.connections > before

    wait_for(has_tried, 2 + RETRY_SECONDS + NOISE_SECONDS)
    assert database.line.connections - before <= time.monotonic() - began + 1


def test_without_database_and_redis_all_is_503_within_a_second(open_on, database, books):
    store = open_on(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", SECRET_KEY=settings.SECRET_KEY)
    database.fail()
    for path in ("/store/cached/", "/store/", "/store/products/", "/store/cached/"):
        answer, seconds = timed(store, path)
        assert_unavailable(answer)
        assert seconds < 1 + NOISE_SECONDS


def test_redis_that_goes_with_the_database_leaves_nothing_old_to_serve(open_on, database, books):
    server = start_redis(free_port())
    url = f"redis://127.0.0.1:{server.port}/0"
    store = open_on(REDIS_URL=url, SECRET_KEY=settings.SECRET_KEY)
    store.get("/store/cached/")
    server.kill()
    database.fail()
    for _ in range(3):
        answer, seconds = timed(store, "/store/cached/")
        assert_unavailable(answer)
        assert seconds < 1 + NOISE_SECONDS


# --- A server that is killed, a server that hangs -------------------------------------------------

# A query may take MYSQL_TIMEOUT_SECONDS, after as long for the health check of a connection that was
# open before, and connecting half as long.
MYSQL_TIMEOUT_SECONDS = 2
LONGEST_SECONDS = MYSQL_TIMEOUT_SECONDS // 2 + 2 * MYSQL_TIMEOUT_SECONDS


@pytest.fixture(scope="module")
def killable_mysql(django_db_setup) -> Iterator[TCPExecutor]:
    """A server of this file's own, with the demo catalogue."""
    server = start_mysql(free_port())
    name = connection.settings_dict["NAME"]
    environment = {**os.environ, "MYSQL_PORT": str(server.port), "MYSQL_NAME": name}
    preloaded.run(["manage.py", "prepare"], environment).check_returncode()
    yield server
    server.kill()


@pytest.fixture
def own_mysql(killable_mysql) -> Iterator[TCPExecutor]:
    """A server that may be killed and stopped."""
    yield killable_mysql
    if killable_mysql.running():
        os.kill(killable_mysql.process.pid, signal.SIGCONT)
    else:
        killable_mysql.start()


def open_on_own(open_store, server: TCPExecutor, **variables: Any) -> StoreProcess:
    variables |= {"MYSQL_PORT": str(server.port)}
    variables |= {"MYSQL_TIMEOUT_SECONDS": str(MYSQL_TIMEOUT_SECONDS)}
    return open_store("--workers", "1", "--threads", "4", **variables)


@pytest.mark.mysql
def test_a_killed_server_is_bridged_and_used_again_once_it_is_back(own_mysql, open_store):
    store = open_on_own(open_store, own_mysql)
    whole = store.get("/store/cached/").json["results"]
    assert len(whole) == 234
    own_mysql.kill()
    assert_unavailable(store.get("/store/"))
    assert store.get("/store/cached/").json["results"] == whole
    own_mysql.start()
    # The first connection to a server that has just started may take too long: twice, then.
    patience = 2 * (RETRY_SECONDS + 1) + 2 * NOISE_SECONDS
    wait_for(lambda: store.get("/store/").status == 200, patience)
    assert store.get("/store/").json["results"] == whole


@pytest.mark.mysql
def test_a_hung_server_holds_up_nobody_for_long(own_mysql, open_store):
    store = open_on_own(open_store, own_mysql)
    assert store.get("/store/").status == 200
    assert store.get("/store/cached/").status == 201
    os.kill(own_mysql.process.pid, signal.SIGSTOP)
    answer, seconds = timed(store, "/store/cached/")
    assert is_hit(answer)
    assert seconds < NOISE_SECONDS
    for answer, seconds in [timed(store, "/store/") for _ in range(3)]:
        assert_unavailable(answer)
        assert seconds < LONGEST_SECONDS + NOISE_SECONDS
    waits = sorted(timed(store, "/store/")[1] for _ in range(20))
    assert waits[10] < NOISE_SECONDS  # One a second tries, the others know already.
    os.kill(own_mysql.process.pid, signal.SIGCONT)
    wait_for(lambda: store.get("/store/").status == 200, LONGEST_SECONDS + 2 * NOISE_SECONDS)


@pytest.mark.mysql
def test_with_both_servers_hung_every_request_is_answered_in_bounded_time(own_mysql, open_store):
    redis = start_redis(free_port())
    url = f"redis://127.0.0.1:{redis.port}/0"
    store = open_on_own(open_store, own_mysql, REDIS_URL=url)
    assert store.get("/store/").status == 200
    wait_for(lambda: is_hit(store.get("/store/cached/")))
    os.kill(own_mysql.process.pid, signal.SIGSTOP)
    os.kill(redis.process.pid, signal.SIGSTOP)
    try:
        for path in ("/store/cached/", "/store/", "/store/cached/", "/store/"):
            answer, seconds = timed(store, path)
            assert_unavailable(answer)
            assert seconds < LONGEST_SECONDS + NOISE_SECONDS
        began = time.monotonic()
        answers = ask_at_once(store, 20)
        assert time.monotonic() - began < LONGEST_SECONDS + NOISE_SECONDS
        for answer in answers:
            assert_unavailable(answer)
    finally:
        redis.kill()


# --- What the promises are measured with ----------------------------------------------------------


def entry_key() -> str:
    return f"{settings.PROJECT_NAME}:1:product"


def wait_until_expired(redis: Redis) -> None:
    assert redis.pttl(entry_key()) <= 1000
    wait_for(lambda: not redis.exists(entry_key()))


def timed(store: StoreProcess, path: str) -> tuple[Answer, float]:
    began = time.monotonic()
    answer = store.get(path)
    return answer, time.monotonic() - began


def assert_unavailable(answer: Answer) -> None:
    assert answer.status == 503, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Retry-After"] == "1"
    assert answer.json.keys() == {"detail"}
