"""Clients that send slowly, at the store, at HAProxy and at nginx: nobody else waits for them."""

import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from simple_django_redis import slow_bodies
from tests.preloaded import ROOT
from tests.processes import Server
from tests.servers import free_port, start_server
from tests.waiting import wait_for

CLIENTS = 80
PATIENCE_SECONDS = 20
OK = [("Content-Type", "text/plain"), ("Content-Length", "2")]


# --- The store itself ----------------------------------------------------------------------------
class Connection:
    """A client of the store's WSGI application that has sent its head, as gunicorn hands it over."""

    def __init__(self, length: int) -> None:
        self.client, self.server = socket.socketpair()
        self.stream = self.server.makefile("rb")
        self.environ = {
            "CONTENT_LENGTH": str(length),
            "wsgi.input": self.stream,
            "gunicorn.socket": self.server,
        }
        self.status = ""

    def start(self, status, headers, exc_info=None):
        self.status = status

    def close(self) -> None:
        self.stream.close()
        self.client.close()
        self.server.close()


@pytest.fixture
def connect():
    opened = []

    def one(length):
        opened.append(Connection(length))
        return opened[-1]

    yield one
    for connection in opened:
        connection.close()


def echo(environ, start_response):
    """Read all of the body, as a form does, and say so."""
    environ["read"] = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", OK)
    return [b"ok"]


def by_lines(environ, start_response):
    environ["read"] = b"".join(environ["wsgi.input"])
    start_response("200 OK", OK)
    return [b"ok"]


def that_catches(environ, start_response):
    """Do as Django does, which makes an error of its own of one while reading."""
    try:
        return echo(environ, start_response)
    except OSError:
        start_response("500 Internal Server Error", OK)
        return [b"no"]


@contextlib.contextmanager
def trickling(connection: Connection) -> Iterator[None]:
    """Have the client send a byte now and then: no wait for one byte is ever long."""
    ended = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.02):
                connection.client.send(b"\n")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("application", [echo, by_lines, that_catches])
@pytest.mark.parametrize(
    "limit", [10, 10_000]
)  # Longer than MAX_BODY_BYTES, as an import is, or not.
def test_a_body_that_trickles_in_is_a_408_once_its_time_is_over(
    application, limit, connect, settings, monkeypatch
):
    settings.MAX_BODY_BYTES = limit
    monkeypatch.setattr(slow_bodies, "BODY_SECONDS", 0.1)
    connection = connect(1000)
    with trickling(connection):
        answer = slow_bodies.SlowBodies(application)(connection.environ, connection.start)
    assert connection.status == "408 Request Timeout"
    assert b"slowly" in b"".join(answer)
    assert "read" not in connection.environ


@pytest.mark.parametrize("application", [echo, by_lines])
@pytest.mark.parametrize("limit", [10, 10_000_000])
def test_what_comes_at_the_rate_may_take_longer(application, limit, connect, settings, monkeypatch):
    settings.MAX_BODY_BYTES = limit
    monkeypatch.setattr(slow_bodies, "BODY_SECONDS", 0.2)
    content = (b"x" * 999 + b"\n") * 300
    connection = connect(len(content))

    def send() -> None:
        for piece in range(0, len(content), 75_000):
            connection.client.sendall(content[piece : piece + 75_000])
            time.sleep(0.1)
        connection.client.shutdown(socket.SHUT_WR)

    sending = threading.Thread(target=send)
    sending.start()
    answer = slow_bodies.SlowBodies(application)(connection.environ, connection.start)
    sending.join()
    assert (connection.status, b"".join(answer)) == ("200 OK", b"ok")
    assert connection.environ["read"] == content


def test_a_connection_is_left_alone_once_its_body_is_there(connect, monkeypatch):
    monkeypatch.setattr(slow_bodies, "BODY_SECONDS", 0.1)
    connection = connect(5)
    connection.client.sendall(b"hello")

    def slow_to_answer(environ, start_response):
        time.sleep(0.2)
        return echo(environ, start_response)

    slow_bodies.SlowBodies(slow_to_answer)(connection.environ, connection.start)
    assert connection.status == "200 OK"
    connection.client.sendall(b"GET / HTTP/1.1\r\n")  # the next one, on the same connection
    assert connection.server.recv(100) == b"GET / HTTP/1.1\r\n"


