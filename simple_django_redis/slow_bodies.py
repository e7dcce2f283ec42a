"""No body may hold a thread for long, however it trickles in.

gunicorn waits for a client's bytes without end, and a limit for each wait is kept by a byte now and then.
The connection of a body that is late is shut for reading, which ends the wait; the answer is 408.
"""

import heapq
import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django.conf import settings

from simple_django_redis.middleware import HeadersOfAllMiddleware

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

# What any body may take; and what comes at this rate may take longer (as Apache's mod_reqtimeout has it).
BODY_SECONDS = 15.0
BODY_BYTES_PER_SECOND = 100_000
PIECE_BYTES = 65_536
TOO_SLOW = ("408 Request Timeout", "The body came too slowly.")
TOO_MANY = ("503 Service Unavailable", "Too many clients are sending at once.")


class BodyIsTooSlowError(OSError):
    """The client was given its time, and is not waited for any longer."""


class SlowBodies:
    """A WSGI application in front of another, which never waits for a client for long.

    A body of MAX_BODY_BYTES at most is there, whole, before the other one is called; a longer one, which
    only imports may have, raises BodyIsTooSlowError while it is read. At most half of the threads wait
    for bodies, so that requests without one are answered; a body beyond that is a 503.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        threads = 4 + settings.EVENTS_MAX_CLIENTS  # gunicorn.conf.py
        self._waiting = threading.BoundedSemaphore(threads // 2)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or "0"
        connection = environ.get("gunicorn.socket")
        if not length.isdecimal() or int(length) == 0 or connection is None:
            return self._application(environ, start_response)
        if not self._waiting.acquire(blocking=False):
            # Or gunicorn would wait for the body for seconds, to be rid of it.
            _stop_reading(connection)
            return _refuse(start_response, *TOO_MANY)
        body = _Body(environ["wsgi.input"], connection)

        def start(*arguments: Any) -> Any:
            return None if body.is_late else start_response(*arguments)

        try:
            if int(length) <= settings.MAX_BODY_BYTES:
                environ["wsgi.input"] = io.BytesIO(body.read(int(length)))
                body.done()
            else:
                environ["wsgi.input"] = body
            answer = self._application(environ, start)
        except BodyIsTooSlowError:
            answer = []
        finally:
            body.done()
            self._waiting.release()
        return _refuse(start_response, *TOO_SLOW) if body.is_late else answer


def _refuse(start_response: StartResponse, status: str, detail: str) -> list[bytes]:
    content = json.dumps({"detail": detail}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(content))),
        ("Retry-After", "1"),
        *HeadersOfAllMiddleware.HEADERS.items(),
    ]
    start_response(status, headers)
    return [content]


def _stop_reading(connection: socket.socket) -> None:
    with suppress(OSError):  # The client may have gone.
        connection.shutdown(socket.SHUT_RD)


class _Body:
    """`wsgi.input` with a deadline that what has come moves on."""

    def __init__(self, stream: Any, connection: socket.socket) -> None:
        self._stream = stream
        self._connection = connection
        self._began = time.monotonic()
        self._received_bytes = 0
        self.is_late = self._is_done = False
        self._lock = threading.Lock()
        _deadlines.watch(self)

    def deadline(self) -> float:
        return self._began + BODY_SECONDS + self._received_bytes / BODY_BYTES_PER_SECOND

    def read(self, size: int = -1) -> bytes:
        pieces = []
        while size:
            piece = self._of(self._stream.read, min(size, PIECE_BYTES) if size > 0 else PIECE_BYTES)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece) if size > 0 else 0
        return b"".join(pieces)

    def readline(self, size: int = -1) -> bytes:
        return self._of(self._stream.readline, size)

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> "_Body":
        return self

    def __next__(self) -> bytes:
        if line := self.readline():
            return line
        raise StopIteration

    def _of(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            found = read(size)
        except Exception as error:
            if self.is_late:
                raise BodyIsTooSlowError from error
            raise
        if self.is_late:
            raise BodyIsTooSlowError
        self._received_bytes += len(found)
        return found

    def done(self) -> None:
        """The body is not read any more: the connection is no longer this one's to shut."""
        with self._lock:
            self._is_done = True

    def end_if_late(self) -> bool:
        """End the wait of a body whose time is over; return whether there is nothing more to watch."""
        with self._lock:
            if self._is_done:
                return True
            if time.monotonic() < self.deadline():
                return False
            self.is_late = True
            _stop_reading(self._connection)
            return True


class _Deadlines:
    """A thread of each process, for all bodies that are being read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next: list[tuple[float, int, _Body]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def watch(self, body: _Body) -> None:
        with self._changed:
            heapq.heappush(self._next, (body.deadline(), next(self._numbers), body))
            if self._thread is None or not self._thread.is_alive():  # A fork has no threads.
                self._thread = threading.Thread(target=self._run, name="slow bodies", daemon=True)
                self._thread.start()
            if self._next[0][2] is body:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._next:
                    self._changed.wait()
                due, _, body = self._next[0]
                if (seconds := due - time.monotonic()) > 0:
                    self._changed.wait(seconds)
                    continue
                heapq.heappop(self._next)
                if not body.end_if_late():
                    again = max(body.deadline(), time.monotonic())
                    heapq.heappush(self._next, (again, next(self._numbers), body))


_deadlines = _Deadlines()
