"""check_cache tells which cached lists differ from the database, and can have them forgotten."""

import os
import sqlite3
import subprocess
from contextlib import closing
from io import StringIO
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from redis import Redis

from freshcache.entry import Entry, etag_of
from store import comparison
from store.models import Product
from tests import preloaded
from tests.servers import free_port
from tests.test_http_caching import database_out_of_reach

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

CACHED = "/store/cached/"


@pytest.fixture(autouse=True)
def nobody_writes_meanwhile(monkeypatch):
    """The tests write before or after a comparison; it need not wait for a write to be announced."""
    monkeypatch.setattr(comparison, "SETTLE_SECONDS", 0.01)


def check(*arguments: str) -> tuple[int, str, str]:
    """Return check_cache's exit code, what it printed, and its error."""
    output = StringIO()
    try:
        call_command("check_cache", *arguments, stdout=output)
    except CommandError as error:
        return error.returncode, output.getvalue().strip(), str(error)
    return 0, output.getvalue().strip(), ""


def run_manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **variables}
    if connection.vendor == "mysql":
        environment["MYSQL_NAME"] = connection.settings_dict["NAME"]
    return preloaded.run(["manage.py", "check_cache", *arguments], environment)


def behind_djangos_back(sql: str) -> None:
    """Change the database like another program: Django's instrumentation sees nothing of it."""
    if connection.vendor == "sqlite":
        raw: Any = sqlite3.connect(connection.settings_dict["NAME"])
    else:
        import MySQLdb

        raw = MySQLdb.connect(**connection.get_connection_params())
    with closing(raw), closing(raw.cursor()) as cursor:
        cursor.execute(sql)
        raw.commit()


def tamper(redis: Redis, project: str, body: bytes, name: str = "product", **changes) -> None:
    """Put a well-formed entry with another body in the place of the one that is served."""
    key = f"{project}:1:{name}"
    before = Entry.decode(redis.get(key) or b"")
    assert before
    fields = {**vars(before), "body": body, "etag": etag_of(body), **changes}
    redis.set(key, Entry(**fields).encode(), keepttl=True)


# --- All is right ---------------------------------------------------------------------------------


def test_an_empty_cache_is_right(books):
    assert check() == (0, "Compared 0 cached lists with the database: all are right.", "")


@pytest.mark.parametrize("arguments", [[], ["--repair"]])
def test_right_lists_are_right_and_stay(client, books, arguments):
    for query in ("", "?limit=1", "?search=BOOK", "?ordering=-price&min_price=1", "?search=ß"):
        assert client.get(f"{CACHED}{query}").status_code == 201
    assert check(*arguments) == (
        0,
        "Compared 5 cached lists with the database: all are right.",
        "",
    )
    assert client.get(CACHED).status_code == 200


def test_a_list_after_each_kind_of_write_is_right(client, books):
    for write in (
        lambda: Product.objects.update(price=1),
        lambda: Product.objects.create(name="ß'\"\\\n🎁", description="", price=0),
        lambda: Product.objects.filter(pk=books[0].pk).delete(),
    ):
        write()
        client.get(CACHED)
        assert check()[:2] == (0, "Compared 1 cached lists with the database: all are right.")


def test_a_list_that_a_write_has_invalidated_does_not_count(client, books):
    client.get(CACHED)
    Product.objects.update(price=1)
    assert check()[1] == "Compared 0 cached lists with the database: all are right."


# --- The database was changed behind Django's back ------------------------------------------------


def test_a_changed_row_is_named_and_the_exit_code_is_1(client, books):
    client.get(CACHED)
    behind_djangos_back(f"UPDATE store_product SET price = 77 WHERE id = {books[1].pk}")
    code, said, error = check()
    assert code == 1
    assert said == f"all products: 3 cached, 3 in the database; ids {books[1].pk} differ"
    assert error.startswith("1 of 1 cached lists differ from the database")
    assert "--repair" in error
    # It has changed nothing.
    assert client.get(CACHED).json()["results"][1]["price"] == 2000


def test_missing_and_added_rows_are_named(client, books):
    client.get(CACHED)
    behind_djangos_back(f"DELETE FROM store_product WHERE id = {books[0].pk}")
    added = books[2].pk + 5
    behind_djangos_back(
        f"INSERT INTO store_product SELECT {added}, name, description, price, date_created,"
        f" date_modified FROM store_product WHERE id = {books[1].pk}"
    )
    code, said, _ = check()
    assert code == 1
    assert said.endswith(f"3 cached, 3 in the database; ids {books[0].pk}, {added} differ")


def test_only_the_lists_that_differ_are_reported(client, books):
    for query in ("", "?max_price=1500", "?min_price=1500", "?search=third"):
        client.get(f"{CACHED}{query}")
    behind_djangos_back(f"UPDATE store_product SET price = 2001 WHERE id = {books[1].pk}")
    code, said, error = check()
    assert code == 1
    reported = {line.partition(", ids")[0].rpartition(": ")[0] for line in said.splitlines()}
    assert reported == {"all products", '{"min_price":1500}'}
    assert len(said.splitlines()) == 2
    assert error.startswith("2 of 4 cached lists differ")