def test_half_of_the_threads_wait_for_bodies_at_most(connect, settings, monkeypatch):
    settings.EVENTS_MAX_CLIENTS = 0  # Four threads are left.
    monkeypatch.setattr(slow_bodies, "BODY_SECONDS", PATIENCE_SECONDS)
    application = slow_bodies.SlowBodies(echo)
    slow = [connect(5) for _ in range(2)]
    threads = [threading.Thread(target=application, args=[one.environ, one.start]) for one in slow]
    for thread in threads:
        thread.start()
    while application._waiting._value:
        time.sleep(0.01)
    one_more = connect(5)
    application(one_more.environ, one_more.start)
    assert one_more.status == "503 Service Unavailable"
    assert one_more.stream.read(1) == b""  # Nobody waits for its body any more.
    bare = {"wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
    application(bare, one_more.start)
    assert one_more.status == "200 OK"
    for connection in slow:
        connection.client.sendall(b"hello")
    for thread in threads:
        thread.join()
    again = connect(5)
    again.client.sendall(b"hello")
    application(again.environ, again.start)
    assert again.status == "200 OK"


# --- The balancers -------------------------------------------------------------------------------
def haproxy(configuration: str, port: int, store_port: int) -> tuple[str, list[str]]:
    """Return deploy/haproxy.cfg in front of one store of this machine, and the command for it."""
    text = re.sub(
        r"server-template web 10 web:8000", f"server web 127.0.0.1:{store_port}", configuration
    )
    text = re.sub(r" resolvers docker init-addr none| check .*(?= resolvers)", "", text)
    text = text.replace("bind :8000", f"bind 127.0.0.1:{port}")
    text = re.sub("(timeout http-request|wait-for-body time) 10s", r"\1 1s", text)
    return text, ["haproxy", "-db", "-f"]


def nginx(configuration: str, port: int, store_port: int) -> tuple[str, list[str]]:
    text = configuration.replace("127.0.0.1:8000", f"127.0.0.1:{store_port}")
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    text = re.sub(r"client_(header|body)_timeout 10s", r"client_\1_timeout 1s", text)
    return text, ["nginx", "-e", "stderr", "-g", "daemon off; pid nginx.pid;", "-c"]


class Store(BaseHTTPRequestHandler):
    """Answers one request at a time: whoever held it up would hold up all."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, dict[str, str], int]]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if not self.path.endswith("z"):  # The balancer's own questions.
            self.asked.append((self.path, dict(self.headers), len(body)))
        self.send_response(200)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


class Balancer(Server):
    def __init__(self, port: int, asked: list) -> None:
        self.port, self.asked = port, asked

    def connect(self, head: str) -> socket.socket:
        client = socket.create_connection((self.address, self.port), PATIENCE_SECONDS)
        client.sendall(head.replace("\n", "\r\n").encode())
        return client

    def post(self, path: str, length: int, sent: int) -> bytes:
        """Send a head and the first bytes of a body; return the first line of the answer."""
        head = f"POST {path} HTTP/1.1\nHost: localhost\nContent-Length: {length}\n\n"
        with self.connect(head) as client:
            with contextlib.suppress(ConnectionError):  # It may be refused by then.
                client.sendall(b"x" * sent)
            return client.recv(1000).partition(b"\r\n")[0]


@contextlib.contextmanager
def balancing(kind: Any, folder: Path, store: HTTPServer, asked: list) -> Iterator[Balancer]:
    """Have a balancer with its file of deploy/ in front of `store`."""
    name = kind.__name__
    if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"):
        if os.environ.get("CI") == "true":
            pytest.fail(f"no {name} on the PATH")
        pytest.skip(f"no {name} on the PATH")
    source = ROOT / "deploy" / {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[name]
    with store:
        port = free_port()
        text, command = kind(source.read_text(), port, store.server_port)
        path = folder / source.name
        path.write_text(text)
        serving = threading.Thread(target=store.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        binary = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
        if name == "nginx":
            command[-1:] = ["-p", str(folder), "-c"]
        process = start_server([binary, *command[1:], str(path)], port)
        found = Balancer(port, asked)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while found.get("/").status != 200:  # HAProxy asks first whether the store is there.
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield found
        process.stop()
        store.shutdown()
        serving.join()


@pytest.fixture(scope="module", params=[haproxy, nginx], ids=lambda one: one.__name__)
def balancer(request, tmp_path_factory) -> Iterator[Balancer]:
    asked: list = []
    store = HTTPServer(("127.0.0.1", 0), type("Handler", (Store,), {"asked": asked}))
    with balancing(request.param, tmp_path_factory.mktemp("balancer"), store, asked) as found:
        yield found


class Reloading(BaseHTTPRequestHandler):
    """Keeps a connection, and closes it when the next request comes, as one that is just ending does."""

    protocol_version = "HTTP/1.1"
    answered = 0

    def answer(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.answered and not self.path.endswith("z"):
            self.close_connection = True
            return
        self.answered += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("kind", [haproxy, nginx], ids=lambda one: one.__name__)
def test_a_kept_connection_that_is_closed_costs_no_request(kind, tmp_path):
    store = ThreadingHTTPServer(("127.0.0.1", 0), Reloading)
    with balancing(kind, tmp_path, store, []) as balancer:
        assert {balancer.get("/").status for _ in range(6)} == {200}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("haproxy.cfg", ["haproxy", "-c", "-f"]),
        ("nginx.conf", ["nginx", "-e", "stderr", "-t", "-c"]),
    ],
)
def test_the_balancer_takes_its_configuration_as_it_stands(name, command, tmp_path):
    binary = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
    if not binary:
        pytest.skip(f"no {command[0]} on the PATH")
    pid = ["-g", f"pid {tmp_path}/nginx.pid;"] if command[0] == "nginx" else []
    checked = subprocess.run(
        [binary, *pid, *command[1:], str(ROOT / "deploy" / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr.lower(), checked.stderr


def test_80_clients_that_send_slowly_keep_nobody_waiting(balancer):
    balancer.asked.clear()
    form = "POST /admin/login/ HTTP/1.1\nHost: localhost\nContent-Length: 1000\n\nusername="
    unended = "GET / HTTP/1.1\nHost: local"
    slow = [balancer.connect(form if number % 2 else unended) for number in range(CLIENTS)]
    try:
        for _ in range(5):
            assert balancer.get("/").status == 200
        assert {path for path, *_ in balancer.asked} == {
            "/"
        }  # The store has not heard of the others.
        for client in slow:  # And once their time is over they are told so, or cut off.
            assert client.recv(100)[9:12] in (b"408", b"")
    finally:
        for client in slow:
            client.close()
    assert {path for path, *_ in balancer.asked} == {"/"}


@pytest.mark.parametrize(
    "path", ["/store/products/", "/admin/login/", "/imports/", "/store/imports"]
)
def test_what_is_too_long_is_refused_but_where_imports_go(balancer, path):
    balancer.asked.clear()
    assert b" 413 " in balancer.post(path, 2_000_000, 0)
    assert balancer.asked == []


@pytest.mark.parametrize("path", ["/store/imports/", "/jobs/imports/"])
def test_where_imports_go_a_long_body_is_passed_on(balancer, path):
    balancer.asked.clear()
    assert b" 200 " in balancer.post(path, 2_000_000, 2_000_000)
    assert [(asked, length) for asked, _, length in balancer.asked] == [(path, 2_000_000)]


def test_the_store_is_told_who_asks_and_by_nobody_else(balancer):
    balancer.asked.clear()
    claimed = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "Host": "store.example"}
    assert balancer.get("/told", claimed).status == 200
    ((_, headers, _),) = balancer.asked
    told = {name.lower(): value for name, value in headers.items()}
    assert told["x-forwarded-for"] == "127.0.0.1"
    assert told["x-forwarded-proto"] == "http"
    assert told["host"] == "store.example"


def test_one_address_has_a_limited_number_of_connections(balancer):
    slow = []
    try:
        refused = 0
        for _ in range(230):
            with contextlib.suppress(ConnectionError):
                client = balancer.connect(
                    "POST / HTTP/1.1\nHost: localhost\nContent-Length: 9\n\n1"
                )
                slow.append(client)
                client.setblocking(False)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while refused < 10 and time.monotonic() < deadline:
            refused = sum(map(was_refused, slow)) + 230 - len(slow)
            time.sleep(0.05)
        assert refused >= 10
    finally:
        for client in slow:
            client.close()
    wait_for(lambda: is_served(balancer))  # Until it has noticed, it goes on refusing.


def is_served(balancer: Balancer) -> bool:
    with contextlib.suppress(ConnectionError):
        return balancer.get("/").status == 200
    return False


def was_refused(client: socket.socket) -> bool:
    """Say whether it was cut off, or told 429; a 408 is for those that were let in."""
    try:
        return client.recv(12, socket.MSG_PEEK)[9:] in (b"", b"429")
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
