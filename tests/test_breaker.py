"""What counts as an outage, and what is the trouble of one request alone."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

import orjson
import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.http import Http404
from redis import Redis

from freshcache import database_errors
from freshcache.circuit_breaker import Breaker, Unavailable, Verdict
from freshcache.source import database
from store import abandoned_statements, catalogue, throttling
from store.connections import ask_queue_redis, queue_breaker
from store.models import Product
from store.product_query import ALL_PRODUCTS
from tests.configuration import configure
from tests.line import Line
from tests.servers import free_port, start_redis
from tests.test_http_caching import database_out_of_reach
from tests.waiting import wait_for

on_database = pytest.mark.django_db(transaction=True)
SHORT_SECONDS = 0.2


def run(sql: str) -> Callable[[], None]:
    def execute() -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            cursor.fetchall()

    return execute


# --- The breaker ------------------------------------------------------------------------------------


class Trouble(Exception):
    pass


@pytest.mark.parametrize("answer", [KeyError, Trouble])
def test_whatever_was_answered_closes_a_breaker_that_is_half_open(answer):
    now = [0.0]
    verdicts = {"down": Verdict.DOWN, "refused": Verdict.ANSWERED}

    def judge(error: Exception, _was_down: bool) -> Verdict:
        return verdicts.get(str(error.args[0]), Verdict.ANSWERED)

    def fail(error: Exception) -> Any:
        raise error

    breaker = Breaker("It", (Trouble,), judge, clock=lambda: now[0])
    with pytest.raises(Unavailable):
        breaker.call(lambda: fail(Trouble("down")))
    now[0] += 1.1
    with pytest.raises((answer, Unavailable)):
        breaker.call(lambda: fail(answer("refused")))
    assert breaker.call(lambda: 1) == 1


def test_one_call_a_second_tries_what_is_down_until_one_succeeds():
    now, calls = [0.0], []
    breaker = Breaker("It", (Trouble,), lambda *_: Verdict.DOWN, clock=lambda: now[0])

    def fail() -> None:
        calls.append(now[0])
        raise Trouble

    def succeed_beside_another() -> int:
        with ThreadPoolExecutor(1) as another, pytest.raises(Unavailable):
            another.submit(breaker.call, fail).result()
        return 1

    for _ in range(3):
        with pytest.raises(Unavailable):
            breaker.call(fail)
    now[0] += 1.1
    assert breaker.call(succeed_beside_another) == 1
    assert calls == [0.0]
    assert breaker.call(lambda: 2) == 2


def test_an_answer_that_is_no_failure_reaches_the_caller():
    breaker = Breaker("It", (Trouble,), lambda *_: Verdict.ANSWERED)
    with pytest.raises(KeyError):
        breaker.call(lambda: {}["no such product"])


def test_the_one_call_that_tries_may_ask_within_itself():
    now = [0.0]
    breaker = Breaker("It", (Trouble,), lambda *_: Verdict.DOWN, clock=lambda: now[0])

    def fail() -> None:
        raise Trouble

    with pytest.raises(Unavailable):
        breaker.call(fail)
    now[0] += 1.1
    assert breaker.call(lambda: breaker.call(lambda: 1)) == 1


# --- The database -----------------------------------------------------------------------------------


@on_database
def test_a_database_out_of_reach_is_an_outage_that_a_missing_product_ends(books):
    with database_out_of_reach():
        for _ in range(2):
            with pytest.raises(Unavailable):
                catalogue.list_products(ALL_PRODUCTS)
        assert connection.connection is None
    with database_out_of_reach(), pytest.raises(Unavailable):
        catalogue.list_products(ALL_PRODUCTS)
    database._next_try = 0.0
    with pytest.raises(Product.DoesNotExist):
        catalogue.find_product(0)
    assert catalogue.list_products(ALL_PRODUCTS).fetched.body


@on_database
@pytest.mark.parametrize("error", [Http404, KeyError, ValidationError("no number")])
def test_what_was_raised_before_the_database_was_asked_ends_no_outage(books, error):
    def refuse() -> None:
        raise error

    with database_out_of_reach():
        with pytest.raises(Unavailable):
            catalogue.list_products(ALL_PRODUCTS)
        database._next_try = 0.0
        with pytest.raises((Http404, KeyError, ValidationError)):
            database.call(refuse)
        assert database._next_try is not None
        database._next_try = 0.0
    assert catalogue.list_products(ALL_PRODUCTS).fetched.body
    assert database._next_try is None


REFUSED = {
    "sqlite": {
        "a missing table": run("SELECT * FROM missing"),
        "a missing function": run("SELECT missing(1)"),
    },
    "mysql": {
        "mixed collations": run("SELECT 'a' COLLATE utf8mb4_bin = 'b' COLLATE utf8mb4_general_ci"),
        "a statement that is stopped": run("KILL QUERY CONNECTION_ID()"),
        "a connection that is killed": run("KILL CONNECTION_ID()"),
        "a wrong value": run("SELECT CAST('x' AS DATETIME) UNION SELECT 1 FROM missing.missing"),
    },
}


@on_database
@pytest.mark.parametrize("name", [name for found in REFUSED.values() for name in found])
def test_a_statement_that_fails_is_the_trouble_of_one_request(name, books):
    statements = REFUSED[connection.vendor]
    if name not in statements:
        pytest.skip("of the other database")
    with pytest.raises((Unavailable, DatabaseError)):
        database.call(statements[name])
    assert database._next_try is None
    assert catalogue.list_products(ALL_PRODUCTS).fetched.body


@on_database
def test_a_locked_database_is_no_outage(books):
    if connection.vendor != "sqlite":
        pytest.skip("of SQLite")
    with closing(connections.create_connection("default")) as other, other.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        run("PRAGMA busy_timeout = 10")()
        with pytest.raises(Unavailable):
            database.call(run("UPDATE store_product SET price = 1"))
        assert catalogue.list_products(ALL_PRODUCTS).fetched.body
    connection.close()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    before = connection.settings_dict["OPTIONS"]["init_command"]
    connection.settings_dict["OPTIONS"]["init_command"] += abandoned_statements._limits(seconds)
    connection.close()
    try:
        yield
    finally:
        connection.settings_dict["OPTIONS"]["init_command"] = before
        connection.close()


SLOW = (
    "SELECT COUNT(*) FROM information_schema.collations a, information_schema.collations b, "
    "information_schema.collations c WHERE CONCAT(a.id, b.id, c.id) = 'none'"
)


@on_database
@pytest.mark.mysql
def test_a_statement_that_takes_too_long_is_stopped_by_the_server_and_503(books, client, caplog):
    with limited(SHORT_SECONDS):
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(Unavailable):
                database.call(run(SLOW))
        assert time.monotonic() - began < 10
        assert catalogue.list_products(ALL_PRODUCTS).fetched.body
        assert statements_like("information_schema.collations a") == 0
    assert len([record for record in caplog.records if "did not do" in record.message]) == 1


def statements_like(text: str) -> int:
    with closing(database_errors.another_connection()) as other, other.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE %s"
            " AND id <> CONNECTION_ID()",
            [f"%{text}%"],
        )
        return int(cursor.fetchone()[0])


@contextmanager
def impatient(port: int | None = None) -> Iterator[None]:
    """This process' connection waits one second for an answer."""
    before = dict(connection.settings_dict)
    options = before["OPTIONS"] | {"read_timeout": 1, "connect_timeout": 1}
    connection.close()
    connection.settings_dict |= {"OPTIONS": options, "PORT": port or before["PORT"]}
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


