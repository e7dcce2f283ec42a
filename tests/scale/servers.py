"""Starts servers of several machines, each with ports and folders of its own."""

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import MySQLdb.cursors
from mirakuru import TCPExecutor
from redis import Redis
from redis.exceptions import RedisError

from tests.servers import (
    free_port,
    is_mariadb,
    redis_binary,
    start_mysql,
    start_redis,
    start_server,
    temporary_folder,
)
from tests.waiting import wait_for

CATCH_UP_SECONDS = 30

# --- MariaDB, or MySQL, with replicas -------------------------------------------------------------
DATABASE = "store"
USER = "store"  # May do nothing but use the database.
REPLICATION_USER = "replicator"


@dataclass(frozen=True)
class Dialect:
    """What MariaDB and MySQL have different words for."""

    options: tuple[str, ...]
    replica: str
    follow: str
    delay: str
    position: str
    reaches: str


MARIADB = Dialect(
    options=("--log-slave-updates", "--skip-name-resolve"),
    replica="SLAVE",
    follow="CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='{user}',"
    " MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_DELAY={seconds}",
    delay="Seconds_Behind_Master",
    position="gtid_binlog_pos",
    reaches="MASTER_GTID_WAIT",
)
MYSQL = Dialect(
    options=("--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--mysqlx=OFF"),
    replica="REPLICA",
    follow="CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port},"
    " SOURCE_USER='{user}', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1,"
    " SOURCE_DELAY={seconds}, GET_SOURCE_PUBLIC_KEY=1",
    delay="Seconds_Behind_Source",
    position="gtid_executed",
    reaches="WAIT_FOR_EXECUTED_GTID_SET",
)


class DatabaseServer:
    """A MariaDB or MySQL server that can be killed, hung and started again; keeps a binary log."""

    def __init__(self, number: int, *options: str) -> None:
        self.dialect = MARIADB if is_mariadb() else MYSQL
        self.port = free_port()
        self.executor: TCPExecutor = start_mysql(
            self.port,
            f"--server-id={number}",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--log-output=TABLE",
            *self.dialect.options,
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

    def stand_still(self) -> None:
        """Go on hearing what the primary did, and do nothing of it."""
        self.run(f"STOP {self.dialect.replica} SQL_THREAD")

    def catch_up_again(self) -> None:
        """End what `stand_still()` has begun."""
        self.run(f"START {self.dialect.replica} SQL_THREAD")

    def own_delay_seconds(self) -> int | None:
        """Return how far behind it takes itself to be; None if it knows that it hears nothing."""
        found: int | None = self.run(f"SHOW {self.dialect.replica} STATUS")[0][self.dialect.delay]
        return found

    @contextlib.contextmanager
    def locking(self, table: str) -> Iterator[None]:
        """Have all who ask for `table` wait until the body has run; the server is well."""
        with contextlib.closing(
            MySQLdb.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=5)
        ) as server:
            server.query(f"LOCK TABLES {DATABASE}.{table} WRITE")
            yield

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
        self.primary = DatabaseServer(1)
        self.replicas = [DatabaseServer(n) for n in range(2, 2 + count)]
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

    def follow(self, replica: DatabaseServer, port: int, delay_seconds: int = 0) -> None:
        """Have `replica` carry out what the server at `port` did `delay_seconds` ago."""
        words = replica.dialect
        replica.run(f"STOP {words.replica}")
        replica.run(words.follow.format(port=port, user=REPLICATION_USER, seconds=delay_seconds))
        replica.run(f"START {words.replica}")

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
        words = self.primary.dialect
        position = self.primary.variable(words.position)
        for replica in self.replicas:
            wait = f"SELECT {words.reaches}('{position}', {CATCH_UP_SECONDS}) AS found"
            assert replica.run(wait) == [{"found": 0}], replica.run(f"SHOW {words.replica} STATUS")

    def close(self) -> None:
        for server in (self.primary, *self.replicas):
            with contextlib.suppress(ProcessLookupError, AssertionError):
                server.go_on()
            server.executor.kill()


# --- Redis Sentinel -------------------------------------------------------------------------------

NAME = "store-primary"
PASSWORD = "of-the-servers"
DOWN_AFTER_SECONDS = 1


