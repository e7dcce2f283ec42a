"""Making and preparing the database, which several replicas may do at the same time."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from store import database, product_query
from store.models import Product
from store.product_query import ProductQuery
from tests.preloaded import ROOT
from tests.processes import clean_environment
from tests.servers import free_port, temporary_folder


def start(*command: str, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def missing_database(settings, db):
    name = f"store_{os.getpid()}_{free_port()}"
    yield name
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")


@pytest.mark.mysql
def test_create_database_makes_it_with_utf8mb4_and_then_says_it_is_there(missing_database):
    made, _ = start("create_database", MYSQL_NAME=missing_database).communicate(timeout=60)
    assert made == f"Made the database {missing_database}.\n"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT default_character_set_name, default_collation_name"
            " FROM information_schema.schemata WHERE schema_name = %s",
            [missing_database],
        )
        character_set, collation = cursor.fetchone()
        assert character_set == "utf8mb4"
        assert collation in database.COLLATIONS
    again, _ = start("create_database", MYSQL_NAME=missing_database).communicate(timeout=60)
    assert again == f"The database {missing_database} is there.\n"


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.mysql
@pytest.mark.parametrize("character_set", ["latin1", "utf8mb3"])
def test_a_database_or_a_table_that_is_not_in_utf8mb4_is_refused(character_set, transactional_db):
    name = connection.settings_dict["NAME"]
    assert database.wrong_character_sets() == []
    execute(f"ALTER DATABASE {name} CHARACTER SET {character_set}")
    execute(f"CREATE TABLE store_wrong (name VARCHAR(9)) CHARACTER SET {character_set}")
    try:
        of_database, of_table = database.wrong_character_sets()
        assert f"is in {character_set}: ALTER DATABASE" in of_database
        assert f"The table store_wrong is in {character_set}" in of_table
        warnings = database.check_character_sets(databases=["default"])
        assert [one.msg for one in warnings] == [of_database, of_table]
        with pytest.raises(CommandError, match="ALTER TABLE `store_wrong` CONVERT TO"):
            call_command("prepare")
        execute(of_table.partition(": ")[2])
    finally:
        execute("DROP TABLE store_wrong")
        execute(f"ALTER DATABASE {name} CHARACTER SET utf8mb4")
    assert database.wrong_character_sets() == []


@pytest.mark.mysql
@pytest.mark.parametrize("engine", ["MyISAM", "MEMORY"])
def test_a_table_that_undoes_nothing_is_refused_and_no_default_makes_one(
    engine, transactional_db, settings
):
    made = "SELECT engine FROM information_schema.tables WHERE table_name = 'store_wrong'"
    assert (
        "default_storage_engine = InnoDB"
        in settings.DATABASES["default"]["OPTIONS"]["init_command"]
    )
    execute(f"CREATE TABLE store_wrong (name INT) ENGINE = {engine}")
    try:
        (wrong,) = database.wrong_engines()
        assert f"The table store_wrong is of {engine}" in wrong
        assert [one.id for one in database.check_character_sets(databases=["default"])] == [
            "store.W002"
        ]
        with pytest.raises(CommandError, match="ALTER TABLE `store_wrong` ENGINE = InnoDB"):
            call_command("prepare")
        execute("DROP TABLE store_wrong")
        execute("CREATE TABLE store_wrong (name INT)")
        with connection.cursor() as cursor:
            cursor.execute(made)
            assert cursor.fetchall() == (("InnoDB",),)
    finally:
        execute("DROP TABLE store_wrong")
    assert database.wrong_engines() == []


@pytest.mark.mysql
def test_two_replicas_that_start_at_once_prepare_the_store_once(missing_database):
    replicas = [start("prepare", MYSQL_NAME=missing_database) for _ in range(3)]
    outputs = [replica.communicate(timeout=120)[0] for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0, 0, 0], outputs
    assert sum("The store has 234 products." in output for output in outputs) == 1
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {missing_database}.store_product")
        assert cursor.fetchone() == (234,)


def test_two_processes_prepare_one_sqlite_file_once():
    folder = str(temporary_folder())
    replicas = [
        subprocess.Popen(
            [sys.executable, "manage.py", "prepare"],
            cwd=ROOT,
            env=clean_environment(VAR_DIR=folder),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [replica.communicate(timeout=120)[0] for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0, 0, 0], outputs
    assert sum("The store has 234 products." in output for output in outputs) == 1


@pytest.mark.mysql
def test_the_connection_is_strict_utf8mb4_and_read_committed(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@sql_mode, @@character_set_connection")
        sql_mode, charset = cursor.fetchone()
        cursor.execute("SELECT @@transaction_isolation" if is_mysql() else "SELECT @@tx_isolation")
        assert cursor.fetchone() == ("READ-COMMITTED",)
    assert "STRICT_ALL_TABLES" in sql_mode
    assert charset == "utf8mb4"


def is_mysql() -> bool:
    return not connection.mysql_is_mariadb


@pytest.mark.mysql
def test_waiting_for_a_server_that_stays_down_ends_with_its_error(settings, db, monkeypatch):
    said: list[str] = []
    slept: list[float] = []
    # Only what it sleeps takes time, whatever the machine does meanwhile.
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(database, "time", clock)
    settings.DATABASES["default"]["PORT"], port = free_port(), settings.DATABASES["default"]["PORT"]
    try:
        with pytest.raises(OperationalError):
            database.wait_until_up(said.append, seconds=2.5)
    finally:
        settings.DATABASES["default"]["PORT"] = port
    assert len(said) == 1
    assert said[0].startswith("Waiting for MySQL at ")
    assert 2.5 < sum(slept) <= 2.5 + max(slept)


@pytest.mark.mysql
def test_a_wrong_password_is_not_waited_for(settings, db):
    password = settings.DATABASES["default"]["PASSWORD"]
    settings.DATABASES["default"]["PASSWORD"] = "wrong"
    try:
        with pytest.raises(OperationalError, match="Access denied"):
            database.wait_until_up(lambda line: None)
    finally:
        settings.DATABASES["default"]["PASSWORD"] = password


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("😀", 1),
        ("book 😀", 1),
        ("😁😀", 0),
        ("😂", 0),
        ("𝄞", 1),
        ("کتاب", 1),
        ("book", 2),
        ("BOOK 😀", 1),
    ],
)
def test_a_search_tells_emoji_apart_in_any_collation(search, found, transactional_db):
    for name in ("Book 😀 a", "Book 😁 b", "کتاب 𝄞"):
        Product.objects.create(name=name, description="", price=1)
    assert product_query.select(ProductQuery(search=search)).count() == found
