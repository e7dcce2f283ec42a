"""What strangers can make on the server that evicts nothing, and in the database, has an end."""

from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from ipaddress import ip_address

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from redis import Redis

from store import (
    basket,
    basket_lines,
    catalogue,
    comparison,
    keys,
    ranking,
    sign_in,
    throttling,
    view_counts,
)
from store.ranking import Visitor
from tests.servers import free_port, start_redis

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

SessionStore = import_module(django_settings.SESSION_ENGINE).SessionStore


@pytest.fixture
def queue(settings):
    """A Redis of the test's own for what is no cache, whose memory can be measured, and filled."""
    server = start_redis(free_port(), "--maxmemory-policy", "noeviction")
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
    throttle = {**settings.CACHES["throttle"], "LOCATION": settings.QUEUE_REDIS_URL}
    settings.CACHES = {**settings.CACHES, "throttle": throttle}
    with Redis(port=server.port) as redis:
        yield redis
    server.stop()


def size(redis: Redis) -> tuple[int, int]:
    """Return how many keys there are and how many bytes they take."""
    found = list(redis.scan_iter(count=1000))
    with redis.pipeline(transaction=False) as pipeline:
        for key in found:
            pipeline.memory_usage(key, samples=0)
        return len(found), sum(pipeline.execute())


def begin_baskets(product_id: int, numbers: range) -> list[basket.Visitor]:
    visitors = [basket.Visitor(SessionStore(), None, f"client {number}") for number in numbers]
    for visitor in visitors:
        basket.put(visitor, product_id, 1)
        visitor.session.save()
    return visitors


def views(product_id: int, numbers: range) -> None:
    for number in numbers:
        # Each has a product of its own, as if a crawler went through a large store.
        one = Visitor(None, f"client {number}", f"fingerprint {number}")
        ranking.count_view(one, product_id + number)


def attempts(_product_id: int, numbers: range) -> None:
    for number in numbers:
        with suppress(throttling.TooMany):
            sign_in._count(f"name {number}", f"client {number}")


def writes(_product_id: int, numbers: range) -> None:
    for number in numbers:
        with suppress(throttling.TooMany):
            throttling.count((2, 60), keys.throttle_key("write", f"client {number}"))


@pytest.mark.parametrize("come", [views, begin_baskets, attempts, writes])
def test_any_number_of_visitors_leaves_bounded_memory(come, queue, books, settings, monkeypatch):
    settings.SECRET_KEY = "x" * 50
    settings.THROTTLE_LOGIN = (5, 60)
    monkeypatch.setattr(keys, "MAX_VIEWED", 100)
    monkeypatch.setattr(keys, "VIEWED_BITS", 1 << 13)
    monkeypatch.setattr(basket_lines, "MAX_ANONYMOUS_BASKETS", 100)
    monkeypatch.setattr(keys, "THROTTLE_SLOTS", 100)
    come(books[0].pk, range(120))
    keys_before, bytes_before = size(queue)
    come(books[0].pk, range(120, 480))
    keys_after, bytes_after = size(queue)
    assert keys_after <= max(keys_before + 2, 202)  # An hour, or ten minutes, may be over.
    assert bytes_after < 1.5 * bytes_before + 20_000  # Each of 360 would leave 100 and more.
    assert Session.objects.count() <= 100


def test_forged_and_missing_cookies_leave_nothing_of_a_visitor(queue, books):
    path = f"/store/products/{books[0].pk}/"
    Client().get(path)
    before = queue.dbsize()
    for number in range(40):
        client = Client(REMOTE_ADDR=str(ip_address("10.0.0.0") + number))
        client.cookies["visitor"] = f"{number:032x}:forged"
        assert client.get(path).status_code == 200
    assert queue.dbsize() <= before + 2  # The hour, or these ten minutes, may be over.
    assert not Session.objects.exists()


def test_an_hour_that_is_full_of_products_keeps_those_that_are_viewed_most(queue, monkeypatch):
    monkeypatch.setattr(keys, "MAX_VIEWED", 20)
    for number in range(3):
        views(7, range(number, number + 1))  # products 7, 8 and 9
        ranking.count_view(Visitor(None, f"again {number}", "x"), 7)
    views(1000, range(500))
    found = view_counts.most_viewed(datetime.now(UTC), 0, 100)
    assert found[0] == (7, 4)
    assert len(found) <= 20


def test_the_basket_that_was_changed_longest_ago_makes_room_with_its_session(
    queue, books, monkeypatch
):
    monkeypatch.setattr(basket_lines, "MAX_ANONYMOUS_BASKETS", 3)
    first, second, third = begin_baskets(books[0].pk, range(3))
    basket.put(first, books[1].pk, 1)
    begin_baskets(books[0].pk, range(3, 4))
    assert not basket.read(second).lines
    assert [len(basket.read(one).lines) for one in (first, third)] == [2, 1]
    left = set(Session.objects.values_list("session_key", flat=True))
    assert {first.session.session_key, third.session.session_key} < left
    assert second.session.session_key not in left


def test_a_basket_that_is_brought_along_leaves_its_place(queue, books, client):
    client.get("/store/basket/")
    path = f"/store/basket/{books[0].pk}/"
    assert client.put(path, {"quantity": 1}, "application/json").status_code == 200
    assert queue.zcard(keys.anonymous_baskets_key()) == 1
    client.force_login(User.objects.create_user("ann"))
    assert queue.zcard(keys.anonymous_baskets_key()) == 0
    assert client.put(path, {"quantity": 2}, "application/json").status_code == 200
    assert queue.zcard(keys.anonymous_baskets_key()) == 0


