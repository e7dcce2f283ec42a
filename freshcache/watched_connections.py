"""Know of each database connection what is carried out on it, and whether a transaction is open.

Statements are seen by Django's instrumentation, commits by wrapping: Django drops its own hooks when a
COMMIT is carried out and only its answer is lost. What SQL began shows in the statements and in what the
driver says: whether autocommit is on (MySQL), a transaction open (SQLite). After a CALL neither tells:
one counts as open until a COMMIT, a ROLLBACK or the connection's end.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, WeakSet, ref

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper

from freshcache.sql_statements import ENDED, READS, UNKNOWN, After, Effect, effect_of

if TYPE_CHECKING:
    from freshcache.table_watch import TableWatch

_watches: list["TableWatch"] = []
# Called with a connection and the error of what does not go through its execute wrappers, ahead of those
# who act on what it may have written.
on_failures: list[Callable[[BaseDatabaseWrapper, Error], object]] = []


def tell(watch: "TableWatch") -> None:
    """From now on tell `watch` of what is carried out on every connection of this process."""
    if watch not in _watches:
        _watches.append(watch)
    connection_created.connect(_watch)
    for connection in connections.all(initialized_only=True):
        _watch(connection=connection)


def tell_no_more(watch: "TableWatch") -> None:
    """Tell `watch` of nothing any more."""
    if watch in _watches:
        _watches.remove(watch)


def carried_out(connection: BaseDatabaseWrapper) -> None:
    """Act on what `connection` has written, unless it waits for a commit."""
    if watched := _watched(connection):
        watched.carried_out(READS)


def in_transaction(using: str = "default") -> bool:
    """Say whether a transaction is open on the database `using`, or an older snapshot is being read."""
    connection = connections[using]
    if connection.connection is None or _is_of_test_case(connection):
        return False
    watched = _watched(connection)
    return not connection.autocommit or (watched is not None and watched.may_see_the_past())


def may_see_the_past(using: str = "default") -> bool:
    """Say whether what is read from the database `using` may be older than what was committed last."""
    watched = _watched(connections[using])
    return in_transaction(using) and not (watched and watched.reads_what_is_committed())


# Whether what is written in Django's TestCase, whose transaction never ends, counts as committed.
test_cases_commit = False


def commit_test_cases() -> None:
    """Act on what tests have written, if `test_cases_commit`."""
    if test_cases_commit:
        for connection in connections.all(initialized_only=True):
            watched = _watched(connection)
            if watched and _is_of_test_case(connection):
                watched.act(forget=True)


def _is_of_test_case(connection: BaseDatabaseWrapper) -> bool:
    """Say whether the transactions that are open there are a TestCase's, which count as none."""
    return (
        test_cases_commit
        and bool(connection.atomic_blocks)
        and all(one._from_testcase for one in connection.atomic_blocks)  # type: ignore[attr-defined]
    )


def _watched(connection: BaseDatabaseWrapper) -> "WatchedConnection | None":
    return getattr(connection, "watched", None)


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if watched := _watched(connection):
        watched.has_set_isolation = False  # It is another session of the server.
    else:
        WatchedConnection(connection)


