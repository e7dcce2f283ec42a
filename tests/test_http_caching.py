"""What the headers of the cached list say: RFC 9211, 9110 and 9111, W3C Server Timing."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test import Client

from freshcache.runtime import cache_of
from freshcache.source import database
from store import catalogue
from store.models import Product
from tests.configuration import configure
from tests.processes import StoreProcess
from tests.servers import free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

CACHED = "/store/cached/"
FORWARD_REASONS = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale"}
TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*$")


def status_of(response) -> dict[str, str | bool]:
    """Parse the one member of Cache-Status (RFC 9211), and check what the RFC allows in it."""
    cache, *parts = response["Cache-Status"].split("; ")
    assert cache == "store"
    found: dict[str, str | bool] = {}
    for part in parts:
        name, has_value, value = part.partition("=")
        assert name not in found
        assert name in {"hit", "fwd", "ttl", "stored", "collapsed", "detail"}
        found[name] = value if has_value else True
    assert ("hit" in found) != ("fwd" in found)  # 2.2: they exclude each other.
    assert found.get("fwd", "miss") in FORWARD_REASONS
    assert re.fullmatch(r"-?\d+", str(found.get("ttl", "0")))
    assert TOKEN.match(str(found.get("detail", "token")))
    return found


def key_of(settings, name: str) -> str:
    return f"{settings.PROJECT_NAME}:1:{name}"


@pytest.fixture
def in_background() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that have to wait; their database connections are closed at the end."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


def get_in_thread(executor: ThreadPoolExecutor, **headers: str) -> Future:
    def get():
        try:
            return Client().get(CACHED, headers=headers)
        finally:
            connection.close()

    return executor.submit(get)


@contextmanager
def database_out_of_reach() -> Iterator[None]:
    """Point Django's connection to where no database is; its next use fails as in an outage."""
    before = dict(connection.settings_dict)
    connection.close()
    if connection.vendor == "sqlite":
        connection.settings_dict["NAME"] = "/nonexistent/folder/db.sqlite3"
    else:
        connection.settings_dict["PORT"] = free_port()
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)
        database.reset()


# --- Cache-Status and Age -------------------------------------------------------------------------


def test_a_miss_says_that_it_was_forwarded_and_stored(client, books, settings):
    status = status_of(client.get(CACHED))
    assert (status["fwd"], status["stored"]) == ("miss", True)
    assert 0.89 * settings.CACHE_TTL <= int(status["ttl"]) <= settings.CACHE_TTL


def test_a_hit_says_how_long_it_stays(client, books, redis, settings):
    client.get(CACHED)
    key = key_of(settings, "product")
    redis.pexpire(key, 200_500)
    response = client.get(CACHED)
    left_seconds = redis.pttl(key) / 1000
    status = status_of(response)
    assert status["hit"] is True
    assert left_seconds - 1 < int(status["ttl"]) <= 201


def test_the_age_is_the_time_since_the_list_was_stored(client, books, redis, settings):
    began = time.monotonic()
    client.get(CACHED)
    key = key_of(settings, "product")
    redis.pexpire(key, redis.pttl(key) - 100_000)
    age = int(client.get(CACHED)["Age"])
    assert 100 <= age <= 101 + time.monotonic() - began


def test_what_was_just_read_from_the_database_has_no_age(client, books):
    """RFC 9111, 5.1: an Age field says that the answer was not made for this request."""
    began = time.monotonic()
    assert "Age" not in client.get(CACHED)
    age = int(client.get(CACHED)["Age"])
    assert 0 <= age <= time.monotonic() - began


def test_an_entry_for_ever_has_no_ttl(client, books, settings):
    settings.CACHE_TTL = None
    client.get(CACHED)
    assert status_of(client.get(CACHED)) == {"hit": True}


def test_a_list_refreshed_ahead_counts_as_stale_and_stored(client, books, redis, settings):
    client.get(CACHED)
    redis.pexpire(key_of(settings, "product"), 50_000)  # The last part of its 600 s.
    response = client.get(CACHED)
    assert response.status_code == 200
    assert response.json()["from_database"] is True
    status = status_of(response)
    assert (status["fwd"], status["stored"]) == ("stale", True)
    assert int(status["ttl"]) > 500
    assert status_of(client.get(CACHED))["hit"] is True


@pytest.fixture
def filled_elsewhere(client, books, redis, settings) -> Callable[[], None]:
    """Another process is filling the entry; calling it ends that with the entry in its place."""
    client.get(CACHED)
    entry = redis.getdel(key_of(settings, "product"))
    generation = redis.get(f"{settings.PROJECT_NAME}:0:product:generation")
    redis.set(key_of(settings, "product:lock"), generation + b"f" * 32, px=60_000)
    configure(settings, WAIT_SECONDS=30)

    def finish() -> None:
        redis.set(key_of(settings, "product"), entry, ex=settings.CACHE_TTL)
        redis.delete(key_of(settings, "product:lock"))

    return finish