def test_one_address_begins_so_many_baskets_and_is_told(queue, books, settings, monkeypatch):
    settings.THROTTLE_WRITES = (120, 60)
    monkeypatch.setattr(basket, "NEW_BASKETS", (2, 3600))

    def statuses(address: str) -> list[int]:
        clients = [Client(REMOTE_ADDR=address.format(number)) for number in range(3)]
        path, body = f"/store/basket/{books[0].pk}/", {"quantity": 1}
        return [one.put(path, body, "application/json").status_code for one in clients]

    assert statuses("192.0.2.1") == [200, 200, 429]
    assert statuses("2001:db8::{}") == [200, 200, 429]
    form = Client(REMOTE_ADDR="192.0.2.1").post(f"/shop/basket/{books[0].pk}/", {"quantity": "1"})
    assert form.status_code == 429
    assert statuses("192.0.2.9") == [200, 200, 429]


def test_a_user_is_known_from_the_places_that_they_came_from_last(queue):
    for number in range(30):
        throttling.remember("known:x", f"network {number}", 60, at_most=20)
    assert queue.zcard(throttling._whole_key("known:x")) == 20
    assert throttling.is_remembered("known:x", "network 29", 60)
    assert not throttling.is_remembered("known:x", "network 9", 60)
    assert not throttling.is_remembered("known:x", "network 29", 0)


def sizes(path: str) -> tuple[int, dict]:
    response = Client().get(path)
    return response.status_code, response.json()


@pytest.mark.parametrize("path", ["/store/", "/store/cached/"])
def test_a_list_of_too_many_rows_is_a_400_that_says_to_page(path, books, settings, redis):
    settings.LIST_MAX_ROWS = 3
    assert sizes(path)[0] in (200, 201)
    settings.LIST_MAX_ROWS = 2
    books[0].save()
    for query in ("", "?ordering=-id", "?offset=0", "?search=", "?format=json"):
        status, body = sizes(path + query)
        assert (status, list(body)) == (400, ["limit"])
        assert "more than 2 products" in body["limit"][0]
    for query in ("?limit=3", "?offset=1", "?limit=1000&offset=1", "?max_price=1500"):
        assert sizes(path + query)[0] in (200, 201)
    assert sizes(path + "?limit=3")[1]["results"][0]["id"] == books[0].pk
    assert Client().get(path, headers={"accept": "text/html"}).status_code == 400


def test_a_list_of_too_many_rows_is_not_read_as_a_whole(books, settings, django_assert_num_queries):
    settings.LIST_MAX_ROWS = 1
    with django_assert_num_queries(1) as queries:
        assert sizes("/store/")[0] == 400
    assert "LIMIT 2" in queries[0]["sql"]


def test_who_reads_lists_within_the_store_bears_that_one_is_too_long(books, settings, client):
    client.get("/store/cached/")
    settings.LIST_MAX_ROWS = 2
    assert comparison.compare_cached_lists()[0] == 1
    books[0].save()
    catalogue.fill_cached_lists()
    assert client.get("/").status_code == 200


def test_streams_of_one_address_are_bounded_and_it_is_told(books, settings):
    settings.EVENTS_MAX_PER_ADDRESS = 2
    answers = [
        Client(REMOTE_ADDR=f"2001:db8::{number}").get("/store/events/") for number in range(3)
    ]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert "Too many streams are open from this address" in answers[2].json()["detail"]
    assert int(answers[2]["Retry-After"]) > 0
    answers.append(Client(REMOTE_ADDR="192.0.2.1").get("/store/events/"))
    assert answers[3].status_code == 200
    for one in answers:
        one.close()


def fill_up(queue: Redis) -> None:
    queue.config_set("maxmemory", 1)


def test_readyz_says_that_the_queues_server_is_full_and_the_store_is_ready(queue, client):
    assert client.get("/readyz").json()["queue"] == "ok"
    fill_up(queue)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["queue"]) == (200, "full")
    queue.config_set("maxmemory", 0)
    assert client.get("/readyz").json()["queue"] == "ok"
    queue.replicaof("127.0.0.1", "1")
    assert client.get("/readyz").json()["queue"] == "refuses writes"


def test_readyz_says_that_the_only_server_is_full(queue, client, settings):
    settings.REDIS_URL = settings.QUEUE_REDIS_URL
    assert client.get("/readyz").json() == {"database": "ok", "cache": "ok"}
    fill_up(queue)
    assert client.get("/readyz").json() == {"database": "ok", "cache": "full"}


def test_a_full_server_keeps_nobody_out_whose_password_is_right(queue, client, settings):
    settings.THROTTLE_LOGIN = (5, 60)
    User.objects.create_superuser("chief", password="secret")
    fill_up(queue)
    for _ in range(3):
        login = {"username": "chief", "password": "secret"}
        assert Client().post("/admin/login/?next=/admin/", login).status_code == 302


def test_a_full_server_fails_no_view_and_is_logged_once(queue, client, books, caplog):
    fill_up(queue)
    for number in range(5):
        address = f"192.0.2.{number}"
        assert client.get(f"/store/products/{books[0].pk}/", REMOTE_ADDR=address).status_code == 200
    assert len(caplog.text) < 500
    assert len(caplog.records) == 1
