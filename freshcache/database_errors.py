"""What an error of the database says: is the server down, or is it this one statement that failed?

mysqlclient raises OperationalError for both. A statement that takes too long, waits for a lock or mixes
collations fails alone; only a server that takes no new connection is down.
"""

import sqlite3
from contextlib import closing
from contextvars import ContextVar

from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from freshcache.circuit_breaker import Verdict

# How long a server that has not answered a statement may take to connect, and to answer a ping.
PING_SECONDS = 1
CLIENT_ERRORS = range(2000, 3000)  # what the client says by itself: CR_SERVER_LOST and its kind
# ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED, ER_CLIENT_INTERACTION_TIMEOUT; InterfaceError has 0
ENDED_BY_SERVER = (0, 1053, 1927, 4031)
# https://www.sqlite.org/rescode.html; "database is locked" (SQLITE_BUSY) is not among them.
SQLITE_OUTAGES = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)
PRIMARY_CODE = 0xFF  # SQLite's extended codes have the cause of an error in the other bits.

# Options of a vendor's driver that say how long a server is waited for.
LIMITS = {
    "mysql": ("connect_timeout", "read_timeout", "write_timeout"),
    "postgresql": ("connect_timeout",),
}
# Whether what failed was asked in another thread, which has another connection: async code does so.
is_elsewhere: ContextVar[bool] = ContextVar("is_elsewhere", default=False)


def judge(error: Exception, was_down: bool) -> Verdict:  # noqa: FBT001  # Its one caller has both.
    """Say whether `error`, raised by a use of the default connection, means that the server is down.

    A connection that has failed is closed. Pings on a new one, for at most twice PING_SECONDS.
    """
    connection = connections["default"]
    if not isinstance(error, OperationalError | InterfaceError):
        # A view may raise before it asks; a connection that has failed has been closed.
        return Verdict.UNKNOWN if connection.connection is None else Verdict.ANSWERED
    if connection.vendor == "sqlite":
        code = getattr(error.__cause__, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY_CODE
        is_down = code in SQLITE_OUTAGES
        if is_down:
            connection.close()
        return Verdict.DOWN if is_down else Verdict.ANSWERED
    if connection.connection is None and not is_elsewhere.get():
        return Verdict.DOWN  # It could not even be opened.
    if not is_of_connection(error):
        return Verdict.ANSWERED
    connection.close()
    return Verdict.DOWN if was_down or not _answers() else Verdict.ANSWERED


def describe(error: BaseException) -> str:
    """Return kind, text and address of an error of the default database in one line."""
    known = connections["default"].settings_dict
    where = f"{known['HOST']}:{known['PORT']}" if known["HOST"] else known["NAME"]
    return f"{type(error).__name__}: {error} [{where}]"


def is_of_connection(error: Exception) -> bool:
    """Say whether MySQL's answer was lost, or never came."""
    code = error.args[0] if error.args else 0
    return not isinstance(code, int) or code in ENDED_BY_SERVER or code in CLIENT_ERRORS


def another_connection(seconds: int = PING_SECONDS) -> BaseDatabaseWrapper:
    """Return a connection to the default database, not opened yet, that waits so long at most."""
    made = connections.create_connection("default")
    made.alias = "another"  # What is watched on the default one is not on this one.
    names = LIMITS.get(made.vendor, ())
    limits = dict.fromkeys(names, seconds)
    options = {**made.settings_dict["OPTIONS"], **limits}
    made.settings_dict = {**made.settings_dict, "OPTIONS": options}
    return made


def _answers() -> bool:
    with closing(another_connection()) as new:
        try:
            new.ensure_connection()
        except Error:
            return False
    return True
