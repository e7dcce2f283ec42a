"""Starts servers of several machines, each with ports and folders of its own."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import MySQLdb.cursors
from mirakuru import TCPExecutor

from tests.servers import free_port, start_mysql

WAIT_SECONDS = 30

# --- MariaDB with replicas ------------------------------------------------------------------------
DATABASE = "store"
USER = "store"  # May do nothing but use the database.
REPLICATION_USER = "replicator"


class MariaDB:
    """A MariaDB server that can be killed, hung and started again; keeps a binary log."""

    def __init__(self, number: int, *options: str) -> None:
        self.port = free_port()
        self.executor: TCPExecutor = start_mysql(
            self.port,
            f"--server-id={number}",
            "--log-bin=binlog",
            "--log-slave-updates",
            "--binlog-format=ROW",
            "--log-output=TABLE",
            "--skip-name-resolve",
            *options,
        )

    def run(self, sql: str, *, replicate: bool = True) -> list[dict[str, Any]]:
        """Run a statement as root and return the rows that it answers."""
        with contextlib.closing(
            MySQLdb.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=5)
        ) as server:
            server.autocommit(True)
            cursor = server.cursor(MySQLdb.cursors.DictCursor)
            cursor.execute(f"SET SESSION sql_log_bin = {int(replicate)}")
            cursor.execute(sql)
            return list(cursor.fetchall())

    def variable(self, name: str) -> str:
        return str(self.run(f"SELECT @@GLOBAL.{name} AS found")[0]["found"])

    @contextlib.contextmanager
    def counting(self, table: str) -> Iterator[list[str]]:
        """Collect the queries of others on `table` that come while the body runs, when it has ended."""
        seen: list[str] = []
        self.run("TRUNCATE mysql.general_log", replicate=False)
        self.run("SET GLOBAL general_log = ON")
        try:
            yield seen
        finally:
            self.run("SET GLOBAL general_log = OFF")
            rows = self.run(
                "SELECT CONVERT(argument USING utf8mb4) AS query FROM mysql.general_log"
                f" WHERE command_type = 'Query' AND argument LIKE 'SELECT%`{table}`%'"
            )
            seen += [row["query"] for row in rows]

    def kill(self) -> None:
        self.executor.kill()

    def hang(self) -> None:
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """End what `kill()` or `hang()` has begun."""
        if not self.executor.running():
            self.executor.start()
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        process = self.executor.process
        assert process
        os.kill(process.pid, number)


class Replication:
    """A primary and its replicas, all of which have the database `store` and the same users."""

    def __init__(self, count: int = 2) -> None:
        self.primary = MariaDB(1)
        self.replicas = [MariaDB(n) for n in range(2, 2 + count)]
        self.primary.run(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        for user, may in (
            (USER, f"ALL ON {DATABASE}.*"),
            (REPLICATION_USER, "REPLICATION SLAVE ON *.*"),
        ):
            self.primary.run(f"CREATE USER {user}")
            self.primary.run(f"GRANT {may} TO {user}")
        for replica in self.replicas:
            self.follow(replica, self.primary.port)
        self.catch_up()

    @property
    def variables(self) -> dict[str, str]:
        """What a store needs to know of them."""
        return {
            "MYSQL_HOST": "127.0.0.1",
            "MYSQL_PORT": str(self.primary.port),
            "MYSQL_NAME": DATABASE,
            "MYSQL_USER": USER,
            "MYSQL_REPLICA_HOST": ",".join(f"127.0.0.1:{one.port}" for one in self.replicas),
        }

    def follow(self, replica: MariaDB, port: int, delay_seconds: int = 0) -> None:
        """Have `replica` carry out what the server at `port` did `delay_seconds` ago."""
        replica.run("STOP SLAVE")
        replica.run(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port},"
            f" MASTER_USER='{REPLICATION_USER}', MASTER_USE_GTID=slave_pos,"
            f" MASTER_CONNECT_RETRY=1, MASTER_DELAY={delay_seconds}"
        )
        replica.run("START SLAVE")

    def delay(self, seconds: int) -> None:
        """Have all replicas lag."""
        for replica in self.replicas:
            self.follow(replica, self.primary.port, seconds)

    def mend(self) -> None:
        """Have all servers run and all replicas up to date."""
        for server in (self.primary, *self.replicas):
            server.go_on()
        self.delay(0)
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until all replicas have what the primary has."""
        position = self.primary.variable("gtid_binlog_pos")
        for replica in self.replicas:
            found = replica.run(f"SELECT MASTER_GTID_WAIT('{position}', {WAIT_SECONDS}) AS found")
            assert found == [{"found": 0}], replica.run("SHOW SLAVE STATUS")

    def close(self) -> None:
        for server in (self.primary, *self.replicas):
            with contextlib.suppress(ProcessLookupError, AssertionError):
                server.go_on()
            server.executor.kill()


def wait_for(condition: Any, seconds: float = WAIT_SECONDS) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)