def test_those_who_waited_for_anothers_fill_say_so(filled_elsewhere, in_background):
    """One waits for another process, the other one for the thread of its own that waits."""
    waiting = [get_in_thread(in_background) for _ in range(2)]
    while not cache_of().singleflight._under_way:
        time.sleep(0.001)
    filled_elsewhere()
    collapsed = 0
    for response in [one.result(timeout=10) for one in waiting]:
        assert response.status_code == 200
        assert response.json()["from_cache"] is True
        assert int(response["Age"]) == 0
        status = status_of(response)
        if "collapsed" in status:
            assert status["fwd"] == "miss"
            collapsed += 1
    assert collapsed >= 1  # The second one may have come too late to wait.


def test_one_who_gave_up_waiting_says_so(filled_elsewhere, client, settings):
    configure(settings, WAIT_SECONDS=0.05)
    response = client.get(CACHED)
    assert response.status_code == 200
    assert response.json()["from_database"] is True
    assert status_of(response) == {"fwd": "bypass", "detail": "wait-timeout"}
    assert "Age" not in response


def test_a_bypass_says_why(client, books, settings):
    settings.CACHE_TTL = 0
    response = client.get(CACHED)
    assert status_of(response) == {"fwd": "bypass", "detail": "ttl-0"}
    assert "Age" not in response


def test_a_list_past_a_cache_that_is_down_says_so(client, books, settings):
    location = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {
        name: {**cache, "LOCATION": location} for name, cache in settings.CACHES.items()
    }
    for _ in range(2):
        response = client.get(CACHED)
        assert response.status_code == 200
        assert status_of(response) == {"fwd": "bypass", "detail": "cache-down"}
        assert "ETag" in response
    cache_of().outage.try_to_end()


def test_a_stale_list_says_how_long_it_has_been_stale(client, books, redis, settings):
    began = time.monotonic()
    body = client.get(CACHED).json()["results"]
    redis.delete(key_of(settings, "product"))
    redis.pexpire(key_of(settings, "product:stale"), settings.CACHE_STALE_IF_ERROR * 1000 - 100_000)
    with database_out_of_reach():
        response = client.get(CACHED)
    assert response.status_code == 200
    assert response.json()["stale"] is True
    assert response.json()["results"] == body
    status = status_of(response)
    assert (status["hit"], status["detail"]) == (True, "stale-if-error")
    assert 100 <= -int(status["ttl"]) <= 101 + time.monotonic() - began
    assert int(response["Age"]) > 0.89 * settings.CACHE_TTL


def test_without_a_list_to_bridge_an_outage_no_cache_keeps_the_error(client, books):
    with database_out_of_reach():
        response = client.get(CACHED)
    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert "ETag" not in response
    assert "Cache-Status" not in response


# --- ETag and If-None-Match -----------------------------------------------------------------------


def tag(client, path: str = CACHED) -> str:
    return client.get(path)["ETag"]


def test_the_tag_is_weak_and_the_same_from_database_and_cache(client, books, settings):
    first = client.get(CACHED)
    assert re.fullmatch(r'W/"[0-9a-f]{32}"', first["ETag"])
    assert client.get(CACHED)["ETag"] == first["ETag"]
    settings.CACHE_TTL = 0
    bypassed = client.get(CACHED)
    assert bypassed.json()["from_database"] is True
    assert bypassed["ETag"] == first["ETag"]


def test_the_tag_survives_a_refill_with_unchanged_rows(client, books):
    before = tag(client)
    catalogue.products_changed()
    response = client.get(CACHED)
    assert response.status_code == 201
    assert response["ETag"] == before


def test_the_tag_changes_with_the_results_and_back(client, books):
    before = tag(client)
    Product.objects.filter(pk=books[0].pk).update(price=1001)
    changed = tag(client)
    assert changed != before
    Product.objects.filter(pk=books[0].pk).update(price=1000)
    assert tag(client) == before


def test_each_variant_has_a_tag_by_its_results(client, books):
    whole, part = tag(client), tag(client, f"{CACHED}?limit=1")
    assert whole != part
    assert tag(client, f"{CACHED}?limit=999") == whole  # The same results.
    assert tag(client, f"{CACHED}?ordering=-id") != whole


def test_a_change_outside_the_results_keeps_their_tag(client, books):
    path = f"{CACHED}?max_price=1500"
    before = tag(client, path)
    Product.objects.filter(pk=books[1].pk).update(price=3000)
    assert tag(client, path) == before


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize(
    "form",
    [
        "{weak}",
        "{strong}",
        "*",
        " * ",
        '"other", {weak}',
        '{strong},"other"',
        '"a" , W/"b", {weak}',
    ],
)
def test_a_client_that_has_the_list_gets_304(client, books, form, method):
    weak = tag(client)
    known = form.format(weak=weak, strong=weak.removeprefix("W/"))
    response = getattr(client, method)(CACHED, headers={"if-none-match": known})
    assert response.status_code == 304
    assert response.content == b""
    # RFC 9110, 15.4.5: what a cache needs to bring its copy up to date.
    assert response["ETag"] == weak
    assert response["Cache-Control"] == "no-cache"
    assert "Accept" in response["Vary"]
    assert status_of(response)["hit"] is True
    assert "Content-Type" not in response


