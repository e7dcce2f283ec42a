"""See every write that this process makes to a table, and act as soon as it has been committed.

Signals miss `QuerySet.update()`, `bulk_create()` and `bulk_update()`, overridden managers the delete of a
related row, fixtures and raw SQL. All of them send SQL, so that is what `watched_connections` watches;
`sql_statements` says what is not seen. Tested on Django 5.2 and 6.1.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from freshcache import watched_connections
from freshcache.sql_statements import Effect

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
    """Calls `on_write(notes)` after each transaction that wrote to `tables`, and not if it rolled back.

    It is called once, with what `note()` was told in their order; all writes that nobody described are
    one note, None. Outside a transaction a statement commits by itself and `on_write()` follows at
    once. Any statement that may write the table and is not known to only read counts as a write, in a
    transaction that SQL has begun too, both at once and whenever that may have been committed: one
    `on_write()` too many costs little, one too few would go unnoticed. Of two watches the one that
    was installed first acts first.
    """

    def __init__(self, tables: Collection[str], on_write: Callable[[list[Any]], None]) -> None:
        self.tables = frozenset(table.lower() for table in tables)
        self.on_write = on_write
        self._local = threading.local()

    def install(self) -> None:
        """Watch every database connection that this process has or will open."""
        watched_connections.tell(self)

    def uninstall(self) -> None:
        """Watch no more."""
        watched_connections.tell_no_more(self)

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
        self._keep(what, connection)
        watched_connections.carried_out(connection)

    def has_written(self, using: str = "default") -> bool:
        """Say whether the transaction under way on the database `using` wrote to the table.

        A write that an inner `atomic()` has rolled back does not count.
        """
        return bool(self.notes(connections[using]))

    def may_be_written(self, effect: Effect) -> bool:
        """Say whether it may be a write to this table: a view may have it under any name."""
        tables = effect.tables
        return bool(self.tables & (tables | effect.made)) or not tables <= _plain_tables()

    def wrote(self, text: str, connection: BaseDatabaseWrapper) -> None:
        """Note a write by the statement `text`; `committed()` follows, at once outside a transaction."""
        apart: Apart | None = getattr(self._local, "apart", None)
        if apart is None:
            self._keep(None, connection)
        else:
            apart.last_word, apart.connection = text.lstrip()[:6].upper(), connection

    def committed(self, connection: BaseDatabaseWrapper, *, forget: bool) -> None:
        """Act on what may have been committed, and forget it if the transaction is over."""
        if notes := self.notes(connection):
            if forget:
                connection.run_on_commit = [
                    entry
                    for entry in connection.run_on_commit
                    if not (isinstance(entry[1], Note) and entry[1].watch is self)
                ]
            self.on_write(notes)

    def notes(self, connection: BaseDatabaseWrapper) -> list[Any]:
        hooks = (entry[1] for entry in connection.run_on_commit)
        return [hook.what for hook in hooks if isinstance(hook, Note) and hook.watch is self]

    def _keep(self, what: Any, connection: BaseDatabaseWrapper) -> None:
        count = 0
        for entry in connection.run_on_commit:
            hook = entry[1]
            if isinstance(hook, Note) and hook.watch is self:
                if what is None and hook.what is None:
                    return  # One says it all.
                count += 1
        if count < MOST_NOTES:
            # What transaction.on_commit() does, and without atomic() as well.
            note = (set(connection.savepoint_ids), Note(self, what), False)
            connection.run_on_commit.append(note)  # type: ignore[arg-type]  # Old stubs.


def _plain_tables() -> frozenset[str]:
    """Return the tables that Django has made for models: a write to another name may reach any table."""
    return _tables_of_models() if apps.ready else frozenset()


@cache
def _tables_of_models() -> frozenset[str]:
    models = [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]
    return frozenset([*(model._meta.db_table.lower() for model in models), "django_migrations"])
