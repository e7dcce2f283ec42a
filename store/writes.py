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
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


# More notes of one transaction than this are of no interest to anybody.
MOST_NOTES = 101


@dataclass(frozen=True)
class Note:
    """What one write of a transaction was: None, or what its writer says.

    Notes wait among the transaction's commit hooks, as Django drops those of savepoints that are
    rolled back: its list is the truth.
    """

    watch: "TableWatch"
    what: Any

    def __call__(self) -> None:
        self.watch.on_write([self.what])


@dataclass
class Apart:
    """What has been seen of the writes that their writer is going to describe."""

    last_word: str = ""
    connection: BaseDatabaseWrapper | None = None


class TableWatch:
    """Calls `on_write(notes)` after each transaction that wrote to `table`, and not if it rolled back.

    It is called once, with what `note()` was told in their order; all writes that nobody described are
    one note, None. Outside a transaction a statement commits by itself and `on_write()` follows at
    once. Any statement that mentions the table and is not known to only read counts as a write: one
    `on_write()` too many costs little, one too few would go unnoticed. Of two watches the one that
    was installed first acts first.
    """

    def __init__(self, table: str, on_write: Callable[[list[Any]], None]) -> None:
        self.table = table.lower()
        self.on_write = on_write
        self._local = threading.local()

    def install(self) -> None:
        """Watch every database connection that this process has or will open."""
        connection_created.connect(self._watch)
        for connection in connections.all(initialized_only=True):
            self._watch(connection=connection)

    @contextmanager
    def apart(self) -> Iterator[Apart]:
        """Keep what this thread writes in the body for its writer to `note()`.

        A body that fails leaves that to nobody: what it wrote counts as any other write.
        """
        outer: Apart | None = getattr(self._local, "apart", None)
        seen = self._local.apart = Apart()
        try:
            yield seen
        except BaseException:
            if seen.connection:
                self.note(None, seen.connection)
            raise
        finally:
            self._local.apart = outer

    def note(self, what: Any, connection: BaseDatabaseWrapper) -> None:
        """Tell `on_write()` of one write, once it is committed: at once outside a transaction."""
        if connection.autocommit:
            self.on_write([what])
            return
        notes = self._notes(connection)
        if len(notes) < MOST_NOTES and not (what is None and None in notes):
            # What transaction.on_commit() does, and without atomic() as well.
            entry = (set(connection.savepoint_ids), Note(self, what), False)
            connection.run_on_commit.append(entry)  # type: ignore[arg-type]  # Old stubs.

    def has_written(self, using: str = "default") -> bool:
        """Say whether the transaction under way on the database `using` wrote to the table.

        A write that an inner `atomic()` has rolled back does not count.
        """
        return bool(self._notes(connections[using]))

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
            notes = self._notes(connection)
            try:
                return ends_transaction(*args, **kwargs)
            finally:
                if notes:
                    connection.run_on_commit = [
                        entry
                        for entry in connection.run_on_commit
                        if not (isinstance(entry[1], Note) and entry[1].watch is self)
                    ]
                    self.on_write(notes)

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
        notes = self._notes(connection) if word in COMMITTING_STATEMENTS else []
        if notes:
            try:
                return execute(sql, params, many, context)
            finally:
                self.on_write(notes)
        if not self._may_write(word, text):
            return execute(sql, params, many, context)
        try:
            return execute(sql, params, many, context)
        finally:  # A statement whose answer was lost may have been carried out all the same.
            self._wrote(word, connection)

    def _may_write(self, word: str, text: str) -> bool:
        if word in READING_STATEMENTS:
            may_hide_a_write = word == "WITH" or ";" in text.strip("; \n")
            if not (may_hide_a_write and WRITING_WORDS.search(text)):
                return False
        return self.table in text.lower()

    def _wrote(self, word: str, connection: BaseDatabaseWrapper) -> None:
        apart: Apart | None = getattr(self._local, "apart", None)
        if apart is None:
            self.note(None, connection)
        else:
            apart.last_word, apart.connection = word, connection

    def _notes(self, connection: BaseDatabaseWrapper) -> list[Any]:
        hooks = (entry[1] for entry in connection.run_on_commit)
        return [hook.what for hook in hooks if isinstance(hook, Note) and hook.watch is self]