class Sentinels:
    """A primary, two replicas and three sentinels, which make one of these the primary if need be."""

    def __init__(
        self,
        replicas: int = 2,
        sentinels: int = 3,
        certificate: Path | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        """With a `certificate`, whose key is beside it, all of them speak TLS alone.

        With a `sentinel_password` the sentinels want it, from each other as well, and know a user `store`
        who has the same and may ask nothing but what a store asks.
        """
        self._certificate, self._sentinel_password = certificate, sentinel_password
        first = self._start_redis()
        self.servers = {first.port: first}
        for _ in range(replicas):
            server = self._start_redis("--replicaof", f"127.0.0.1 {first.port}")
            self.servers[server.port] = server
        with self.client(first.port) as primary:
            wait_for(lambda: in_sync(primary) == replicas)
        quorum = sentinels // 2 + 1
        self.sentinels = [self._start_sentinel(first.port, quorum) for _ in range(sentinels)]
        for sentinel in self.sentinels:
            with self.ask_sentinel(sentinel.port) as client:
                wait_for(lambda: knows(client, replicas, sentinels - 1))

    def _start_redis(self, *options: str) -> TCPExecutor:
        port = free_port()
        secret = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
        # What a replica has to catch up with is sent at once, not after the usual 5 s.
        return start_redis(
            port, *secret, "--repl-diskless-sync-delay", "0", *self._tls(port), *options
        )

    def _start_sentinel(self, primary_port: int, quorum: int) -> TCPExecutor:
        port = free_port()
        file: Path = temporary_folder() / "sentinel.conf"
        lines = [
            f"sentinel monitor {NAME} 127.0.0.1 {primary_port} {quorum}",
            f"sentinel auth-pass {NAME} {PASSWORD}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_SECONDS * 1000}",
            f"sentinel failover-timeout {NAME} 10000",
        ]
        if secret := self._sentinel_password:
            may = "+sentinel|get-master-addr-by-name +sentinel|master"
            lines += [f"requirepass {secret}", f"user store on >{secret} -@all {may}"]
        file.write_text("\n".join(lines) + "\n")
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(file.parent)]
        command = [redis_binary(), str(file), "--sentinel", *options, *self._tls(port)]
        return start_server(command, port)

    def _tls(self, port: int) -> tuple[str, ...]:
        if self._certificate is None:
            return ()
        certificate, key = str(self._certificate), str(self._certificate.with_name("key.pem"))
        files = ("--tls-cert-file", certificate, "--tls-key-file", key)
        files += ("--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
        return ("--port", "0", "--tls-port", str(port), "--tls-replication", "yes", *files)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        if self._certificate is None:
            return f"redis+sentinel://:{PASSWORD}@{hosts}/{NAME}/0"
        return f"rediss+sentinel://:{PASSWORD}@{hosts}/{NAME}/0?ssl_ca_certs={self._certificate}"

    def client(self, port: int, password: str | None = PASSWORD) -> Redis:
        tls = {"ssl": True, "ssl_ca_certs": str(self._certificate)} if self._certificate else {}
        return Redis(host="127.0.0.1", port=port, password=password, socket_timeout=2, **tls)

    def ask_sentinel(self, port: int) -> Redis:
        return self.client(port, password=self._sentinel_password)

    def primary_port(self) -> int:
        """Return where the primary is, says a majority of those sentinels that answer."""
        said = []
        for one in self.sentinels:
            with self.ask_sentinel(one.port) as client:
                try:
                    said.append(client.sentinel_get_master_addr_by_name(NAME)[1])
                except RedisError:
                    continue
        return max(set(said), key=said.count)

    def primary(self) -> Redis:
        return self.client(self.primary_port())

    def wait_for_another(self, than: int) -> float:
        """Return after how long the sentinels have another primary."""
        return wait_for(lambda: self.primary_port() != than)

    def wait_until_whole(self) -> None:
        """Return once all servers but the primary are its replicas again, in sync."""

        def whole() -> bool:
            with self.primary() as primary:
                try:
                    return in_sync(primary) == len(self.servers) - 1
                except RedisError:
                    return False

        wait_for(whole, 60)

    def kill(self, port: int) -> None:
        self.servers[port].kill()

    def close(self) -> None:
        for one in [*self.sentinels, *self.servers.values()]:
            one.kill()


def in_sync(primary: Redis) -> int:
    """Return how many replicas have all that the primary has."""
    found = primary.info("replication")
    replicas = [value for key, value in found.items() if key.startswith("slave")]
    return sum(one["state"] == "online" for one in replicas if isinstance(one, dict))


def knows(sentinel: Redis, replicas: int, others: int) -> bool:
    state = sentinel.sentinel_master(NAME)
    return state["num-slaves"] == replicas and state["num-other-sentinels"] == others


@contextmanager
def stopped(executor: TCPExecutor) -> Iterator[None]:
    """Hang a server: it accepts connections and answers nothing."""
    os.kill(executor.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(executor.process.pid, signal.SIGCONT)