class WatchedConnection:
    """What is known of one connection beyond what Django knows."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.begun_by_sql = False
        # By SQL: how transactions are isolated from each other may not be what Django knows.
        self.has_set_isolation = False
        self.chains = False  # Each COMMIT may begin the next transaction (completion_type).
        # Of statements whose results have not been read yet, and the cursor that has them.
        self.to_come: tuple[Effect, str] | None = None
        self.reader: ReferenceType[Any] | None = None
        self.cursors: WeakSet[Any] = WeakSet()
        self.is_sqlite = connection.vendor == "sqlite"
        # At the front: the end of a `with connection.execute_wrapper()` takes the last one away.
        connection.execute_wrappers.insert(0, self._see)
        self.connection = connection
        connection.watched = self  # type: ignore[attr-defined]  # Lives as long as it does.
        for name, change in (
            ("commit", self._committing),
            ("set_autocommit", self._setting_autocommit),
            ("rollback", self._ending),
            ("close", self._ending),
            ("make_cursor", self._making(WatchedCursor)),
            ("make_debug_cursor", self._making(WatchedDebugCursor)),
        ):
            setattr(connection, name, change(getattr(connection, name)))

    def is_open(self) -> bool:
        """Say whether a transaction is open, whoever began it."""
        driver = self.connection.connection
        if driver is None:
            return False
        if self.is_sqlite:
            return bool(driver.in_transaction)
        try:
            return self.begun_by_sql or not driver.get_autocommit()
        except self.connection.Database.Error:  # type: ignore[attr-defined]
            # It is gone, and its transaction with it.
            return False

    def reads_what_is_committed(self) -> bool:
        """Say whether each statement of a transaction of Django's sees all that was committed before it.

        So it is with MySQL's READ COMMITTED, which is Django's default:
        https://dev.mysql.com/doc/refman/8.4/en/innodb-transaction-isolation-levels.html
        """
        level = getattr(self.connection, "isolation_level", None)
        is_known = level == "read committed" and not self.has_set_isolation
        is_of_django = not (self.connection.autocommit or self.begun_by_sql)
        return is_known and is_of_django and self.to_come is None

    def may_see_the_past(self) -> bool:
        # SQLite's snapshot is as old as the oldest statement that has rows left.
        return (
            self.is_open()
            or self.to_come is not None
            or (self.is_sqlite and any(cursor.has_rows_left for cursor in self.cursors))
        )

    def _see(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001  # Django calls it so.
        context: dict[str, Any],
    ) -> Any:
        text = sql.decode(errors="replace") if isinstance(sql, bytes | bytearray) else str(sql)
        effect, cursor = effect_of(text, self.connection.vendor), context["cursor"]
        if effect is READS and not self.to_come:
            result = execute(sql, params, many, context)
            cursor.has_rows_left = True
            return result
        try:
            result = execute(sql, params, many, context)
        except BaseException:  # A statement whose answer was lost may have been carried out.
            self.results_are_read()
            self.carried_out(effect, text, failed=True)
            raise
        if self.to_come:
            self.results_are_read()
        if self.is_sqlite and cursor.cursor.description:
            cursor.has_rows_left = True
            # INSERT ... RETURNING commits once its rows have been read.
            if effect.tables and not self.is_open():
                self.to_come, self.reader = (effect, text), ref(cursor)
                return result
        if effect.several and not self.is_sqlite:
            self.to_come, self.reader = (effect, text), ref(cursor)
        self.carried_out(effect, text)
        return result

    def carried_out(self, effect: Effect, text: str = "", *, failed: bool = False) -> None:
        """Tell the watches what may have been written, and what may have been committed."""
        self.chains |= effect.chains
        # What calls something may change that as well.
        self.has_set_isolation |= effect.isolates or effect.after is After.OPEN
        if effect.after is After.OPEN and not self.is_sqlite:  # Whose driver tells.
            self.begun_by_sql = True
        elif effect.after is After.CLOSED and not failed:
            self.begun_by_sql = self.chains
        for watch in _watches:
            if watch.may_be_written(effect):
                watch.wrote(text, self.connection)
        is_over = not self.is_open()
        if not self.connection.run_on_commit:
            return
        # Begun by SQL: it may have ended by SQL as well, by a procedure for example.
        if effect.commits or is_over or self.begun_by_sql:
            self.act(forget=is_over)

    def results_are_read(self, cursor: Any = None, *, last: bool = True) -> None:
        """Act (again): a server goes on with the next statement while the first one's result is read.

        Without a `cursor`: another statement has been sent, which ends what MySQL had to say.
        """
        reader = self.reader() if self.reader else None
        if self.to_come is None or (cursor is not None and cursor is not reader):
            return
        effect, text = self.to_come
        goes_on = self.is_sqlite and reader is not None and reader.has_rows_left
        if last and not goes_on:
            self.to_come = self.reader = None
        self.carried_out(effect, text)

    def act(self, *, forget: bool) -> None:
        for watch in _watches:
            watch.committed(self.connection, forget=forget)

    def _committing(self, commit: Callable[[], Any]) -> Callable[[], Any]:
        """Act after a commit, before callbacks that may raise, and even if its answer was lost."""

        def act() -> Any:
            try:
                return commit()
            finally:
                self.begun_by_sql = self.chains
                self.act(forget=not self.chains)

        return act

    def _setting_autocommit(self, set_autocommit: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            before = [watch.notes(self.connection) for watch in _watches]
            try:
                return set_autocommit(*args, **kwargs)
            finally:
                if any(before):
                    self.act(forget=not self.is_open())

        return act

    def _ending(self, end: Callable[[], Any]) -> Callable[[], Any]:
        """Act on what may have been committed in the meantime; Django's own transaction was not."""

        def act() -> Any:
            is_unclear = self.connection.autocommit or self.begun_by_sql
            to_come = self.to_come
            notes = [(watch, watch.notes(self.connection)) for watch in _watches]
            try:
                return end()
            finally:
                self.chains &= self.connection.connection is not None
                self.begun_by_sql, self.to_come = self.chains, None
                for watch, what in notes:
                    if what and is_unclear:
                        watch.on_write(what)
                if to_come:
                    self.carried_out(*to_come)

        return act

    def _making(self, kind: type["WatchedCursor | WatchedDebugCursor"]) -> Callable[..., Any]:
        def changed(_make: Callable[..., Any]) -> Callable[[Any], Any]:
            def make(cursor: Any) -> Any:
                made = kind(cursor, self.connection)
                made.watched = self
                self.cursors.add(made)
                return made

            return make

        return changed


