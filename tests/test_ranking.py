"""Views of products: counted, ranked over the last 24 hours, recalled for each visitor."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from itertools import count

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.core.signing import get_cookie_signer
from django.db import connection
from django.test import Client
from redis import Redis

from freshcache import keys as cache_keys
from store import keys, ranking, view_counts
from store.connections import queue_breaker
from store.models import Product
from store.view_counts import Viewing
from tests.relay import Relay
from tests.servers import free_port, start_redis
from tests.visitors import complaints

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

BOUNDED_SECONDS = 15  # on a busy machine
clients = count()
addresses = IPv4Network("10.0.0.0/8").hosts()
POPULAR = "/store/products/popular/"
RECENT = "/store/products/recent/"


def look(client: Client, product: Product, **kwargs) -> None:
    """Look at a product, unless told otherwise from an address that nobody has looked from yet."""
    kwargs = {"REMOTE_ADDR": str(next(addresses)), **kwargs}
    assert client.get(f"/store/products/{product.pk}/", **kwargs).status_code == 200


def popular(client: Client, query: str = "") -> list[tuple[str, int]]:
    caches["default"].delete(cache_keys.generation_key("product"), version=cache_keys.UNVERSIONED)
    answer = client.get(POPULAR + query).json()
    assert answer["available"] is True
    return [(one["product"]["name"], one["views"]) for one in answer["results"]]


def recent(client: Client) -> list[str]:
    answer = client.get(RECENT).json()
    assert answer["available"] is True
    return [product["name"] for product in answer["results"]]


def forget_ranking(redis: Redis) -> None:
    redis.delete(keys.ranking_key())


def sign_in(name: str, **fields: int) -> Client:
    client = Client()
    client.force_login(User.objects.create_user(name, **fields))
    return client


@pytest.mark.smoke
def test_the_most_viewed_come_first(client, books, redis):
    for product, times in zip(books, (1, 3, 2), strict=True):
        for _ in range(times):
            look(client, product)
    assert popular(client) == [("Book B", 3), ("Book C", 2), ("Book A", 1)]
    assert popular(client, "?limit=1") == [("Book B", 3)]


def test_a_popular_product_is_shown_as_in_the_lists(client, books):
    look(client, books[0])
    (shown,) = client.get(POPULAR).json()["results"]
    assert shown["product"] == client.get("/store/").json()["results"][0]


def test_nobody_has_looked_at_anything_yet(client, books):
    assert popular(client) == []
    assert recent(client) == []


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many", "1_0", ""])
def test_a_bad_limit_is_a_400_that_names_it(client, limit):
    response = client.get(f"{POPULAR}?limit={limit}")
    assert (response.status_code, list(response.json())) == (400, ["limit"])


def test_a_look_that_finds_nothing_and_a_head_do_not_count(client, books):
    assert client.get("/store/products/999999999/").status_code == 404
    assert client.head(f"/store/products/{books[0].pk}/").status_code == 200
    assert popular(client) == []


def test_products_that_are_gone_leave_their_place_to_others(client, books, redis, monkeypatch):
    monkeypatch.setattr(ranking, "PAGE", 1)  # As if there were many before the first that exists.
    for product in (*books, books[0], books[2]):
        look(client, product)
    books[0].delete()
    assert popular(client, "?limit=2") == [("Book C", 2), ("Book B", 1)]
    assert recent(client) == ["Book C", "Book B"]


def view(product_id: int, at: datetime) -> None:
    view_counts.count(Viewing(product_id, at, None, f"client {next(clients)}", "someone"))


def test_only_the_last_24_hours_count(books, redis, client):
    now = datetime.now(UTC)
    view(books[0].pk, now)
    view(books[0].pk, now - timedelta(hours=22))
    view(books[0].pk, now - timedelta(hours=24))
    assert view_counts.most_viewed(now, 0, 10) == [(books[0].pk, 2)]
    forget_ranking(redis)
    assert view_counts.most_viewed(now + timedelta(hours=23), 0, 10) == [(books[0].pk, 1)]
    forget_ranking(redis)
    assert view_counts.most_viewed(now + timedelta(hours=24), 0, 10) == []


def test_a_look_that_a_host_whose_clock_is_ahead_has_counted_counts(books, client):
    view(books[1].pk, datetime.now(UTC) + timedelta(hours=1))
    assert popular(client) == [("Book B", 1)]


def test_a_ranking_is_made_once_a_minute_and_comes_from_the_cache_in_between(books, redis, client):
    look(client, books[0])
    assert client.get(POPULAR)["Cache-Status"].startswith("store; fwd=miss; stored")
    look(client, books[1])
    response = client.get(POPULAR)
    assert response["Cache-Status"].startswith("store; hit")
    assert popular(client) == [("Book A", 1)]
    assert 0 < redis.ttl(keys.ranking_key()) <= keys.RANKING_AGE_SECONDS
    forget_ranking(redis)
    assert len(popular(client)) == 2


def test_a_ranking_that_is_about_to_expire_is_made_anew(books, redis):
    now = datetime.now(UTC)
    view(books[0].pk, now)
    view_counts.most_viewed(now, 0, 10)
    view(books[0].pk, now)
    redis.pexpire(keys.ranking_key(), 900)
    assert view_counts.most_viewed(now, 0, 10) == [(books[0].pk, 2)]


def test_a_new_price_is_popular_at_once(client, books):
    look(client, books[0])
    client.get(POPULAR)
    Product.objects.update(price=77)
    (shown,) = client.get(POPULAR).json()["results"]
    assert shown["product"]["price"] == 77


def test_100_looks_at_once_are_all_counted(books, redis):
    barrier = threading.Barrier(10)

    def looks() -> None:
        client = Client()
        barrier.wait()
        for _ in range(10):
            look(client, books[0])
        connection.close()

    with ThreadPoolExecutor(10) as pool:
        for done in [pool.submit(looks) for _ in range(10)]:
            done.result()
    assert popular(Client()) == [("Book A", 100)]


def test_a_visitor_is_shown_what_they_looked_at_last_and_nothing_twice(client, books):
    for product in (*books, books[0]):
        look(client, product)
    assert recent(client) == ["Book A", "Book C", "Book B"]
    assert recent(Client()) == []


def test_a_list_of_recent_products_is_for_its_visitor_alone(client, books):
    look(client, books[0])
    ann, bob = sign_in("ann"), sign_in("bob")
    look(ann, books[1])
    assert (recent(client), recent(ann), recent(bob)) == (["Book A"], ["Book B"], [])
    response = ann.get(RECENT)
    assert {"private", "no-store"} <= set(response["Cache-Control"].split(", "))
    assert "private" in client.get(f"/store/products/{books[0].pk}/")["Cache-Control"]


def test_who_signs_in_on_a_browser_does_not_see_what_others_looked_at_there(client, books):
    look(client, books[0])
    client.force_login(User.objects.create_user("ann"))
    look(client, books[1])
    assert recent(client) == ["Book B"]
    client.logout()
    assert recent(client) == []  # The test client forgets all cookies.


def test_a_list_of_recent_products_is_capped(client, transactional_db, redis):
    ann = sign_in("ann")
    Product.objects.bulk_create(
        Product(name=f"Book {n}") for n in range(view_counts.MAX_RECENT + 5)
    )
    for product in Product.objects.all():
        look(client, product)
        look(ann, product)
    for visitor in (client, ann):
        assert len(recent(visitor)) == view_counts.MAX_RECENT
        assert recent(visitor)[0] == f"Book {view_counts.MAX_RECENT + 4}"
    assert redis.llen(keys.user_recent_key(ann.session["_auth_user_id"])) == view_counts.MAX_RECENT
    assert len(client.cookies["visitor"].value) < 500


def test_two_tabs_that_look_at_the_same_product_make_no_double(books, redis):
    now = datetime.now(UTC)

    def looks() -> None:
        for _ in range(50):
            view_counts.count(Viewing(books[0].pk, now, 1, "user:1", "user:1"))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(looks) for _ in range(4)]:
            done.result()
    assert redis.lrange(keys.user_recent_key(1), 0, -1) == [str(books[0].pk).encode()]


def test_a_look_begins_no_session_and_sends_a_cookie(client, books):
    look(client, books[0])
    assert not Session.objects.exists()
    cookie = client.cookies["visitor"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    response = client.get(f"/store/products/{books[0].pk}/")
    assert not response.cookies
    assert not sign_in("ann").get(f"/store/products/{books[0].pk}/").cookies


def signed(value: str) -> str:
    return get_cookie_signer("visitorvisitor").sign(value)


@pytest.mark.parametrize(
    "value",
    ["", "x", "2", "2.3:forged", "\xe9", signed("0f" * 16), signed("2.")],
    # A signature is another one each second, and names of tests have to be the same in all processes.
    ids=["empty", "no list", "an id", "forged", "not ASCII", "a browser of old", "cut short"],
)
def test_a_cookie_that_is_not_ours_is_replaced(books, value):
    client = Client()
    client.cookies["visitor"] = value
    look(client, books[0])
    assert client.cookies["visitor"].value.partition(":")[0] == str(books[0].pk)
    assert recent(client) == ["Book A"]


def test_looking_again_and_again_counts_once_for_a_client_and_product(books, monkeypatch):
    monkeypatch.setattr(keys, "VIEWED_SECONDS", 10**9)  # It is not over meanwhile.
    address = {"REMOTE_ADDR": "192.0.2.1"}
    for agent in ("Firefox", "Chromium", "Safari"):
        look(Client(), books[0], headers={"user-agent": agent}, **address)
    look(Client(), books[1], **address)
    look(Client(), books[0], REMOTE_ADDR="192.0.2.2")
    for last in "123":
        look(Client(), books[2], REMOTE_ADDR=f"2001:db8::{last}")
    ann = sign_in("ann")
    for last in "34":
        look(ann, books[1], REMOTE_ADDR=f"192.0.2.{last}")
    assert popular(Client()) == [("Book B", 2), ("Book A", 2), ("Book C", 1)]


def test_a_view_counts_again_in_the_next_ten_minutes(books, redis):
    at = datetime(2026, 11, 20, 12, 10, tzinfo=UTC)
    for minutes in (-1, 0, 5, 9):
        when = at + timedelta(minutes=minutes)
        view_counts.count(Viewing(books[0].pk, when, None, "somebody", "someone"))
    assert view_counts.most_viewed(at, 0, 10) == [(books[0].pk, 2)]


@pytest.mark.smoke
def test_visitors_of_a_day_are_counted_once_each(books, redis, settings):
    # A HyperLogLog may take two visitors for one; under this key it does not do so with these.
    settings.SECRET_KEY = "x" * 50
    address = {"REMOTE_ADDR": "192.0.2.1"}
    for agent in ("Firefox", "Chromium"):
        for _ in range(2):  # Without cookies each look comes from a new browser.
            look(Client(headers={"user-agent": agent}), books[0], **address)
    ann = sign_in("ann", pk=1)
    for agent in ("Firefox", "Safari"):
        look(ann, books[0], headers={"user-agent": agent})
    assert view_counts.visitors(datetime.now(UTC)) == 3
    assert view_counts.visitors(datetime.now(UTC) - timedelta(days=1)) == 0
    assert b"Firefox" not in redis.get(keys.visitors_key(datetime.now(UTC)))


@pytest.fixture
def other_redis() -> Iterator[int]:
    """The port of a server for what is no cache."""
    port = free_port()
    server = start_redis(port)
    yield port
    server.stop()


def test_counting_costs_one_round_trip(books, settings, other_redis):
    relay = Relay(other_redis, b"")
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{relay.port}/0"
    client = Client()
    look(client, books[0])  # Opens the connection.
    before = relay.count
    look(client, books[0])
    assert relay.count - before == 1
    relay.close()


def test_a_hung_redis_holds_up_no_page_for_long(open_store, books, other_redis):
    url, budget = f"redis://127.0.0.1:{other_redis}/0", {"CACHE_BUDGET_SECONDS": "2.5"}
    store = open_store("--workers=1", QUEUE_REDIS_URL=url, **budget)

    def outages() -> int:
        return len([line for line in complaints(store.log) if "is down" in line])

    path = f"/store/products/{books[0].pk}/"
    assert store.get(path).status == 200
    with Redis(port=other_redis) as admin:
        server = admin.info("server")["process_id"]
    before = outages()
    os.kill(server, signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert {store.get(path).status for _ in range(30)} == {200}
        # One a second waits, for a second; were it each, it would take 30.
        assert time.monotonic() - started < BOUNDED_SECONDS
        assert outages() == before + 1
    finally:
        os.kill(server, signal.SIGCONT)


def test_without_redis_no_page_fails_and_a_ranking_says_that_it_is_not_there(books, settings):
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    client = Client()
    look(client, books[0])
    assert recent(client) == ["Book A"]  # Its browser knows.
    for visitor, path in ((client, POPULAR), (sign_in("ann"), RECENT)):
        response = visitor.get(path)
        assert response.status_code == 200
        assert response.json() == {"available": False, "results": []}
        assert "no-store" in response["Cache-Control"]


def test_a_ranking_that_was_not_there_is_not_kept(books, settings, redis):
    url, settings.QUEUE_REDIS_URL = settings.QUEUE_REDIS_URL, f"redis://127.0.0.1:{free_port()}/0"
    client = Client()
    assert client.get(POPULAR).json()["available"] is False
    settings.QUEUE_REDIS_URL = url
    queue_breaker.reset()
    look(client, books[0])
    assert client.get(POPULAR).json()["available"] is True
