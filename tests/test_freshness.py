"""Every write makes the cached lists forget once it has committed, and not when it rolls back."""

import json
import threading
from contextlib import suppress

import pytest
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.backends.signals import connection_created

from freshcache import watched_connections
from freshcache.runtime import cache_of
from freshcache.table_watch import TableWatch
from store import catalogue
from store.models import Product
from store.product_query import ProductQuery
from store.regions import products

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.engines,
    pytest.mark.contract,
]


def cached(client) -> tuple[int, list]:
    response = client.get("/store/cached/")
    return response.status_code, response.json()["results"]


def save(book):
    book.price = 77
    book.save()


def raw_sql(book):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE store_product SET price = 77 WHERE id = %s", [book.pk])


def bulk_update(book):
    book.price = 77
    Product.objects.bulk_update([book], ["price"])


WRITES = {
    "save": save,
    "delete": lambda book: book.delete(),
    "create": lambda book: Product.objects.create(name="new"),
    "QuerySet.update": lambda book: Product.objects.filter(pk=book.pk).update(price=77),
    "QuerySet.delete": lambda book: Product.objects.filter(pk=book.pk).delete(),
    "_raw_delete": lambda book: Product.objects.filter(pk=book.pk)._raw_delete("default"),
    "bulk_create": lambda book: Product.objects.bulk_create([Product(name="new")]),
    "bulk_create with conflicts": lambda book: Product.objects.bulk_create(
        [Product(name="new")], ignore_conflicts=True
    ),
    "bulk_update": bulk_update,
    "get_or_create": lambda book: Product.objects.get_or_create(name="new"),
    "update_or_create": lambda book: Product.objects.update_or_create(
        pk=book.pk, defaults={"price": 77}
    ),
    "the base manager": lambda book: Product._base_manager.update(price=77),
    "raw SQL": raw_sql,
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


def database_rows() -> list[tuple]:
    return list(Product.objects.order_by("id").values_list("id", "name", "price"))


def as_rows(results: list) -> list[tuple]:
    return [(product["id"], product["name"], product["price"]) for product in results]


@every_write
def test_a_write_is_seen_by_the_next_cached_read(client, books, write):
    _, before = cached(client)
    write(books[0])
    status, after = cached(client)
    assert status == 201
    assert as_rows(after) == database_rows() != as_rows(before)


@every_write
def test_a_committed_transaction_is_seen_and_not_before(client, books, write):
    _, before = cached(client)
    with transaction.atomic():
        write(books[0])
        assert in_another_thread(lambda: cached(client)) == (200, before)
    assert as_rows(cached(client)[1]) == database_rows()


@every_write
def test_a_rolled_back_write_keeps_the_entry(client, books, write):
    _, before = cached(client)
    with transaction.atomic():
        write(books[0])
        transaction.set_rollback(True)
    assert cached(client) == (200, before)


@every_write
def test_a_write_rolled_back_to_a_savepoint_keeps_the_entry(client, books, write):
    _, before = cached(client)
    with transaction.atomic():
        with transaction.atomic():
            write(books[0])
            transaction.set_rollback(True)
        assert cached(client) == (200, before)
    assert cached(client) == (200, before)


def test_a_write_after_a_rolled_back_savepoint_is_seen(client, books):
    cached(client)
    with transaction.atomic():
        with transaction.atomic():
            save(books[0])
            transaction.set_rollback(True)
        Product.objects.filter(pk=books[1].pk).update(price=88)
    assert [product["price"] for product in cached(client)[1]] == [1000, 88, None]


def test_filtered_lists_forget_too(client, books):
    assert client.get("/store/cached/?min_price=1500").json()["results"][0]["price"] == 2000
    Product.objects.filter(pk=books[1].pk).update(price=2500)
    assert client.get("/store/cached/?min_price=1500").json()["results"][0]["price"] == 2500


def test_a_transaction_that_wrote_reads_its_own_writes(books):
    catalogue.list_products_cached(ProductQuery())
    with transaction.atomic():
        Product.objects.update(price=5)
        listed = catalogue.list_products_cached(ProductQuery())
        assert {product["price"] for product in json.loads(listed.fetched.body)} == {5}
        transaction.set_rollback(True)
    listed = catalogue.list_products_cached(ProductQuery())
    assert [product["price"] for product in json.loads(listed.fetched.body)] == [1000, 2000, None]


@pytest.mark.smoke
def test_a_transaction_that_writes_many_rows_forgets_once(books, monkeypatch):
    forgotten = []
    monkeypatch.setattr(cache_of(), "forget", forgotten.append)
    with transaction.atomic():
        for _ in range(3):
            Product.objects.bulk_create([Product(name="one of many") for _ in range(100)])
        for book in books:
            book.save()
    assert forgotten == ["product"]


def test_a_callback_that_fails_does_not_lose_the_forgetting(client, books):
    cached(client)

    def fail() -> None:
        raise RuntimeError("some other callback")

    with pytest.raises(RuntimeError, match="some other callback"), transaction.atomic():
        transaction.on_commit(fail)
        Product.objects.update(price=3)
    assert {product["price"] for product in cached(client)[1]} == {3}


def test_reads_and_writes_elsewhere_keep_the_entry(client, books, django_user_model):
    cached(client)
    Product.objects.filter(price=1).exists()
    django_user_model.objects.create_user("someone")
    assert cached(client)[0] == 200


@pytest.mark.parametrize(
    "sql",
    [
        "\n    SELECT * FROM store_product",
        "(SELECT id FROM store_product)",
        "/* report */ SELECT COUNT(*) FROM store_product",
        "-- report\nSELECT COUNT(*) FROM store_product",
        "WITH cheap AS (SELECT id FROM store_product) SELECT * FROM cheap",
    ],
)
def test_raw_sql_that_only_reads_keeps_the_entry(client, books, sql):
    if sql.startswith("(") and connection.vendor == "sqlite":
        pytest.skip("SQLite takes no SELECT in parentheses")
    cached(client)
    with connection.cursor() as cursor:
        cursor.execute(sql)
        cursor.fetchall()
    assert cached(client)[0] == 200


COLUMNS = "id, name, description, price, date_created, date_modified"
REPLACE = f"REPLACE INTO store_product ({COLUMNS}) SELECT {COLUMNS} FROM store_product"


@pytest.mark.parametrize(
    "sql",
    [
        REPLACE,
        "/* report */ UPDATE store_product SET price = 33",
        "UPDATE STORE_PRODUCT SET price = 33",
        "WITH one AS (SELECT 1) UPDATE store_product SET price = 33",
        "with one as (select 1) update store_product set price = 33",
        f"WITH one AS (SELECT 1) {REPLACE}",
    ],
)
def test_raw_sql_that_may_write_is_seen(client, books, sql):
    cached(client)
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute(sql)  # Not every database takes each of them.
    assert cached(client)[0] == 201


def test_a_delete_by_the_admins_action_is_seen(client, admin_client, books):
    cached(client)
    chosen = {"action": "delete_selected", "_selected_action": [books[0].pk], "post": "yes"}
    admin_client.post("/admin/store/product/", chosen)
    assert [product["name"] for product in cached(client)[1]] == ["Book B", "Book C"]


def test_a_write_after_somebody_elses_execute_wrapper_is_seen(books):
    notes: list = []
    watch = TableWatch(["store_product"], notes.append)

    def wrapper(execute, sql, params, many, context):
        return execute(sql, params, many, context)

    def write() -> None:
        watch.install()
        with connection.execute_wrapper(wrapper):  # The connection opens inside.
            connection.ensure_connection()
        Product.objects.update(price=22)

    in_another_thread(write)
    assert notes == [[None]]


def test_connections_that_are_there_and_new_ones_are_watched(books):
    def written() -> list:
        notes: list = []
        watch = TableWatch(["store_product"], notes.append)
        connection_created.disconnect(watched_connections._watch)  # As before the first watch.
        connection.ensure_connection()
        watch.install()
        Product.objects.update(price=34)
        in_another_thread(lambda: Product.objects.update(price=35))
        return notes

    assert in_another_thread(written) == [[None], [None]]


def test_a_connection_that_opens_again_is_watched_once(books, monkeypatch):
    forgotten = []
    monkeypatch.setattr(cache_of(), "forget", forgotten.append)
    connection.close()
    Product.objects.update(price=36)
    assert forgotten == ["product"]


def lose_the_answer(execute, sql, params, many, context) -> None:
    execute(sql, params, many, context)
    raise OperationalError(2013, "Lost connection to server during query")


def test_a_statement_whose_answer_is_lost_is_seen(client, books):
    def write() -> None:
        connection.ensure_connection()
        with pytest.raises(OperationalError), connection.execute_wrapper(lose_the_answer):
            Product.objects.update(price=31)

    cached(client)
    in_another_thread(write)  # MySQL is told to end its connection.
    assert {product["price"] for product in cached(client)[1]} == {31}


def test_a_commit_by_a_statement_is_seen_even_if_its_answer_is_lost(books, monkeypatch):
    forgotten = []
    monkeypatch.setattr(cache_of(), "forget", forgotten.append)
    with pytest.raises(OperationalError), transaction.atomic():
        Product.objects.update(price=32)
        with connection.execute_wrapper(lose_the_answer), connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS has_never_been_there")
    assert forgotten == ["product"]


def test_who_reads_during_a_commit_does_not_keep_what_it_replaces(client, books, monkeypatch):
    commit = connection._commit

    def read_and_commit() -> None:
        assert in_another_thread(lambda: cached(client))[0] == 201
        commit()

    monkeypatch.setattr(connection, "_commit", read_and_commit)
    with transaction.atomic():
        Product.objects.update(price=37)
    monkeypatch.undo()
    assert {product["price"] for product in cached(client)[1]} == {37}


def test_a_commit_whose_answer_is_lost_is_seen(client, books, monkeypatch):
    cached(client)
    commit = connection._commit

    def commit_and_lose_the_answer() -> None:
        commit()
        raise OperationalError(2013, "Lost connection to server during query")

    monkeypatch.setattr(connection, "_commit", commit_and_lose_the_answer)
    with pytest.raises(OperationalError), transaction.atomic():
        Product.objects.update(price=23)
    monkeypatch.undo()
    assert {product["price"] for product in cached(client)[1]} == {23}


def test_writes_without_autocommit_are_seen_once_committed_and_not_stored_before(client, books):
    cached(client)
    transaction.set_autocommit(False)
    try:
        Product.objects.update(price=24)
        assert (
            catalogue.list_products_cached(ProductQuery()).fetched.body.count(b'"price":24,') == 3
        )
        transaction.rollback()
        assert [product["price"] for product in cached(client)[1]] == [1000, 2000, None]
        Product.objects.update(price=25)
        transaction.commit()
        assert {product["price"] for product in in_another_thread(lambda: cached(client))[1]} == {
            25
        }
    finally:
        transaction.set_autocommit(True)
    Product.objects.update(price=26)
    assert {product["price"] for product in cached(client)[1]} == {26}


def test_turning_autocommit_on_again_commits_and_is_seen(client, books):
    cached(client)
    transaction.set_autocommit(False)
    Product.objects.update(price=30)
    transaction.set_autocommit(True)
    _, found = in_another_thread(lambda: cached(client))  # This thread may read its own writes.
    assert {product["price"] for product in found} == {30}


def test_a_transaction_keeps_nothing_that_it_makes_of_products(books):
    assert products.version()
    with transaction.atomic():
        assert products.version() is None


def see_the_past() -> None:
    """Have transactions see what was there when they began, as SQLite's do anyway."""
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def test_what_a_transaction_without_autocommit_reads_is_not_stored(client, books):
    see_the_past()
    transaction.set_autocommit(False)
    try:
        assert cached(client)[0] == 200
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
        connection.close()
    assert cached(client)[0] == 201


@pytest.mark.mysql
def test_what_mysql_commits_by_itself_is_seen(client, books):
    cached(client)
    with pytest.raises(RuntimeError), transaction.atomic():
        Product.objects.update(price=27)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS commits_what_was_open (id INT)")
        raise RuntimeError
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE commits_what_was_open")
    assert {product["price"] for product in cached(client)[1]} == {27}


@pytest.mark.mysql
def test_a_write_behind_a_reading_statement_is_seen(client, books):
    cached(client)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1; UPDATE store_product SET price = 28")
        while cursor.cursor.nextset():
            pass
    assert {product["price"] for product in cached(client)[1]} == {28}


@pytest.mark.mysql
def test_the_server_gives_up_on_a_locked_row_before_its_client_does(client, books):
    with transaction.atomic():
        books[0].save()

        def write() -> tuple[int, object]:
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@innodb_lock_wait_timeout")
                (patience_seconds,) = cursor.fetchone()
                # Earlier still, so that no stall of the server takes it past its client's patience.
                cursor.execute("SET innodb_lock_wait_timeout = 1")
            with pytest.raises(OperationalError) as failed:
                Product.objects.filter(pk=books[0].pk).update(price=29)
            return patience_seconds, failed.value.args[0]

        patience_seconds, error = in_another_thread(write)
    assert patience_seconds < connection.settings_dict["OPTIONS"]["read_timeout"]
    lock_wait_timeout = 1205  # 2013 would be the client's, and the UPDATE go on without it.
    assert error == lock_wait_timeout


def test_loading_a_fixture_is_seen(client, books, tmp_path):
    fixture = tmp_path / "products.json"
    call_command("dumpdata", "store.product", output=str(fixture))
    Product.objects.update(price=1)
    assert {product["price"] for product in cached(client)[1]} == {1}
    call_command("loaddata", str(fixture), verbosity=0)
    assert [product["price"] for product in cached(client)[1]] == [1000, 2000, None]


def test_writes_through_the_api_are_seen(client, editor, books):
    cached(client)
    created = editor.post("/store/products/", {"name": "new", "price": 5}, "application/json")
    assert created.status_code == 201
    assert cached(client)[1][-1]["name"] == "new"
    path = f"/store/products/{created.json()['id']}/"
    editor.patch(path, {"price": 6}, "application/json")
    assert cached(client)[1][-1]["price"] == 6
    editor.delete(path)
    assert cached(client)[1][-1]["name"] == "Book C"


def test_the_public_function_forgets_what_django_did_not_see(client, books):
    assert cached(client)[0] == 201
    catalogue.products_changed()
    assert cached(client)[0] == 201


def in_another_thread(function):
    results = []

    def run() -> None:
        try:
            results.append(function())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]
