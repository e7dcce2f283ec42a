"""Redis Sentinel: which of several servers is the primary, as one process knows it.

A thread asks the sentinels (SENTINEL GET-MASTER-ADDR-BY-NAME, SENTINEL MASTER) twice a second while
connections are used. What a majority of them says is true for TRUST_SECONDS; without a majority nothing
is, as a server that is cut off from them may have been replaced: ConnectionError, an outage like others.
"""

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from redis.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.5
TRUST_SECONDS = 2.0
ASK_SECONDS = 0.3  # how long one sentinel is waited for
# Without connections in use for so long nobody is asked any more.
IDLE_SECONDS = 60.0

Address = tuple[str, int]


@dataclass(frozen=True)
class Service:
    """A primary's name, and the sentinels that know where it is."""

    name: str
    sentinels: tuple[Address, ...]
    # of connections to the sentinels: user, password, TLS
    options: tuple[tuple[str, Any], ...] = field(repr=False)
    uses_tls: bool


class PrimaryChanged(RedisConnectionError):
    """Another server has become the primary."""


class Primary:
    """What one process knows of the primary of a service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.listeners: list[Callable[[], object]] = []
        self.address_known: Address | None = None
        self.epoch = ""
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """After a fork: the lock may be held, and the thread is, by nobody; what is known stays."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._confirmed_at = self._used_at = float("-inf")
        self._sentinels = [_Sentinel(self.service, at) for at in self.service.sentinels]
        self._said = dict.fromkeys(self.service.sentinels, "not asked yet")
        self._told_of_no_majority = False

    def address(self, wait_seconds: float) -> Address:
        """Return where the primary is; raises ConnectionError if no majority says so in time."""
        self._used_at = time.monotonic()
        if not (self._is_confirmed() and self._thread and self._thread.is_alive()):
            with self._changed:
                self._start_thread()
                if not self._changed.wait_for(self._is_confirmed, wait_seconds):
                    raise RedisConnectionError(self._no_majority())
        assert self.address_known  # noqa: S101  # It has been confirmed.
        return self.address_known

    def _is_confirmed(self) -> bool:
        return time.monotonic() - self._confirmed_at < TRUST_SECONDS

    def _start_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._follow, name="sentinels", daemon=True)
            with contextlib.suppress(RuntimeError):  # No thread to be had: the next one tries.
                self._thread.start()

    def _follow(self) -> None:
        while time.monotonic() - self._used_at < IDLE_SECONDS:
            asked_at = time.monotonic()
            if found := self._ask():
                self._confirm(*found, asked_at)
                self._told_of_no_majority = False
            elif not (self._is_confirmed() or self._told_of_no_majority):
                # Who waits for the answer gives up before all sentinels have said what is wrong.
                logger.warning("%s", self._no_majority())
                self._told_of_no_majority = True
            time.sleep(POLL_SECONDS)
        for sentinel in self._sentinels:
            sentinel.disconnect()

    def _ask(self) -> tuple[Address, str] | None:
        """Return what a majority says: where the primary is, and what tells its reign from others."""
        majority = len(self._sentinels) // 2 + 1
        votes: Counter[Address] = Counter()
        epochs: dict[Address, int] = {}
        for sentinel in list(self._sentinels):
            try:
                address, epoch = sentinel.ask()
            except (RedisError, OSError) as error:
                self._said[sentinel.at] = str(error)
                sentinel.disconnect()
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)  # The next time it is asked last, if at all.
                continue
            self._said[sentinel.at] = f"at {address[0]}:{address[1]}"
            votes[address] += 1
            epochs[address] = max(epoch, epochs.get(address, 0))
            if votes[address] == majority:
                return address, _digest(address, epochs[address])
        return None

    def _no_majority(self) -> str:
        said = "; ".join(f"{host}:{port}: {text}" for (host, port), text in self._said.items())
        return f"no majority of the sentinels says where {self.service.name!r} is ({said})"

    def _confirm(self, address: Address, epoch: str, asked_at: float) -> None:
        if epoch != self.epoch:
            logger.log(
                logging.WARNING if self.epoch else logging.DEBUG,
                "%r is at %s:%d, say its sentinels",
                self.service.name,
                *address,
            )
            if self.epoch:
                for tell in self.listeners:  # Before anybody can ask the new one anything.
                    tell()
        with self._changed:
            self.epoch, self.address_known, self._confirmed_at = epoch, address, asked_at
            self._changed.notify_all()


def _digest(address: Address, epoch: int) -> str:
    return hashlib.sha256(f"{address}@{epoch}".encode()).hexdigest()


class _Sentinel:
    """A connection to one sentinel, for one thread."""

    def __init__(self, service: Service, address: Address) -> None:
        kind = SSLConnection if service.uses_tls else Connection
        host, port = self.at = address
        self._name = service.name
        self._connection: Any = kind(
            host=host,
            port=port,
            socket_connect_timeout=ASK_SECONDS,
            socket_timeout=ASK_SECONDS,
            protocol=2,
            driver_info=None,
            **dict(service.options),
        )

    def ask(self) -> tuple[Address, int]:
        """Return the primary's address and the number of the failover that made it the primary.

        Raises RedisError. During a failover the address is ahead of what SENTINEL MASTER says.
        """
        commands = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)]
        commands.append(("SENTINEL", "MASTER", self._name))
        connection = self._connection
        connection.connect()
        connection.send_packed_command(connection.pack_commands(commands))
        address, state = connection.read_response(), connection.read_response()
        host, port = address
        epoch = dict(zip(state[::2], state[1::2], strict=True))[b"config-epoch"]
        return (host.decode(), int(port)), int(epoch)

    def disconnect(self) -> None:
        self._connection.disconnect()


@cache
def primary_of(service: Service) -> Primary:
    """Return what this process knows of the primary; all connections of the process share it."""
    primary = Primary(service)
    os.register_at_fork(after_in_child=primary.reset_after_fork)
    return primary
