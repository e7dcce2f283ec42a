"""A stream of events as an HTTP answer: text/event-stream, as browsers' EventSource reads it.

https://html.spec.whatwg.org/multipage/server-sent-events.html. Each open stream holds one thread of
its worker, so what keeps a stream open for nobody is ended: its client has gone, or does not read.
"""

import contextlib
import re
import select
import socket
import time
from collections.abc import Iterator

from django.db import connections
from django.http import StreamingHttpResponse

from store import metrics
from store.event_feed import Follower
from store.event_stream import Entry

HEARTBEAT_SECONDS = 15.0  # Proxies end connections that are silent, most of them after 60.
RECONNECT_SECONDS = 2.0  # What browsers are asked to wait before they come back.
LOOK_SECONDS = 1.0  # How long it may take to see that the client has gone or that the process ends.
SEND_SECONDS = 5.0  # How long a client may leave unread what it was sent, once the line is full.
SILENT_SECONDS = 20.0  # How long it may before: it may have gone without a goodbye, as phones do.

HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx passes on each event at once.
}


def process_is_ending() -> bool:
    """Say whether streams have to end so that the process can; gunicorn.conf.py puts its own here."""
    return False


def answer(follower: Follower, client: socket.socket | None) -> StreamingHttpResponse:
    """Return the answer that sends what `follower` finds, until its client goes."""
    _expect_signs_of_life(client)
    stream = EventStream(follower, client)
    return StreamingHttpResponse(stream, content_type="text/event-stream", headers=HEADERS)


class EventStream:
    """The body of the answer; `client` is the connection, where the server tells which it is."""

    def __init__(self, follower: Follower, client: socket.socket | None) -> None:
        self._follower = follower
        self._client = client

    def __iter__(self) -> Iterator[bytes]:
        connections.close_all()  # Nothing is asked of the database for as long as this goes on.
        yield beginning(self._follower.last_id)
        last_sent = time.monotonic()
        while not process_is_ending() and not self._has_gone():
            frames = [frame(entry) for entry in self._follower.next(LOOK_SECONDS)]
            if not frames and time.monotonic() >= last_sent + HEARTBEAT_SECONDS:
                frames = [b": heartbeat\n\n"]
            for one in frames:
                if not self._takes_more():
                    self._hang_up()
                    return
                yield one
                last_sent = time.monotonic()
        self._hang_up()

    def close(self) -> None:
        """Make room for another client; Django calls this at the end of every answer, sent or not."""
        self._follower.close()

    def _has_gone(self) -> bool:
        """Say whether the client has closed the connection; a write would tell one write later."""
        if self._client is None or not _is_ready(self._client, select.POLLIN, 0):
            return False
        try:
            return self._client.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def _takes_more(self) -> bool:
        """Wait until there is room for a frame; False if the client does not read what it was sent."""
        if self._client is None:
            return True
        give_up = time.monotonic() + SEND_SECONDS
        while not _is_ready(self._client, select.POLLOUT, LOOK_SECONDS):
            if process_is_ending():
                return False
            if time.monotonic() > give_up:
                metrics.event_streams_dropped.labels("slow").inc()
                return False
        return True

    def _hang_up(self) -> None:
        """Close the connection, so that the server waits neither to send the rest nor for a goodbye."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)


def beginning(last_id: str) -> bytes:
    """Return how soon to come back and, for who does so before the first event, where from."""
    place = f"id: {last_id}\n" if re.fullmatch(r"[0-9]+-[0-9]+", last_id) else ""
    return f"retry: {int(RECONNECT_SECONDS * 1000)}\n{place}\n".encode()


def frame(entry: Entry) -> bytes:
    """Return an event as EventSource reads it."""
    return f"id: {entry.id}\nevent: {entry.event}\ndata: {entry.data}\n\n".encode()


def _expect_signs_of_life(client: socket.socket | None) -> None:
    """Have the kernel (Linux) end the connection if what was sent is not acknowledged, or not taken.

    By default it waits a quarter of an hour for who does not answer, and for ever for who does not read.
    """
    if client is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):  # It may be no TCP.
            milliseconds = int(SILENT_SECONDS * 1000)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _is_ready(client: socket.socket, what: int, wait_seconds: float) -> bool:
    poll = select.poll()
    poll.register(client, what)
    return bool(poll.poll(wait_seconds * 1000))
