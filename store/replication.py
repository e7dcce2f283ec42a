"""How far a MySQL replica has got, proved by transaction ids (GTIDs) and by no clock but this process'.

`SHOW REPLICA STATUS` is no proof: Seconds_Behind is 0 on a replica whose connection to its primary is
hung, and takes a privilege. What the primary has committed so far and whether a replica has all of it
everybody may ask, on MariaDB (gtid_binlog_pos, MASTER_GTID_WAIT) and on MySQL (gtid_executed,
WAIT_FOR_EXECUTED_GTID_SET). Without a binary log, and on MySQL without gtid_mode, there is no proof.
"""

from typing import Any

from django.db import connections


class NoPosition(Exception):
    """The primary keeps no transaction ids, by which a replica could prove anything."""


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
