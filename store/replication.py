"""How far a MySQL replica has got, proved by transaction ids (GTIDs) and by no clock but this process'.

`SHOW REPLICA STATUS` is no proof: Seconds_Behind is 0 on a replica whose connection to its primary is
dead, and it takes a privilege. What the primary has committed, and whether a replica has it, everybody
may ask. Without a binary log, and on MySQL without gtid_mode, there is no proof and no replica is read.
"""

import contextlib
import logging
import threading
import time
from typing import Any

from django.db import Error, connections

logger = logging.getLogger(__name__)
IDLE_SECONDS = 5.0  # Without reads for so long a thread ends, and its connections with it.
LONGEST_PAUSE_SECONDS = 1.0


class NoPosition(Exception):
    """The primary keeps no transaction ids, by which a replica could prove anything."""


class Replica:
    """What this process knows of one replica, `alias` in settings.DATABASES.

    It may be read for `max_lag_seconds` from the beginning of its last proof of having all that the
    primary has. A thread asks for proofs while there are reads. A connection waits `timeout_seconds`.
    """

    def __init__(self, alias: str, max_lag_seconds: float, timeout_seconds: float) -> None:
        self.alias = alias
        self._max_lag_seconds = max_lag_seconds
        self._patience_seconds = min(max_lag_seconds, timeout_seconds) / 2
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # `_proved_at`: when the primary was asked for what the replica has been seen to have.
        self._wanted_at = self._failed_at = self._proved_at = float("-inf")
        self._failures = 0
        self._is_left_alone = False
        self._seen = threading.local()

    def is_usable(self) -> bool:
        """Say whether it may be read; who asks has it proved from now on."""
        self._see_to_proofs()
        return time.monotonic() - self._proved_at < self._max_lag_seconds

    def answers(self) -> bool:
        """Say whether it takes a new connection, for one on which a query has failed."""
        try:
            connections[self.alias].close()
            connections[self.alias].ensure_connection()
        except Error:
            return False
        return True

    def fail(self, error: Exception) -> None:
        """Leave it alone until its next proof."""
        with self._lock:
            self._failed_at, self._proved_at = time.monotonic(), float("-inf")
            self._failures += 1
        connections[self.alias].close()
        self._leave_alone(error)

    def renew_connection(self) -> None:
        """Close this thread's connection if it is older than the last failure, and so perhaps broken."""
        if getattr(self._seen, "failures", 0) != self._failures:
            connections[self.alias].close()
            self._seen.failures = self._failures

    def prove(self) -> None:
        """Have it prove that it has all that the primary has now, if it soon has."""
        asked_at = time.monotonic()
        try:
            wanted = position()
        except Error:  # What it means that the primary is down others see, and say.
            connections["default"].close()
            return
        except NoPosition as error:
            self._leave_alone(error)
            return
        try:
            is_there = reaches(self.alias, wanted, self._patience_seconds)
        except Error as error:
            self.fail(error)
            return
        with self._lock:
            if is_there and asked_at > self._failed_at:
                self._proved_at = asked_at
        if is_there and self._is_left_alone:
            self._is_left_alone = False
            logger.warning("%s is read again", self._name)

    @property
    def _name(self) -> str:
        known = connections.settings[self.alias]
        return f"The replica at {known['HOST']}:{known['PORT']}"

    def _leave_alone(self, error: Exception) -> None:
        if not self._is_left_alone:
            self._is_left_alone = True
            logger.error("%s is left alone: %s", self._name, error)

    def _see_to_proofs(self) -> None:
        self._wanted_at = time.monotonic()
        # A thread does not survive a fork; whoever comes first in the child starts another.
        if self._thread and self._thread.is_alive():
            return
        with self._lock:
            if self._thread and self._thread.is_alive():
                return
            self._thread = threading.Thread(
                target=self._go_on_proving, name=f"proofs of {self.alias}", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # No thread to be had: the next read tries.
                self._thread.start()

    def _go_on_proving(self) -> None:
        try:
            while time.monotonic() - self._wanted_at < IDLE_SECONDS:
                self.prove()
                time.sleep(min(self._max_lag_seconds / 4, LONGEST_PAUSE_SECONDS))
        finally:
            connections.close_all()


def position() -> str:
    """Return what the primary has committed until now; raises NoPosition and django.db.Error."""
    variable = "gtid_binlog_pos" if _is_mariadb("default") else "gtid_executed"
    found = str(_ask("default", f"SELECT @@GLOBAL.{variable}"))  # One of two names.
    if not found:
        raise NoPosition("the primary has no binary log with GTIDs")
    return found


def reaches(alias: str, wanted: str, seconds: float) -> bool:
    """Wait up to `seconds` until the replica `alias` has all of `wanted`; return whether it has.

    Raises django.db.Error if it cannot be asked.
    """
    wait = "MASTER_GTID_WAIT" if _is_mariadb(alias) else "WAIT_FOR_EXECUTED_GTID_SET"
    return bool(_ask(alias, f"SELECT {wait}(%s, %s)", [wanted, seconds]) == 0)


def _ask(alias: str, sql: str, parameters: Any = None) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone()
    return row and row[0]


def _is_mariadb(alias: str) -> bool:
    return bool(connections[alias].mysql_is_mariadb)  # type: ignore[attr-defined]  # MySQL's alone.