class _Watched(CursorWrapper):
    """A cursor that tells of what goes past `execute()`, and of when its results have been read."""

    watched: WatchedConnection
    has_rows_left = False

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().callproc(*args, **kwargs)
        except Error as error:
            self._failed(error)
            raise
        finally:
            self.watched.to_come, self.watched.reader = (UNKNOWN, ""), ref(self)
            self.watched.carried_out(UNKNOWN)

    def executescript(self, script: str) -> Any:
        """SQLite's: it commits first."""
        try:
            with self.db.wrap_database_errors:
                return self.cursor.executescript(script)
        finally:
            self.watched.carried_out(ENDED.then(effect_of(script, "sqlite")))

    def nextset(self) -> Any:
        more = None
        try:
            with self.db.wrap_database_errors:
                more = self.cursor.nextset()
                return more
        except Error as error:
            self._failed(error)
            raise
        finally:
            self.watched.results_are_read(self, last=not more)

    def fetchone(self) -> Any:
        with self.db.wrap_database_errors:
            row = self.cursor.fetchone()
        if row is None:
            self._no_rows_left()
        return row

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        with self.db.wrap_database_errors:
            rows = self.cursor.fetchmany(*args, **kwargs)
        if not rows:
            self._no_rows_left()
        return rows

    def fetchall(self) -> Any:
        with self.db.wrap_database_errors:
            rows = self.cursor.fetchall()
        self._no_rows_left()
        return rows

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        self._no_rows_left()

    def close(self) -> None:
        try:
            self.cursor.close()
        finally:
            self.has_rows_left = False
            if self.watched.to_come:
                self.watched.results_are_read(self)

    def _failed(self, error: Error) -> None:
        for tell in on_failures:
            tell(self.db, error)

    def _no_rows_left(self) -> None:
        self.has_rows_left = False
        if self.watched.to_come and self.watched.is_sqlite:
            self.watched.results_are_read(self)


class WatchedCursor(_Watched):
    pass


class WatchedDebugCursor(_Watched, CursorDebugWrapper):
    pass
