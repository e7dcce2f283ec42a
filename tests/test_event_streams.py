"""GET /store/events/ of the running store: who listens hears, and nobody else has to wait for it."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.test import Client
from redis import Redis

from bench.events import measure
from store import event_stream, server_sent_events
from store.event_feed import Feed, Follower
from store.models import Product
from tests.line import Line
from tests.listeners import PATH, Listener, listening
from tests.processes import StoreProcess
from tests.servers import PATIENT_BUDGET_SECONDS, free_port, start_redis
from tests.test_metrics import samples_of, value
from tests.visitors import complaints, reprice
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

WORKERS = 2
GRACEFUL_SECONDS = 10  # What gunicorn would wait for requests under way.


@pytest.fixture
def store(open_store: Callable[..., StoreProcess], books: list[Product]) -> StoreProcess:
    """The store with two workers and room for three clients in each."""
    return open_store(WEB_CONCURRENCY=str(WORKERS), EVENTS_MAX_CLIENTS="3")


def open_streams(store: StoreProcess) -> float:
    return value(samples_of(store.get("/metrics").body.decode()), "store_event_streams")


def dropped(store: StoreProcess, reason: str) -> float:
    samples = samples_of(store.get("/metrics").body.decode())
    return value(samples, "store_event_streams_dropped_total", reason=reason)


# --- What is heard --------------------------------------------------------------------------------


@pytest.mark.smoke
def test_every_client_of_every_worker_hears_of_a_change_through_the_api(store, editor, books):
    with listening(store.port, 2 * 3) as listeners:
        assert reprice(store, editor, books[0], 77) == 200
        heard = [listener.next() for listener in listeners]
        for one in heard:
            assert one.event == "updated"
            assert one.data | {"at": "", "seen": ""} == {
                "event": "updated",
                "id": books[0].pk,
                "name": "Book A",
                "price": 77,
                "at": "",
                "seen": "",
            }
        assert len({one.id for one in heard}) == 1
        assert {listener.retry_ms for listener in listeners} == {2000}


def test_a_change_is_heard_once_committed_and_not_before(store, books):
    with listening(store.port) as (listener,):
        with transaction.atomic():
            Product.objects.update(price=1)
            transaction.set_rollback(True)
        with transaction.atomic():
            books[0].save()
            books[1].delete()
            books[2].save()
        heard = [listener.next().event for _ in range(3)]
        assert heard == ["updated", "deleted", "updated"]


def test_who_reconnects_hears_what_was_missed_in_order_and_once(store, books):
    with listening(store.port) as (listener,):
        books[0].save()
        last_id = listener.next().id
    for price in range(50):
        books[0].price = price
        books[0].save()
    with listening(store.port, 2 * 3, last_id) as listeners:  # Some of them with either worker.
        books[1].save()
        for listener in listeners:
            heard = listener.until(lambda one: one.data["id"] == books[1].pk)
            assert [one.data["price"] for one in heard[:-1]] == list(range(50))


def test_the_seam_between_missed_and_new_has_no_gap_and_no_double(store, books):
    with listening(store.port) as (listener,):
        last_id = listener.last_id
    ahead = threading.Semaphore(
        50
    )  # The writer goes on while clients come and go, but not too far.

    def write() -> None:
        for number in range(5 * 20 + 50):
            ahead.acquire()
            event_stream.append([{"event": "updated", "number": number}])

    writer = threading.Thread(target=write)
    writer.start()
    numbers = []
    for _ in range(5):
        with listening(store.port, 1, last_id) as (listener,):
            for _ in range(20):
                heard = listener.next()
                numbers.append(heard.data["number"])
                ahead.release()
        last_id = heard.id
    writer.join()
    assert numbers == list(range(5 * 20))


def test_the_last_id_may_come_in_the_address(store, books):
    with listening(store.port) as (listener,):
        last_id = listener.last_id
    books[0].save()
    listener = Listener(store.port, path=f"{PATH}?last_event_id={last_id}")
    assert listener.next().event == "updated"
    listener.close()
    listener = Listener(store.port, path=f"{PATH}?last_event_id=1-1%0Aevent:x")
    assert listener.next().event == "reset"
    listener.close()


# --- The answer -----------------------------------------------------------------------------------


def test_the_answer_is_for_nobody_to_keep_and_knows_no_visitor(store, editor):
    with listening(store.port) as (listener,):
        assert listener.headers["Content-Type"] == "text/event-stream"
        assert listener.headers["Cache-Control"] == "no-store"
        assert listener.headers["X-Accel-Buffering"] == "no"
        for absent in ("Set-Cookie", "Content-Encoding", "Content-Length", "Vary"):
            assert absent not in listener.headers


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "application/json", "image/png"])
def test_head_says_the_same_and_ends_at_once_whatever_is_accepted(store, accept):
    for _ in range(8):  # More than there is room for, if one stayed open.
        answer = store.get(PATH, {"Accept": accept, "Accept-Encoding": "gzip"}, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
    wait_for(lambda: open_streams(store) == 0)


def test_it_is_read_only(client, db):
    assert client.post(PATH).status_code == 405


@pytest.fixture
def own_feed(monkeypatch) -> Iterator[Feed]:
    feed = Feed()
    monkeypatch.setattr("store.event_feed.LINGER_SECONDS", 0.0)
    monkeypatch.setattr("store.views.process_feed", feed)
    yield feed
    wait_for(lambda: feed._thread is None)


def test_a_silent_stream_beats_and_holds_no_database_connection(
    client: Client, own_feed, monkeypatch
):
    monkeypatch.setattr(server_sent_events, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(server_sent_events, "LOOK_SECONDS", 0.01)
    connection.ensure_connection()
    response = client.get(PATH)
    frames = iter(response.streaming_content)
    assert next(frames).startswith(b"retry: 2000\nid: ")
    assert [next(frames), next(frames)] == [b": heartbeat\n\n"] * 2
    assert connection.connection is None
    monkeypatch.setattr(server_sent_events, "process_is_ending", lambda: True)
    assert list(frames) == []
    response.close()
    assert own_feed._followers == 0


# --- Room for others ------------------------------------------------------------------------------


def test_beyond_the_limit_it_is_503_and_the_store_goes_on_at_once(store):
    with listening(store.port, 2 * 3) as listeners:
        for _ in range(10):
            refused = store.get(PATH)
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "1"
            assert list(refused.json) == ["detail"]
        assert open_streams(store) == 6
        assert dropped(store, "full") >= 10
        started = time.monotonic()
        for _ in range(50):
            assert store.get("/store/cached/").status in (200, 201)
        assert time.monotonic() - started < 10  # None waits for a stream, which would be for ever.
        listeners.pop().close()
        with listening(store.port):
            assert open_streams(store) == 6
    assert complaints(store.log) == []


def test_with_a_limit_of_0_there_are_no_streams(open_store, books):
    store = open_store("--workers", "1", EVENTS_MAX_CLIENTS="0")
    assert store.get(PATH).status == 503


def test_a_client_that_goes_makes_room_at_once(store):
    with listening(store.port, 2 * 3):
        pass
    wait_for(lambda: open_streams(store) == 0)
    assert dropped(store, "slow") == 0
    assert complaints(store.log) == []


def test_a_client_that_does_not_read_is_dropped_and_no_other_waits_for_it(store):
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", store.port))
    slow.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    wait_for(lambda: open_streams(store) == 1)
    with listening(store.port) as (listener,):
        for number in range(10):
            event_stream.append([{"event": "bulk", "pad": "x" * 20_000}] * 50)
            event_stream.append([{"event": "updated", "id": number}])
            assert listener.until(lambda one: one.event == "updated")[-1].data["id"] == number
        wait_for(lambda: dropped(store, "slow") == 1, seconds=60)
        wait_for(lambda: open_streams(store) == 1)
    slow.close()
    assert complaints(store.log) == []


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="asks the kernel of Linux")
def test_a_client_that_takes_nothing_is_seen_to_be_gone_before_the_line_is_full(monkeypatch):
    follower = Follower(Feed(), "client", "")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.getsockname())
        with server.accept()[0] as connection:
            server_sent_events.answer(follower, connection)
            stream = server_sent_events.EventStream(follower, connection)
            connection.sendall(b"x" * 50_000)
            assert stream._takes_more()
            assert not stream._has_gone()
            # Only now, so that it is not gone before that was looked at.
            monkeypatch.setattr(server_sent_events, "SILENT_SECONDS", 0.5)
            server_sent_events.answer(follower, connection)
            wait_for(stream._has_gone, seconds=30)


# --- Restarts and outages -------------------------------------------------------------------------


def test_a_stop_does_not_wait_for_open_streams(store):
    with listening(store.port, 2 * 3) as listeners:
        started = time.monotonic()
        assert store.close() == 0
        assert time.monotonic() - started < GRACEFUL_SECONDS - 2
        assert all(listener.ended.wait(5) for listener in listeners)
    assert complaints(store.log) == []


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGKILL], ids=["reload", "kill"])
def test_who_comes_back_after_a_restart_of_the_workers_has_missed_nothing(store, books, how):
    with listening(store.port) as (listener,):
        books[0].save()
        listener.next()
        workers = workers_of(store)
        if how is signal.SIGHUP:
            store.process.send_signal(how)
        else:
            for worker in workers:
                worker.kill()
        assert listener.ended.wait(30)
    # A client that came to one of them as it ends would have to come back once more.
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    books[1].save()
    store.wait_until_open()
    with listening(store.port, 1, listener.last_id) as (again,):
        books[2].save()
        assert [again.next().data["id"] for _ in range(2)] == [books[1].pk, books[2].pk]
    wait_for(lambda: open_streams(store) == 0)


def test_without_redis_streams_stay_open_and_go_on_once_it_is_back(open_store, books):
    server = start_redis(port := free_port())
    line = Line(port)
    try:
        store = open_store(
            QUEUE_REDIS_URL=f"redis://127.0.0.1:{line.port}/0",
            SECRET_KEY=django_settings.SECRET_KEY,
            CACHE_BUDGET_SECONDS=PATIENT_BUDGET_SECONDS,
        )
        with listening(store.port, 4) as listeners, Redis(port=port) as redis:
            line.cut()
            with listening(store.port, 2) as new:
                assert store.get("/store/cached/").status in (200, 201)
                event = json.dumps({"event": "updated", "id": 1})
                redis.xadd(f"{django_settings.PROJECT_NAME}:events", {"event": event})
                line.mend()
                assert {listener.next().event for listener in listeners} == {"updated"}
                assert {listener.next().event for listener in new} <= {"updated", "reset"}
    finally:
        line.close()
        server.stop()


def workers_of(store: StoreProcess) -> list[psutil.Process]:
    return psutil.Process(store.process.pid).children()


# --- How soon -------------------------------------------------------------------------------------


def test_a_change_is_heard_soon_after_its_commit(open_store, books):
    store = open_store(WEB_CONCURRENCY=str(WORKERS))
    milliseconds = measure(store.port, clients=10, writes=20)
    assert len(milliseconds) == 10 * 20
    # `make bench-events` measures it; a machine that runs the suite may stall for a while.
    assert sorted(milliseconds)[len(milliseconds) // 2] < 1000


def test_an_http_1_0_client_is_served_as_well(store, books):
    with socket.create_connection(("127.0.0.1", store.port), timeout=30) as client:
        client.sendall(f"GET {PATH} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == 200
        assert response.readline() == b"retry: 2000\n"
