"""See every write that this process makes to a table, and act as soon as it has been committed.

Signals miss `QuerySet.update()`, `bulk_create()` and `bulk_update()`; overridden managers miss the
delete of a related row, fixtures, data migrations and raw SQL. All of them send SQL, so that is what
is watched, by Django's database instrumentation
(https://docs.djangoproject.com/en/5.2/topics/db/instrumentation/). Writes that Django does not
send (another program, a stored procedure) are not seen.

Commits are seen at `connection.commit()` and `set_autocommit()`, which are wrapped: Django's own commit
hooks are dropped when a COMMIT is carried out and only its answer is lost. Tested on Django 5.2 and 6.1.
"""

import re
from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

READING_STATEMENTS = ("SELECT", "EXPLAIN", "SHOW", "PRAGMA", "WITH")
# MySQL commits before each of these, whatever becomes of the transaction around it.
COMMITTING_STATEMENTS = frozenset(
    ["ALTER", "BEGIN", "COMMIT", "CREATE", "DROP", "GRANT", "LOCK", "RENAME", "START", "TRUNCATE"]
)
FIRST_WORD = re.compile(r"(?:\s|\(|/\*.*?\*/|--[^\n]*\n)*(\w+)", re.DOTALL)
WRITING_WORDS = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE|MERGE)\b", re.IGNORECASE)


class TableWatch:
    """Calls `on_write()` after each transaction that wrote to `table`, once, and not if it rolled back.

    Outside a transaction a statement commits by itself and `on_write()` follows at once. Any
    statement that mentions the table and is not known to only read counts as a write: one
    `on_write()` too many costs little, one too few would go unnoticed.
    """

    def __init__(self, table: str, on_write: Callable[[], None]) -> None:
        self.table = table.lower()
        self.on_write = on_write

    def install(self) -> None:
        """Watch every database connection that this process has or will open."""
        connection_created.connect(self._watch, dispatch_uid=f"watch {self.table}")
        for connection in connections.all(initialized_only=True):
            self._watch(connection=connection)

    def has_written(self, using: str = "default") -> bool:
        """Say whether the transaction under way on the database `using` wrote to the table.

        A write that an inner `atomic()` has rolled back does not count.
        """
        return self._is_waiting(connections[using])

    def _watch(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        if self._see in connection.execute_wrappers:
            return
        # At the front: the end of a `with connection.execute_wrapper()` takes the last one away.
        connection.execute_wrappers.insert(0, self._see)
        for name in ("commit", "set_autocommit"):
            setattr(connection, name, self._acting(connection, getattr(connection, name)))

    def _acting(
        self, connection: BaseDatabaseWrapper, ends_transaction: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Act after a commit, before callbacks that may raise, and even if its answer was lost."""

        def end(*args: Any, **kwargs: Any) -> Any:
            waiting = self._is_waiting(connection)
            try:
                return ends_transaction(*args, **kwargs)
            finally:
                if waiting:
                    connection.run_on_commit = [
                        entry for entry in connection.run_on_commit if entry[1] != self.on_write
                    ]
                    self.on_write()

        return end

    def _see(
        self,
        execute: Callable[..., Any],
        sql: str,
        params: Any,
        many: bool,  # noqa: FBT001  # Django calls it so.
        context: dict[str, Any],
    ) -> Any:
        connection, text = context["connection"], str(sql)
        first = FIRST_WORD.match(text)
        word = first[1].upper() if first else ""
        if word in COMMITTING_STATEMENTS and self._is_waiting(connection):
            try:
                return execute(sql, params, many, context)
            finally:
                self.on_write()
        if not self._may_write(word, text):
            return execute(sql, params, many, context)
        try:
            return execute(sql, params, many, context)
        finally:  # A statement whose answer was lost may have been carried out all the same.
            self._act_on_commit(connection)

    def _may_write(self, word: str, text: str) -> bool:
        if word in READING_STATEMENTS:
            may_hide_a_write = word == "WITH" or ";" in text.strip("; \n")
            if not (may_hide_a_write and WRITING_WORDS.search(text)):
                return False
        return self.table in text.lower()

    def _act_on_commit(self, connection: BaseDatabaseWrapper) -> None:
        if connection.autocommit:
            self.on_write()
        elif not self._is_waiting(connection):
            # What transaction.on_commit() does, and without atomic() as well.
            entry = (set(connection.savepoint_ids), self.on_write, False)
            connection.run_on_commit.append(entry)  # type: ignore[arg-type]  # Old stubs.

    def _is_waiting(self, connection: BaseDatabaseWrapper) -> bool:
        # Django itself drops callbacks of savepoints that are rolled back, so its list is the truth.
        return any(entry[1] == self.on_write for entry in connection.run_on_commit)
