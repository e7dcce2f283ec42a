"""How much a client may send, and how slowly: refused by its length, ahead of reading any of it."""

import http.client
import socket
import time

import pytest

from tests.processes import Answer, StoreProcess

pytestmark = pytest.mark.django_db(transaction=True)

JSON = "application/json"
ANSWER_TIMEOUT_SECONDS = 20
SLOW_CLIENTS = 3
CLOSING_SECONDS = 2.0  # that gunicorn's own worker waits for each


def send(store: StoreProcess, text: str) -> Answer:
    """Send the beginning of a request, and no more, and return the answer."""
    with socket.create_connection(("127.0.0.1", store.port), ANSWER_TIMEOUT_SECONDS) as client:
        client.sendall(text.replace("\n", "\r\n").encode())
        response = http.client.HTTPResponse(client)
        response.begin()
        return Answer(response.status, response.headers, response.read())


def test_a_body_past_the_limit_is_413_with_the_limit_before_it_is_sent(open_store):
    store = open_store("--workers=1", MAX_BODY_BYTES="1000")
    head = f"POST /store/products/ HTTP/1.1\nHost: localhost\nContent-Type: {JSON}\n"
    answer = send(store, f"{head}Content-Length: 1001\n\n")
    assert (answer.status, answer.headers["Content-Type"]) == (413, JSON)
    assert answer.json == {"detail": "The body has 1001 bytes; at most 1000 are taken here."}


def test_a_body_without_a_length_is_411_instead_of_being_taken_for_none(open_store):
    store = open_store("--workers=1")
    for method in ("POST", "PUT"):
        head = f"{method} /store/products/ HTTP/1.1\nHost: localhost\nContent-Type: {JSON}\n"
        answer = send(store, head + 'Transfer-Encoding: chunked\n\n10\n{"name": "Book"}\n0\n\n')
        assert (answer.status, answer.headers["Content-Type"]) == (411, JSON)
        assert "Content-Length" in answer.json["detail"]
    assert store.get("/healthz").status == 200


def test_what_is_no_http_is_a_400_and_no_news(open_store):
    store = open_store("--workers=1")
    for text in (
        "NONSENSE\n\n",
        "GET / HTTP/1.1\nBad Name: x\n\n",
        f"GET /{'x' * 5000} HTTP/1.1\n\n",
    ):
        assert 400 <= send(store, text).status < 500
    assert "NONSENSE" not in store.log.read_text()
    assert "Invalid request" not in store.log.read_text()


@pytest.mark.parametrize(("spaces", "status"), [(0, 201), (1, 413)])
def test_a_body_of_exactly_the_limit_is_taken(spaces, status, editor, settings):
    body = '{"name": "Book"}'
    settings.BODY_LIMITS = {"/": len(body)}
    answer = editor.generic("POST", "/store/products/", body + " " * spaces, JSON)
    assert answer.status_code == status


@pytest.mark.parametrize("opening", ["[", '{"name":'])
def test_json_that_is_nested_too_deeply_is_a_400(opening, editor):
    answer = editor.generic("POST", "/store/products/", opening * 100_000, JSON)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "JSON parse error - it is nested too deeply"}


def test_a_path_may_have_a_limit_of_its_own(editor, settings):
    settings.BODY_LIMITS = {"/": 10, "/store/products/": 1000}
    body = '{"name": "Book"}'
    assert editor.generic("POST", "/store/products/", body, JSON).status_code == 201
    assert editor.generic("PUT", "/store/basket/1/", body, JSON).status_code == 413


@pytest.mark.parametrize(
    "head",
    [
        "GET /healthz HTTP/1.1\nHost: localhost\nConnection: close\n\n",
        "GET /healthz HTTP/1.0\nHost: localhost\n\n",
        "POST /store/products/ HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\nf\n",
    ],
)
def test_nobody_waits_for_clients_that_do_not_close_their_connections(head, open_store):
    store = open_store("--workers=1", "--threads=2")
    slow = [
        socket.create_connection(("127.0.0.1", store.port), ANSWER_TIMEOUT_SECONDS)
        for _ in range(10)
    ]
    try:
        for client in slow:
            client.sendall(head.replace("\n", "\r\n").encode())
        began = time.monotonic()
        assert store.get("/healthz").status == 200
        assert time.monotonic() - began < CLOSING_SECONDS * len(slow) / 2
        for client in slow:  # They have their answer, and then the end.
            with client.makefile("rb") as answer:
                assert answer.read()[9:12] in (b"200", b"411")
    finally:
        for client in slow:
            client.close()


def test_clients_that_are_slow_hold_one_thread_each_and_others_are_served(open_store):
    store = open_store("--workers=1", "--threads=4")
    slow = [
        socket.create_connection(("127.0.0.1", store.port), ANSWER_TIMEOUT_SECONDS)
        for _ in range(SLOW_CLIENTS)
    ]
    try:
        for client in slow:
            client.sendall(b"GET /store/ HTTP/1.1\r\nHost: local")
        for _ in range(10):
            assert store.get("/store/").status == 200
        for client in slow:
            client.sendall(b"host\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in slow:
            client.close()
