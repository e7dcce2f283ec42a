"""What a client has given up on, MySQL carries out all the same: it is stopped, or waited for.

A write that takes effect after the cache has been told of it would leave an old list until CACHE_TTL. So
where the answer to a statement or a COMMIT is lost, its thread in the server is killed before the error
goes on to those who invalidate. If that cannot be done, a thread of this process goes on trying.
"""

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from freshcache import watched_connections
from freshcache.database_errors import another_connection, is_of_connection
from freshcache.sql_statements import READS, effect_of

logger = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
GONE_SECONDS = 1.0  # how long a thread that is killed may take to undo what it has done
NO_SUCH_THREAD = 1094  # ER_NO_SUCH_THREAD
LIMIT = 0.9  # of MYSQL_TIMEOUT_SECONDS


def limit_statements() -> None:
    """Have the server stop statements of this process' connections just before their client gives up.

    For processes that answer requests: MariaDB stops any statement, MySQL a SELECT.
    """
    for alias in connections:
        options = connections.settings[alias]["OPTIONS"]
        if connections[alias].vendor == "mysql":
            options["init_command"] += _limits(settings.MYSQL_TIMEOUT_SECONDS * LIMIT)


def _limits(seconds: float) -> str:
    # Each server skips what is for the other one: https://mariadb.com/kb/en/comment-syntax/
    return (
        f" /*M!100100 , max_statement_time = {seconds:g} */"
        f" /*!50708 , max_execution_time = {int(seconds * 1000)} */"
    )


class AbandonedStatements:
    """Those of this process. Each of `tell` is called once a write that went on has ended."""

    def __init__(self, tell: Iterable[Callable[[], object]]) -> None:
        self._tell = list(tell)
        # The server's number of each connection's thread, and when it was opened.
        self._threads: WeakKeyDictionary[BaseDatabaseWrapper, tuple[int, float]] = (
            WeakKeyDictionary()
        )
        self._owed: dict[int, float] = {}
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """After a fork: the lock may be held, and the thread is, by nobody."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """Watch every connection that this process will open; ahead of those who invalidate."""
        connection_created.connect(self._watch)
        watched_connections.on_failures.append(partial(self._failed, is_write=True))
        atexit.register(self._settle_at_exit)

    def _watch(self, connection: BaseDatabaseWrapper, **_signal: Any) -> None:
        if connection.vendor != "mysql" or connection.alias != "default":
            return
        self._threads[connection] = (connection.connection.thread_id(), time.monotonic())
        if self._see in connection.execute_wrappers:
            return
        # At the front, where whoever is to be told afterwards comes to stand in front of it.
        connection.execute_wrappers.insert(0, self._see)
        for name in ("_commit", "_set_autocommit"):
            setattr(connection, name, self._ending(connection, getattr(connection, name)))

    def _see(self, execute: Callable[..., Any], sql: str, *query: Any) -> Any:
        connection: BaseDatabaseWrapper = query[-1]["connection"]
        try:
            return execute(sql, *query)
        except (OperationalError, InterfaceError) as error:
            text = sql.decode(errors="replace") if isinstance(sql, bytes) else str(sql)
            self._failed(connection, error, is_write=effect_of(text, connection.vendor) != READS)
            raise

    def _ending(
        self, connection: BaseDatabaseWrapper, end: Callable[..., Any]
    ) -> Callable[..., Any]:
        def end_or_stop(*arguments: Any) -> Any:
            try:
                return end(*arguments)
            except (OperationalError, InterfaceError) as error:
                self._failed(connection, error, is_write=True)
                raise

        return end_or_stop

    def _failed(self, connection: BaseDatabaseWrapper, error: Exception, *, is_write: bool) -> None:
        watched = connection in self._threads and connection.connection is not None
        if not watched or not is_of_connection(error):
            return
        thread_id, opened_at = self._threads[connection]
        if is_write and not _end(thread_id, opened_at):
            with self._lock:
                self._owed[thread_id] = opened_at
            self._see_to_it()

    def settle(self) -> bool:
        """End what goes on, once; return whether nothing does."""
        for thread_id, opened_at in list(self._owed.items()):
            if not _end(thread_id, opened_at):
                return False
            for tell in self._tell:
                tell()
            with self._lock:
                del self._owed[thread_id]
        return True

    def _see_to_it(self) -> None:
        with self._lock:
            if self._thread and self._thread.is_alive():
                return
            self._thread = threading.Thread(
                target=self._go_on_trying, name="abandoned-statements", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # No thread to be had: the next one tries.
                self._thread.start()

    def _go_on_trying(self) -> None:
        while True:
            time.sleep(RETRY_SECONDS)
            self.settle()
            with self._lock:
                if not self._owed:
                    self._thread = None
                    return

    def _settle_at_exit(self) -> None:
        if not self.settle():
            logger.error("Ending while MySQL may still be carrying out a write.")


def watch(tell: Iterable[Callable[[], object]]) -> None:
    """From now on see to the statements of this process; to be called ahead of what invalidates."""
    statements = AbandonedStatements(tell)
    statements.watch()
    os.register_at_fork(after_in_child=statements.reset_after_fork)


def _end(thread_id: int, opened_at: float) -> bool:
    """Kill a thread of the server, whose connection was `opened_at`; return whether it is gone."""
    try:
        with closing(another_connection()) as other, other.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Uptime'")
            if float(cursor.fetchone()[1]) < time.monotonic() - opened_at - 1:
                return True  # Since a restart the number may be somebody else's.
            try:
                cursor.execute("KILL %s", [thread_id])
            except OperationalError as error:
                if error.args[0] != NO_SUCH_THREAD:
                    raise
            return _is_gone(cursor, thread_id)
    except Error:
        return False


def _is_gone(cursor: Any, thread_id: int) -> bool:
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        cursor.execute("SELECT 1 FROM information_schema.processlist WHERE id = %s", [thread_id])
        if cursor.fetchone() is None:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
