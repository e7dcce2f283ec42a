"""Which database is asked, and when a replica may be: here it is another connection to the primary.

Real replicas, which lag, fail and hang, are in tests/scale/test_replicas.py.
"""

import json
import time
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory

from store import catalogue, replicas, replication
from store.models import Product
from store.own_writes import COOKIE, OwnWritesMiddleware
from store.product_query import ALL_PRODUCTS
from store.replication import Replica
from tests.servers import free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

MAX_LAG_SECONDS = 60.0
ALIAS = "replica_1"
TABLE = Product._meta.db_table


@pytest.fixture
def replica(books, settings, monkeypatch) -> Iterator[Replica]:
    """A replica that has just proved itself, and proves itself when the test says so."""
    settings.DATABASE_ROUTERS = ["store.replicas.Router"]
    settings.MYSQL_REPLICA_HOST, settings.MYSQL_REPLICA_MAX_LAG = ["db2"], MAX_LAG_SECONDS
    # Not one of DATABASES, of which Django's tests would want to know.
    known = dict(connections["default"].settings_dict)
    connections[ALIAS] = type(connections["default"])(known, ALIAS)
    monkeypatch.setattr(Replica, "_name", "The replica")
    monkeypatch.setattr(Replica, "_see_to_proofs", lambda self: None)
    one = Replica(ALIAS, MAX_LAG_SECONDS, timeout_seconds=5)
    one._proved_at = time.monotonic()
    monkeypatch.setattr(replicas, "_replicas", lambda: [one])
    yield one
    connections[ALIAS].close()
    del connections[ALIAS]


@pytest.fixture
def asked(replica) -> Iterator[list[str]]:
    """What the replica has been asked about products."""
    found: list[str] = []

    def note(execute, sql, params, many, context):
        if TABLE in sql:
            found.append(sql)
        return execute(sql, params, many, context)

    with connections[ALIAS].execute_wrapper(note):
        yield found


def names() -> list[str]:
    body = catalogue.list_products(ALL_PRODUCTS).fetched.body
    return [product["name"] for product in json.loads(body)]


ALL_NAMES = ["Book A", "Book B", "Book C"]

# --- Which database is asked ----------------------------------------------------------------------


def test_only_a_read_that_may_be_late_is_sent_to_a_replica(asked):
    assert names() == ALL_NAMES
    assert asked == []
    with replicas.late():
        assert names() == ALL_NAMES
        assert len(asked) == 1
        assert Product.objects.count() == 3  # It does not say that it may be late.
    assert len(asked) == 1


def test_a_transaction_reads_the_primary(asked):
    with replicas.late(), transaction.atomic():
        assert names() == ALL_NAMES
    assert asked == []


def test_a_fill_reads_the_primary(asked, client):
    with replicas.late():
        assert client.get("/store/cached/").status_code == 201
        assert "stored" in client.get("/store/products/")["Cache-Status"]
    assert asked == []


def test_a_fill_inside_a_late_read_reads_the_primary(asked):
    def fill() -> None:
        catalogue.list_products_cached(ALL_PRODUCTS)

    with replicas.late():
        replicas.read(fill)
    assert asked == []


# --- Who reads what they wrote --------------------------------------------------------------------


def ask(method: str = "GET", **environ: str) -> HttpResponse:
    """Have a request read the list, behind the middleware."""

    def view(request) -> HttpResponse:
        return HttpResponse(names())

    request = RequestFactory().generic(method, "/", **environ)
    return OwnWritesMiddleware(view)(request)


def test_who_has_written_or_signs_in_with_each_request_reads_the_primary(asked):
    ask(HTTP_COOKIE=f"{COOKIE}=1")
    ask(HTTP_AUTHORIZATION="Basic eDp5")
    assert asked == []
    assert COOKIE not in ask().cookies
    assert len(asked) == 1


@pytest.mark.parametrize("max_lag_seconds", [0.5, 1, 2.5])
def test_a_write_reads_the_primary_and_is_remembered_for_longer_than_replicas_lag(
    asked, settings, max_lag_seconds
):
    settings.MYSQL_REPLICA_MAX_LAG = max_lag_seconds
    answer = ask("POST")
    assert asked == []
    assert answer.cookies[COOKIE]["max-age"] > max_lag_seconds


# --- Replicas that fail ---------------------------------------------------------------------------


@pytest.fixture
def down(replica) -> None:
    """The replica takes no connections."""
    known = connections[ALIAS].settings_dict
    known |= {"NAME": "/nowhere/db.sqlite3"} if not known["HOST"] else {"PORT": free_port()}


def test_a_replica_that_is_down_is_left_alone_until_it_has_proved_itself(replica, down, caplog):
    with replicas.late():
        assert names() == ALL_NAMES
        assert not replica.is_usable()
    assert "is left alone" in caplog.text


def test_a_query_that_fails_on_a_replica_is_asked_of_the_primary(replica):
    def fail(execute, sql, *rest):
        if TABLE in sql:
            raise OperationalError("it takes too long")
        return execute(sql, *rest)

    with connections[ALIAS].execute_wrapper(fail), replicas.late():
        assert names() == ALL_NAMES
    assert replica.is_usable()


def test_after_a_failure_each_thread_renews_its_connection(replica):
    connections[ALIAS].ensure_connection()
    replica._failures += 1  # in another thread
    replica.renew_connection()
    assert connections[ALIAS].connection is None


# --- Proofs ---------------------------------------------------------------------------------------


def prove(replica: Replica, monkeypatch, *, is_there: bool = True, meanwhile=lambda: None) -> None:
    """Have it prove itself; `meanwhile()` is called while the replica is asked."""

    def reaches(*_: object) -> bool:
        meanwhile()
        return is_there

    monkeypatch.setattr(replication, "position", lambda: "0-1-1")
    monkeypatch.setattr(replication, "reaches", reaches)
    replica.prove()


def test_a_proof_counts_from_when_the_primary_was_asked(replica, monkeypatch):
    now = time.monotonic()

    def later(seconds: float) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: now + seconds)

    later(0)
    prove(replica, monkeypatch, meanwhile=lambda: later(MAX_LAG_SECONDS - 1))
    assert replica.is_usable()
    later(MAX_LAG_SECONDS)
    assert not replica.is_usable()


def test_a_proof_from_before_a_failure_does_not_count(replica, monkeypatch):
    prove(replica, monkeypatch, meanwhile=lambda: replica.fail(OperationalError("it hangs")))
    assert not replica.is_usable()
    prove(replica, monkeypatch)
    assert replica.is_usable()


def test_a_replica_that_does_not_catch_up_is_not_read(replica, monkeypatch):
    replica._proved_at = float("-inf")
    prove(replica, monkeypatch, is_there=False)
    assert not replica.is_usable()
