"""The MySQL user of the store may do what the store does, in its own database, and no more."""

import io
import subprocess
from contextlib import closing

import MySQLdb
import pytest
from django.core.management import call_command
from django.db import connection
from MySQLdb import OperationalError

from tests.preloaded import ROOT
from tests.processes import clean_environment
from tests.servers import free_port
from tests.test_database import missing_database, start  # noqa: F401

PASSWORD = "p@ss'w\\rd `$x` %s \""
INIT = "docker_process_sql() { cat; }; . deploy/mysql-user.sh"
FOREIGN = [
    "SELECT * FROM mysql.user",
    "CREATE DATABASE {other}",
    "CREATE USER x@'%'",
    "GRANT SELECT ON {own}.* TO x@'%'",
    "SELECT LOAD_FILE('/etc/passwd') IS NOT NULL INTO OUTFILE '/tmp/x'",
    "SET GLOBAL max_connections = 1",
]


def statements_of_the_image(**variables):
    command = ["bash", "-c", INIT]
    environment = clean_environment(**variables)
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, check=True, text=True
    ).stdout


@pytest.fixture
def user(missing_database, settings, monkeypatch):  # noqa: F811
    name = f"store_{free_port()}"
    settings.MYSQL_NAME = missing_database
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    call_command("database_user", name, apply=True, stdout=io.StringIO())
    yield name
    with connection.cursor() as cursor:
        cursor.execute("DROP USER %s@'%%'", [name])


def connect(settings, user):
    own = {"host": settings.MYSQL_HOST, "port": settings.MYSQL_PORT}
    return closing(MySQLdb.connect(user=user, password=PASSWORD, **own))


@pytest.mark.mysql
def test_the_user_can_prepare_the_store(user, settings):
    as_user = {"MYSQL_USER": user, "MYSQL_PASSWORD": PASSWORD, "MYSQL_NAME": settings.MYSQL_NAME}
    prepared = start("prepare", **as_user)
    output = prepared.communicate(timeout=120)[0]
    assert "The store has 234 products." in output
    assert prepared.returncode == 0


@pytest.mark.mysql
@pytest.mark.parametrize("statement", FOREIGN)
def test_the_user_can_do_nothing_else(user, settings, statement):
    # Where `_` were left to stand for any character, the other name would be one of the user's own.
    names = {"own": settings.MYSQL_NAME, "other": settings.MYSQL_NAME.replace("_", "x")}
    with connect(settings, user) as server, pytest.raises(OperationalError) as refused:
        server.cursor().execute(statement.format(**names))
    assert refused.value.args[0] in {1044, 1045, 1142, 1227}  # all of them: access denied


@pytest.mark.mysql
def test_the_image_of_mysql_gives_the_same_rights(settings):
    said = io.StringIO()
    call_command("database_user", "store", stdout=said)
    create, grant = said.getvalue().splitlines()
    made = statements_of_the_image(STORE_PASSWORD="x", MYSQL_NAME=settings.MYSQL_NAME)
    assert made.splitlines() == [f"{create[:-1]} IDENTIFIED BY 'x';", grant]


@pytest.mark.mysql
def test_any_password_reaches_the_user_that_the_image_makes(settings, db):
    create = statements_of_the_image(STORE_PASSWORD=PASSWORD).splitlines()[0]
    with connection.cursor() as cursor:
        try:
            cursor.execute(create)
            with connect(settings, "store"):
                pass
        finally:
            cursor.execute("DROP USER IF EXISTS store@'%'")
