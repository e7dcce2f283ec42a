"""Reads inside transactions: what is stored there, and what never is."""

import threading

import pytest
from django.conf import settings
from django.db import connection, transaction

from freshcache import Outcome
from store.models import Product
from store.regions import products

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]
on_mysql = pytest.mark.skipif(
    not settings.MYSQL_HOST, reason="SQLite's transactions see what was there when they began"
)


def read() -> tuple[Outcome, bytes]:
    found = products.get_or_load("", lambda: str(Product.objects.count()).encode())
    return found.outcome, found.body


def elsewhere(do) -> None:
    def work() -> None:
        try:
            do()
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@on_mysql
def test_a_transaction_that_sees_all_commits_fills_the_cache():
    """So views under ATOMIC_REQUESTS are cached like others."""
    connection.close()
    with transaction.atomic():
        assert [read() for _ in range(2)] == [(Outcome.MISS, b"0"), (Outcome.HIT, b"0")]
        elsewhere(lambda: Product.objects.create(name="a"))
        assert read() == (Outcome.MISS, b"1")
    assert read() == (Outcome.HIT, b"1")


@on_mysql
@pytest.mark.parametrize(
    "statement",
    [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION tx_isolation = 'REPEATABLE-READ'",
        "set @@session.tx_isolation = 'repeatable-read'",
    ],
)
def test_a_transaction_that_sql_has_isolated_stores_nothing(statement):
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute(statement)
    with transaction.atomic():
        Product.objects.count()
        elsewhere(lambda: Product.objects.create(name="a"))
        assert read()[0] is Outcome.BYPASS
    assert read() == (Outcome.MISS, b"1")
    connection.close()


@on_mysql
def test_a_connection_that_is_set_to_another_level_stores_nothing(monkeypatch):
    connection.close()
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "isolation_level", "repeatable read")
    try:
        with transaction.atomic():
            Product.objects.count()
            elsewhere(lambda: Product.objects.create(name="a"))
            assert read() == (Outcome.BYPASS, b"0")
        assert read() == (Outcome.MISS, b"1")
    finally:
        connection.close()


@pytest.mark.skipif(bool(settings.MYSQL_HOST), reason="MySQL's sees all commits")
def test_a_transaction_of_sqlite_stores_nothing():
    with transaction.atomic():
        assert [read()[0] for _ in range(2)] == [Outcome.BYPASS] * 2
    assert read()[0] is Outcome.MISS


def test_a_transaction_that_has_written_stores_nothing():
    with transaction.atomic():
        Product.objects.create(name="a")
        assert read() == (Outcome.BYPASS, b"1")
        transaction.set_rollback(True)
    assert read() == (Outcome.MISS, b"0")


def test_a_load_that_writes_in_a_transaction_stores_nothing():
    def load() -> bytes:
        Product.objects.create(name="a")
        return str(Product.objects.count()).encode()

    connection.close()
    with transaction.atomic():
        found = products.get_or_load("", load)
        assert (found.outcome, found.body) == (Outcome.BYPASS, b"1")
        transaction.set_rollback(True)
    assert read() == (Outcome.MISS, b"0")


def test_nothing_is_kept_under_a_version_from_within_a_transaction():
    with transaction.atomic():
        assert products.version() is None
    assert products.version()