@pytest.mark.parametrize(
    "known", ['"other"', 'W/"other"', "", "garbage", '"', "W/", '"*"', "W/*", '"a", "b"']
)
def test_a_client_that_has_something_else_gets_the_list(client, books, known):
    tag(client)
    response = client.get(CACHED, headers={"if-none-match": known})
    assert response.status_code == 200
    assert len(response.json()["results"]) == 3


def test_a_miss_that_fills_confirms_what_the_client_has(client, books):
    known = tag(client)
    catalogue.products_changed()
    response = client.get(CACHED, headers={"if-none-match": known})
    assert response.status_code == 304
    assert status_of(response)["stored"] is True


def test_after_a_write_the_old_tag_gets_the_new_list(client, books):
    known = tag(client)
    Product.objects.update(price=4)
    response = client.get(CACHED, headers={"if-none-match": known})
    assert response.status_code == 201
    assert {product["price"] for product in response.json()["results"]} == {4}


def test_a_bad_query_is_400_whatever_the_client_has(client, books):
    response = client.get(f"{CACHED}?limit=0", headers={"if-none-match": "*"})
    assert response.status_code == 400
    assert "ETag" not in response


# --- Cache-Control and Server-Timing --------------------------------------------------------------


def test_no_cache_may_serve_a_list_without_asking(client, books):
    for headers in ({}, {"if-none-match": "*"}, {"authorization": "Basic eDp5"}):
        for path in (CACHED, f"{CACHED}?limit=1", f"{CACHED}?format=json"):
            response = client.get(path, headers=headers)
            assert response["Cache-Control"] == "no-cache"
            assert "Expires" not in response
            assert "Last-Modified" not in response


def timing_of(response) -> dict[str, float]:
    found = re.fullmatch(r"cache;dur=(\d+\.\d{2}), db;dur=(\d+\.\d{2})", response["Server-Timing"])
    assert found
    return {"cache": float(found[1]), "db": float(found[2])}


def test_server_timing_tells_cache_from_database(client, books, settings):
    miss, hit = timing_of(client.get(CACHED)), timing_of(client.get(CACHED))
    assert miss["cache"] > 0
    assert miss["db"] > 0
    assert 0 < hit["cache"] < 1000
    assert hit["db"] == 0
    settings.CACHE_TTL = 0
    bypass = timing_of(client.get(CACHED))
    assert bypass["cache"] == 0
    assert bypass["db"] > 0


# --- On the wire ----------------------------------------------------------------------------------


def test_304_is_head_only_and_leaves_a_kept_connection_in_order(open_store, books):
    """What came after its head would be read as the beginning of the next answer."""
    store: StoreProcess = open_store(WEB_CONCURRENCY="1")
    known = store.get(CACHED).headers["ETag"]
    with socket.create_connection(("127.0.0.1", store.port), timeout=10) as kept:
        for method in ("GET", "HEAD", "GET"):
            for accept in ("application/json", "*/*", "application/json; indent=4"):
                lines = (
                    f"{method} {CACHED} HTTP/1.1",
                    "Host: localhost",
                    f"Accept: {accept}",
                    f"If-None-Match: {known}",
                )
                kept.sendall("\r\n".join((*lines, "", "")).encode())
                answer = b""
                while b"\r\n\r\n" not in answer:
                    received = kept.recv(65536)
                    assert received
                    answer += received
                head, _, rest = answer.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 304 ")
                assert rest == b""
                assert b"set-cookie" not in head.lower()
    assert "WARNING" not in store.log.read_text()


def test_a_page_asked_for_again_is_no_warning_in_the_log(open_store, books):
    """gunicorn warns of an answer without a body that has one, with each visit to the page."""
    store: StoreProcess = open_store(WEB_CONCURRENCY="1")
    headers = {"Accept": "text/html", "If-None-Match": store.get(CACHED).headers["ETag"]}
    page = store.get(CACHED, headers)
    assert page.status == 200
    assert b"Book A" in page.body
    assert "WARNING" not in store.log.read_text()


def test_304_does_not_claim_that_the_list_is_empty(open_store, books):
    """RFC 9110, 8.6: its Content-Length is that of the list, or there is none."""
    store: StoreProcess = open_store(WEB_CONCURRENCY="1")
    known = store.get(CACHED).headers["ETag"]
    answer = store.get(CACHED, {"If-None-Match": known})
    assert answer.status == 304
    assert answer.headers.get("Content-Length") != "0"
