"""Clients of /store/events/: they read Server-Sent Events as a browser's EventSource does."""

import contextlib
import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PATH = "/store/events/"
PATIENT_SECONDS = 30


@dataclass(frozen=True)
class Received:
    id: str
    event: str
    data: dict[str, Any]
    at: float  # of the machine's clock


class Listener:
    """A client that goes on reading in a thread of its own; `status` and `headers` are the answer's."""

    def __init__(
        self,
        port: int,
        last_id: str | None = None,
        path: str = PATH,
        address: str = "127.0.0.1",
    ) -> None:
        self.last_id = last_id
        self.comments = 0
        self._received: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._began = threading.Event()
        self.ended = threading.Event()
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        self._connection = http.client.HTTPConnection(address, port, timeout=PATIENT_SECONDS)
        self._connection.request("GET", path, headers=headers)
        self.socket = self._connection.sock
        self._response = self._connection.getresponse()
        self.status: int = self._response.status
        self.headers: Mapping[str, str] = self._response.headers
        self.retry_ms: int | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if self.status == 200:
            assert self._began.wait(PATIENT_SECONDS)

    def next(self, seconds: float = PATIENT_SECONDS) -> Received:
        """Return the next event; raises queue.Empty if none comes in time."""
        return self._received.get(timeout=seconds)

    def until(self, is_last: Callable[[Received], bool]) -> list[Received]:
        """Return the next events up to the one that `is_last` says is the last."""
        found = [self.next()]
        while not is_last(found[-1]):
            found.append(self.next())
        return found

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(2)
        self._thread.join()
        self._response.close()
        self._connection.close()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        # The process ends without the last chunk, as a line that breaks does.
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while line := self._response.readline():
                text = line.decode().rstrip("\n")
                name, _, value = text.partition(": ")
                if text.startswith(":"):
                    self.comments += 1
                elif text:
                    fields[name] = value
                else:
                    self._dispatch(fields)
                    fields = {}
        self.ended.set()

    def _dispatch(self, fields: dict[str, str]) -> None:
        self.last_id = fields.get("id", self.last_id)
        if "retry" in fields:
            self.retry_ms = int(fields["retry"])
        if "data" in fields:
            data = json.loads(fields["data"])
            assert data["event"] == fields["event"]
            self._received.put(Received(fields["id"], fields["event"], data, time.time()))
        self._began.set()


@contextmanager
def listening(port: int, count: int = 1, last_id: str | None = None) -> Iterator[list[Listener]]:
    """Open `count` streams, trying again where a worker has no room, and close them at the end."""
    listeners: list[Listener] = []
    deadline = time.monotonic() + PATIENT_SECONDS
    try:
        while len(listeners) < count:
            assert time.monotonic() < deadline, f"only {len(listeners)} of {count} streams"
            listener = Listener(port, last_id)
            if listener.status == 200:
                listeners.append(listener)
            else:
                listener.close()
                time.sleep(0.02)
        yield listeners
    finally:
        for listener in listeners:
            listener.close()
