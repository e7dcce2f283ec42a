"""Clients that ask at the same time, over connections that they keep, and note each answer."""

import http.client
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.strategies.processes import Answer, Server

PATIENCE_SECONDS = 15
NO_ANSWER = 0  # in the place of a status


@dataclass(frozen=True)
class Asked:
    """One request; times by the monotonic clock."""

    began: float
    ended: float
    answer: Answer

    @property
    def milliseconds(self) -> float:
        return (self.ended - self.began) * 1000


class Client:
    """One connection, opened anew when it breaks."""

    def __init__(self, server: Server) -> None:
        self._path = server.row.path
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", server.port, timeout=PATIENCE_SECONDS
        )

    def connect(self) -> None:
        self._connection.connect()

    def ask(self) -> Asked:
        began = time.monotonic()
        try:
            self._connection.request("GET", self._path, headers={"Accept": "application/json"})
            response = self._connection.getresponse()
            answer = Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            answer = Answer(NO_ANSWER, str(error).encode())
        return Asked(began, time.monotonic(), answer)

    def close(self) -> None:
        self._connection.close()


def ask_at_once(server: Server, count: int) -> list[Asked]:
    """Return what `count` clients are answered that begin together."""
    barrier = threading.Barrier(count)

    def ask(_: int) -> list[Asked]:
        client = Client(server)
        client.connect()
        barrier.wait()
        try:
            return [client.ask()]
        finally:
            client.close()

    return _all_of(ask, count)


def keep_asking(server: Server, clients: int, seconds: float) -> list[Asked]:
    """Return all that `clients` are answered who ask again and again for `seconds`, once at least."""
    ends_at = time.monotonic() + seconds

    def ask(_: int) -> list[Asked]:
        client, found = Client(server), []
        while not found or time.monotonic() < ends_at:
            found.append(client.ask())
        client.close()
        return found

    return _all_of(ask, clients)


def _all_of(ask: Callable[[int], list[Asked]], count: int) -> list[Asked]:
    with ThreadPoolExecutor(count) as pool:
        return [one for found in pool.map(ask, range(count)) for one in found]
