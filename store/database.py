"""Bringing up the database itself: waiting for it, making it, one preparer at a time."""

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

WAIT_SECONDS = 60.0
LOCK_SECONDS = 300
UNKNOWN_DATABASE = 1049  # ER_BAD_DB_ERROR
# CR_CONNECTION_ERROR, CR_CONN_HOST_ERROR, CR_UNKNOWN_HOST, CR_SERVER_LOST, ER_SERVER_SHUTDOWN
NOT_UP_YET = (2002, 2003, 2005, 2013, 1053)
# What the store does, migrations included, and no more. deploy/mysql-user.sh has the same.
RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES"
# The best first, of MariaDB and of MySQL. The servers' older ones hold all emoji for the same character.
COLLATIONS = ("utf8mb4_uca1400_ai_ci", "utf8mb4_0900_ai_ci", "utf8mb4_unicode_520_ci")


def wait_until_up(say: Callable[[str], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait until the MySQL server takes connections; raises its OperationalError after `seconds`."""
    deadline = time.monotonic() + seconds
    waiting = False
    while settings.MYSQL_HOST:
        server = _server()
        try:
            server.ensure_connection()
        except OperationalError as error:
            if time.monotonic() > deadline or error.args[0] not in NOT_UP_YET:
                raise
            if not waiting:
                say(f"Waiting for MySQL at {settings.MYSQL_HOST}:{settings.MYSQL_PORT} ...")
            waiting = True
            time.sleep(1)
        else:
            server.close()
            return


def describe(error: OperationalError) -> str:
    """Say in one line what the database complained about, and which one it is."""
    if not settings.MYSQL_HOST:
        return f"SQLite: {error}"
    return f"MySQL at {settings.MYSQL_HOST}:{settings.MYSQL_PORT}: {error.args[-1]}"


def create_if_missing() -> str:
    """Make the MySQL database unless it is there; return what was done, in a sentence."""
    if not settings.MYSQL_HOST:
        return f"SQLite: the database is the file {settings.DATABASES['default']['NAME']}."
    name = settings.MYSQL_NAME
    try:
        connections["default"].ensure_connection()
    except OperationalError as error:
        if error.args[0] != UNKNOWN_DATABASE:
            raise
    else:
        return f"The database {name} is there."
    with closing(_server()) as server, server.cursor() as cursor:
        cursor.execute("SHOW COLLATION")
        known = {row[0] for row in cursor.fetchall()}
        collation = next(one for one in COLLATIONS if one in known)
        quoted = server.ops.quote_name(name)
        cursor.execute(
            f"CREATE DATABASE IF NOT EXISTS {quoted} CHARACTER SET utf8mb4 COLLATE {collation}"
        )
    return f"Made the database {name}."


def quoted(text: str) -> str:
    """Return `text` as it stands between single quotes in a statement."""
    return text.replace("\\", "\\\\").replace("'", "''")


def user_statements(user: str) -> list[tuple[str, list[str]]]:
    """Return the statements, each with its parameters, that give a MySQL user the store's rights."""
    # In a GRANT `_` and `%` stand for any character and any characters.
    name = settings.MYSQL_NAME.replace("`", "``").replace("_", r"\_").replace("%", r"\%")
    return [
        ("CREATE USER IF NOT EXISTS %s@'%%'", [user]),
        (f"GRANT {RIGHTS} ON `{name.replace('%', '%%')}`.* TO %s@'%%'", [user]),
    ]


def make_user(user: str, password: str) -> None:
    """Make the user, or give one that is there this password and the store's rights."""
    statements = [*user_statements(user), ("ALTER USER %s@'%%' IDENTIFIED BY %s", [user, password])]
    with closing(_server()) as server, server.cursor() as cursor:
        for statement, parameters in statements:
            cursor.execute(statement, parameters)


def wrong_character_sets() -> list[str]:
    """Return a sentence for the MySQL database and each table of the store that is not in utf8mb4.

    There is no Persian in latin1 and no emoji in utf8mb3: a search for them would fail.
    """
    if not settings.MYSQL_HOST:
        return []
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT default_character_set_name FROM information_schema.schemata"
            " WHERE schema_name = DATABASE() AND default_character_set_name <> 'utf8mb4'"
        )
        found = [
            f"The database {settings.MYSQL_NAME} is in {character_set}: ALTER DATABASE "
            f"{quote(settings.MYSQL_NAME)} CHARACTER SET utf8mb4 COLLATE {COLLATIONS[-1]}"
            for (character_set,) in cursor.fetchall()
        ]
        cursor.execute(
            "SELECT DISTINCT table_name, character_set_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND character_set_name <> 'utf8mb4'"
            " AND table_name LIKE 'store\\_%'"
        )
        return found + [
            f"The table {table} is in {character_set}: ALTER TABLE {quote(table)} CONVERT TO "
            f"CHARACTER SET utf8mb4 COLLATE {COLLATIONS[-1]}"
            for table, character_set in cursor.fetchall()
        ]


def wrong_engines() -> list[str]:
    """Return a sentence for each table of the store whose engine knows no transactions, as MyISAM.

    The server's default decides for tables that were made before the settings named InnoDB.
    """
    if not settings.MYSQL_HOST:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, engine FROM information_schema.tables JOIN information_schema.engines"
            " USING (engine) WHERE table_schema = DATABASE() AND transactions <> 'YES'"
            " AND table_name LIKE 'store\\_%'"
        )
        return [
            f"The table {table} is of {engine}, which undoes nothing: ALTER TABLE "
            f"{connection.ops.quote_name(table)} ENGINE = InnoDB"
            for table, engine in cursor.fetchall()
        ]


@checks.register(checks.Tags.database)
def check_character_sets(
    databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Warn, with each `migrate` and `check --database default`, of what the server's defaults made."""
    if "default" not in (databases or ()):
        return []
    return [
        *(checks.Warning(one, id="store.W001") for one in wrong_character_sets()),
        *(checks.Warning(one, id="store.W002") for one in wrong_engines()),
    ]


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold a lock that all preparers of this database share, so that replicas may start together."""
    if not settings.MYSQL_HOST:
        settings.VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (settings.VAR_DIR / "prepare.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with closing(_server()) as server:  # Closing the connection frees the lock.
        with server.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, %s)", [_lock_name(), LOCK_SECONDS])
            if cursor.fetchone() != (1,):
                raise OperationalError(f"another process has prepared for {LOCK_SECONDS} s")
        yield


def _lock_name() -> str:
    return f"prepare {settings.MYSQL_NAME}"[:64]  # MySQL's longest name of a lock


def _server() -> BaseDatabaseWrapper:
    """Return a connection to the MySQL server itself, with no database chosen."""
    server = connections.create_connection("default")
    server.settings_dict = {**server.settings_dict, "NAME": ""}
    return server
