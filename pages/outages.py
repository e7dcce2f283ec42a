"""Outages for the demo to show: Redis or the database fails for some seconds, and heals by itself.

Redis really hangs (CLIENT PAUSE). SQLite has no server that could: each process of the demo looks, ahead
of each query, at a file whose modification time says until when the database counts as down.
"""

import math
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from store.connections import queue_redis

SECONDS = 10
REDIS = "redis"
DATABASE = "database"


def stop_redis() -> int:
    """Have Redis answer nobody for SECONDS; return for how many it still does not.

    Raises RedisError if it does not even answer to that.
    """
    if not seconds_left(REDIS):
        queue_redis().client_pause(SECONDS * 1000, all=True)
        _note(REDIS)
    return seconds_left(REDIS)


def stop_database() -> int:
    """Have all queries of all processes fail for SECONDS; return for how many they still do."""
    if not seconds_left(DATABASE):
        _note(DATABASE)
    return seconds_left(DATABASE)


def seconds_left(what: str) -> int:
    """Return for how many seconds, begun ones too, REDIS or DATABASE is still stopped; 0: it is not."""
    try:
        left = math.ceil(_file(what).stat().st_mtime - time.time())
    except FileNotFoundError:
        return 0
    return left if 0 < left <= SECONDS else 0  # More than that: somebody has set the clock back.


def watch() -> None:
    """From now on the queries of this process fail while the database is stopped."""
    connection_created.connect(_watch)


def _watch(connection: BaseDatabaseWrapper, **_signal: Any) -> None:
    if _fail_while_stopped not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, _fail_while_stopped)


def _fail_while_stopped(execute: Callable[..., Any], *query: Any) -> Any:
    if seconds_left(DATABASE):
        # As SQLite has it where its file is out of reach.
        cause = sqlite3.OperationalError("the demo has stopped the database for a few seconds")
        cause.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise OperationalError(str(cause)) from cause
    return execute(*query)


def _note(what: str) -> None:
    until = time.time() + SECONDS
    path = _file(what)
    path.touch()
    os.utime(path, (until, until))


def _file(what: str) -> Path:
    return Path(settings.VAR_DIR / f"{what}.stopped")