@on_database
@pytest.mark.mysql
def test_a_read_that_the_client_gives_up_on_is_no_outage_if_the_server_answers(books):
    with impatient():
        with pytest.raises(Unavailable):
            database.call(run("SELECT SLEEP(1.5)"))
        assert catalogue.list_products(ALL_PRODUCTS).fetched.body


@on_database
@pytest.mark.mysql
def test_a_server_that_does_not_answer_at_all_is_an_outage(books):
    line = Line(int(connection.settings_dict["PORT"]))
    with closing(line), impatient(line.port):
        run("SELECT 1")()
        line.go_dead()
        with pytest.raises(Unavailable):
            database.call(run("SELECT 1"))
        assert database._next_try is not None
        line.mend()


# --- What a client has given up on ------------------------------------------------------------------


SLOW_UPDATE = "UPDATE store_product SET price = 77 WHERE SLEEP(%s) = 0"


def seen_prices() -> list[int | None]:
    body = catalogue.list_products_cached(ALL_PRODUCTS).fetched.body
    return [product["price"] for product in orjson.loads(body)]


@on_database
@pytest.mark.mysql
def test_an_update_that_the_client_gives_up_on_is_not_carried_out(books):
    seen_prices()
    with impatient(), pytest.raises(OperationalError):
        run(SLOW_UPDATE % 0.6)()
    assert seen_prices() == [1000, 2000, None]
    time.sleep(1)
    assert list(Product.objects.values_list("price", flat=True)) == [1000, 2000, None]
    assert seen_prices() == [1000, 2000, None]


ROUTINE = "BEGIN DO SLEEP(1.6); UPDATE store_product SET price = 77"
WRITES_BEHIND = {
    "a stored function": lambda cursor: cursor.execute("SELECT slow()"),
    "a call": lambda cursor: cursor.callproc("slowly"),
    "the first result": lambda cursor: (
        cursor.execute("SELECT 1; DO SLEEP(1.6); UPDATE store_product SET price = 77"),
        cursor.nextset(),
        cursor.nextset(),
    ),
}