def test_many_differing_rows_are_shortened(client, demo_books):
    client.get(CACHED)
    behind_djangos_back("UPDATE store_product SET price = 1")
    _, said, _ = check()
    assert said.endswith(", ... differ")
    assert len(said) < 200


@pytest.mark.smoke
def test_repair_makes_every_reader_see_the_database(client, books):
    for query in ("", "?min_price=1500"):
        client.get(f"{CACHED}{query}")
    behind_djangos_back(f"UPDATE store_product SET price = 2001 WHERE id = {books[1].pk}")
    code, said, error = check("--repair")
    assert (code, error) == (0, "")
    assert said.splitlines()[-1] == (
        "2 of 2 cached lists differ from the database; they have been forgotten."
    )
    for query, place in (("", 1), ("?min_price=1500", 0)):
        response = client.get(f"{CACHED}{query}")
        assert response.status_code == 201
        assert response.json()["results"][place]["price"] == 2001
    assert check()[0] == 0


def test_repair_voids_what_would_bridge_an_outage(client, books, redis, settings):
    client.get(CACHED)
    behind_djangos_back("UPDATE store_product SET price = 2001")
    check("--repair")
    redis.delete(f"{settings.PROJECT_NAME}:1:product")
    with database_out_of_reach():
        assert client.get(CACHED).status_code == 503


# --- Redis was changed ----------------------------------------------------------------------------


def test_a_changed_entry_is_found(client, books, redis, settings):
    results = client.get(CACHED).json()["results"]
    results[0]["price"] = 1
    tamper(redis, settings.PROJECT_NAME, orjson.dumps(results))
    code, said, _ = check()
    assert (code, said) == (
        1,
        f"all products: 3 cached, 3 in the database; ids {books[0].pk} differ",
    )


def test_rows_in_another_order_are_found(client, books, redis, settings):
    results = client.get(CACHED).json()["results"]
    tamper(redis, settings.PROJECT_NAME, orjson.dumps(results[::-1]))
    code, said, _ = check()
    assert code == 1
    assert said.startswith("all products: 3 cached, 3 in the database; ")
    assert "ids  differ" not in said


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", b"\xff\x00", b"{}", b"null", b"[1]", b"[{}]", b'[{"id":"x"},{"id":1}]'],
)
def test_an_entry_that_is_no_list_of_products_is_found_and_repaired(
    client, books, redis, settings, body
):
    client.get(CACHED)
    tamper(redis, settings.PROJECT_NAME, body)
    code, said, error = check()
    assert code == 1
    assert said.startswith("all products: ")
    assert error.startswith("1 of 1 cached lists differ")
    assert check("--repair")[0] == 0
    assert client.get(CACHED).status_code == 201
    assert check()[0] == 0


@pytest.mark.parametrize(
    "query", ['{"limit":1,"category":2}', '{"ordering":"stock"}', "garbage", "[]"]
)
def test_an_entry_that_only_another_release_could_be_asked_for_does_no_harm(
    client, books, redis, settings, query
):
    client.get(f"{CACHED}?limit=1")
    client.get(CACHED)
    name = next(
        key.decode().removeprefix(f"{settings.PROJECT_NAME}:1:")
        for key in redis.scan_iter(f"{settings.PROJECT_NAME}:1:product:slot:*")
        if not key.endswith(b":stale")
    )
    tamper(redis, settings.PROJECT_NAME, b"[]", name, query=query)
    behind_djangos_back("UPDATE store_product SET price = 2001")
    code, said, _ = check()
    assert code == 1
    assert "all products: 3 cached" in said
    assert check("--repair")[0] == 0


@pytest.mark.parametrize("value", [b"", b"garbage", b"0" * 32 + b" {}\n", b"\x80\x04N."])
def test_a_value_that_is_not_served_does_not_count(client, books, redis, settings, value):
    client.get(CACHED)
    redis.set(f"{settings.PROJECT_NAME}:1:product", value)
    assert check()[1] == "Compared 0 cached lists with the database: all are right."
    assert client.get(CACHED).json()["results"][0]["price"] == 1000


def test_a_value_of_a_wrong_type_does_not_count(client, books, redis, settings):
    redis.hset(f"{settings.PROJECT_NAME}:1:product", "a", "b")
    assert check()[0] == 0


# --- As a process ---------------------------------------------------------------------------------


def test_as_a_process_it_exits_1_until_it_has_repaired(client, books):
    client.get(CACHED)
    behind_djangos_back("UPDATE store_product SET price = 2001")
    found = run_manage()
    assert found.returncode == 1
    assert found.stdout.startswith("all products: 3 cached, 3 in the database; ids ")
    assert found.stderr.startswith("CommandError: 1 of 1 cached lists differ")
    assert run_manage("--repair").returncode == 0
    assert client.get(CACHED).status_code == 201
    right = run_manage()
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout == "Compared 1 cached lists with the database: all are right.\n"


def test_redis_down_is_one_clear_error():
    url = f"redis://127.0.0.1:{free_port()}/0"
    finished = run_manage(REDIS_URL=url, SECRET_KEY="x" * 50)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.startswith("CommandError: Redis cannot be reached: ")
    assert finished.stderr.count("\n") == 1


def test_the_database_down_is_one_clear_error(client, books):
    client.get(CACHED)
    with database_out_of_reach():
        assert check() == (1, "", "The database is down.")
