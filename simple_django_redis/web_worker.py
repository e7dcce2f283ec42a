"""gunicorn's worker of threads, in which nobody waits for others' clients to close their connections.

Its own waits up to 2 s for each in the thread that accepts connections, as closing at once may lose the
answer (RFC 9112, 9.6), and up to 5 s in a thread of requests for the rest of a body that nobody reads.
"""

import queue
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

CLOSE_SECONDS = 2.0
REST_SECONDS = 0.05  # of a body that was not read: later the connection is not used again
MOST_CLOSING = 500
MOST_BYTES = 65_536
LOOK_SECONDS = 0.05


class Closing:
    """A thread that closes connections once their clients have, or after CLOSE_SECONDS."""

    def __init__(self) -> None:
        self._new: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="closing", daemon=True)
        self._thread.start()

    def take(self, connection: socket.socket) -> None:
        """Send the end of the answer now, and close the connection later."""
        try:
            connection.shutdown(socket.SHUT_WR)
            connection.setblocking(False)  # noqa: FBT003
        except OSError:
            connection.close()
        else:
            self._new.put(connection)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            while True:
                self._add(selector)
                for key, _ in selector.select(LOOK_SECONDS):
                    if _has_ended(key.fileobj, key.data):
                        _close(selector, key)
                for key in list(selector.get_map().values()):
                    if time.monotonic() > key.data["until"]:
                        _close(selector, key)

    def _add(self, selector: selectors.BaseSelector) -> None:
        while not selector.get_map() or not self._new.empty():
            connection = self._new.get()
            if len(selector.get_map()) >= MOST_CLOSING:
                connection.close()
                continue
            data = {"until": time.monotonic() + CLOSE_SECONDS, "bytes": 0}
            selector.register(connection, selectors.EVENT_READ, data)


def _has_ended(connection: Any, data: dict[str, float]) -> bool:
    try:
        received = len(connection.recv(MOST_BYTES))
    except BlockingIOError:
        return False
    except OSError:
        return True
    data["bytes"] += received
    return received == 0 or data["bytes"] >= MOST_BYTES


def _close(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    selector.unregister(key.fileobj)
    with suppress(OSError):
        key.fileobj.close()  # type: ignore[union-attr]


class Worker(ThreadWorker):  # type: ignore[misc]
    def init_process(self) -> None:
        self._closing = Closing()
        super().init_process()

    def finish_request(self, conn: Any, fs: Any) -> None:
        if fs.cancelled() or (fs.exception() is None and not fs.result()):
            self.nr_conns -= 1
            self._closing.take(conn.sock)
        else:
            super().finish_request(conn, fs)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:  # noqa: FBT001
        deadline = time.monotonic() + REST_SECONDS
        return keepalive and bool(conn.parser.finish_body(deadline=deadline))