@on_database
@pytest.mark.mysql
@pytest.mark.parametrize("what", WRITES_BEHIND)
def test_what_is_behind_an_answer_that_the_client_gives_up_on_is_not_carried_out(books, what):
    run("DROP FUNCTION IF EXISTS slow")()
    run("DROP PROCEDURE IF EXISTS slowly")()
    run(f"CREATE FUNCTION slow() RETURNS INT {ROUTINE}; RETURN 1; END")()
    run(f"CREATE PROCEDURE slowly() {ROUTINE}; END")()
    seen_prices()
    with impatient(), connection.cursor() as cursor, pytest.raises(OperationalError):
        WRITES_BEHIND[what](cursor)
    connection.close()
    assert seen_prices() == [1000, 2000, None]
    time.sleep(1)
    assert seen_prices() == list(Product.objects.order_by("id").values_list("price", flat=True))


@on_database
@pytest.mark.mysql
@pytest.mark.alone  # It locks the whole server.
def test_a_commit_that_the_client_gives_up_on_is_not_carried_out(books):
    seen_prices()
    with closing(database_errors.another_connection()) as other, other.cursor() as cursor:
        with impatient(), pytest.raises(OperationalError), transaction.atomic():
            Product.objects.update(price=77)
            cursor.execute("FLUSH TABLES WITH READ LOCK")
        assert seen_prices() == [1000, 2000, None]
        cursor.execute("UNLOCK TABLES")
        # If the server is too slow to be told, it is told again.
        wait_for(lambda: seen_prices() == list(Product.objects.values_list("price", flat=True)))


@on_database
@pytest.mark.mysql
def test_an_update_that_cannot_be_stopped_is_told_of_once_it_has_ended(books):
    line = Line(int(connection.settings_dict["PORT"]))
    with closing(line), impatient(line.port):
        run("SELECT 1")()
        timer = threading.Timer(0.3, line.go_dead)
        timer.start()
        with pytest.raises(OperationalError):
            run(SLOW_UPDATE % 0.9)()
        timer.join()
        connection.close()
        connection.settings_dict["PORT"] = settings.MYSQL_PORT
        assert seen_prices() == [1000, 2000, None]
        wait_for(lambda: statements_like("UPDATE store_product") == 0)
        assert seen_prices() == [1000, 2000, None]
        assert Product.objects.filter(price=77).count() == len(books)
        line.mend()
        wait_for(lambda: seen_prices() == [77, 77, 77])
        wait_for(lambda: "abandoned-statements" not in {one.name for one in threading.enumerate()})


# --- Redis ------------------------------------------------------------------------------------------


@pytest.fixture
def line(settings: Any) -> Iterator[Line]:
    """A line to a Redis of the suite's, for what is no cache, with a short patience."""
    server = start_redis(free_port())
    made = Line(server.port)
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{made.port}/0"
    configure(settings, READ_SECONDS=SHORT_SECONDS)
    made.server = Redis(port=server.port)  # type: ignore[attr-defined]
    yield made
    made.close()
    server.kill()


@pytest.mark.parametrize(
    "command",
    [
        lambda redis: redis.blpop("nothing", SHORT_SECONDS * 2),  # slow
        lambda redis: redis.incr("a list"),  # of another type
        lambda redis: redis.eval("return redis.call('GET')", 0),
        lambda redis: redis.execute_command("CONFIG", "SET", "port", "x"),
        lambda redis: redis.client_kill_filter(_id=redis.client_id(), skipme=False),
    ],
    ids=["slow", "wrong type", "script", "config", "killed"],
)
def test_one_command_that_goes_wrong_is_no_outage_of_the_queue(line, command):
    line.server.rpush("a list", 1)
    with suppress(Unavailable):
        ask_queue_redis(command)
    assert queue_breaker._next_try is None
    wait_for(answers)
    assert queue_breaker._next_try is None


def answers() -> bool:
    with suppress(Unavailable):
        return bool(ask_queue_redis(lambda redis: redis.ping()))
    return False


def test_a_refused_mark_of_the_throttles_is_no_outage_for_counts(line, settings):
    settings.CACHES = {
        **settings.CACHES,
        "throttle": {**settings.CACHES["throttle"], "LOCATION": settings.QUEUE_REDIS_URL},
    }
    line.server.config_set("maxmemory", "1")
    with pytest.raises(Unavailable):
        throttling.remember("a", "b", seconds=60, at_most=3)
    throttling.count((3, 60), "a")


def test_a_redis_that_is_gone_is_an_outage_of_the_queue(line):
    ask_queue_redis(lambda redis: redis.ping())
    line.go_dead()
    with pytest.raises(Unavailable):
        ask_queue_redis(lambda redis: redis.ping())
    assert queue_breaker._next_try is not None
