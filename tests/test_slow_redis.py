"""A Redis that answers slowly, but within its timeouts: a request spends no more on it than its budget.

A budget has time for three answers here. How many were asked for is counted at a relay in front of the
server, so that a busy machine changes nothing.
"""

import base64
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import caches
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone
from redis import Redis

from freshcache.circuit_breaker import Unavailable
from freshcache.local_cache import NoLocalCache
from freshcache.redis import budget as redis_budget
from freshcache.result import Outcome
from freshcache.runtime import cache_of
from pages import redis_state
from store import (
    basket_lines,
    catalogue,
    event_stream,
    ranking,
    throttling,
    transfers,
    view_counts,
)
from store.connections import queue_breaker, queue_redis
from store.event_announcer import announcer
from store.models import Product, Transfer
from store.product_query import ProductQuery
from store.regions import products
from store.throttling import TooMany, breaker
from tests.configuration import configure
from tests.relay import Relay
from tests.servers import free_port, start_redis

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

ANSWER_SECONDS = 0.02
BUDGET_SECONDS = ANSWER_SECONDS * 3.2
IN_BUDGET = 3


class Wall:
    """A Stopwatch that counts what this process is late by: on a busy machine fewer answers fit."""

    was_late = False

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def own_seconds(self) -> float:
        return time.monotonic() - self._began


class Slow:
    """A line to Redis on which each answer takes ANSWER_SECONDS, once it is slow."""

    def __init__(self, port: int) -> None:
        self.is_slow = False
        self.asked = 0
        self._relay = Relay(port, b"", self._hold)
        self.port, self.close = self._relay.port, self._relay.close

    def _hold(self, _number: int) -> None:
        if self.is_slow:
            self.asked += 1
            time.sleep(ANSWER_SECONDS)

    def count(self, send: Any) -> int:
        """Return how many answers `send()` waited for."""
        self.asked, self.is_slow = 0, True
        try:
            send()
        finally:
            self.is_slow = False
        return self.asked


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    executor = start_redis(free_port())
    yield executor
    executor.kill()


@pytest.fixture
def redis(server) -> Iterator[Redis]:
    with Redis(port=server.port) as client:
        client.flushall()
        yield client


@pytest.fixture
def line(redis, server, settings, monkeypatch) -> Iterator[Slow]:
    with closing(Slow(server.port)) as made:
        url = f"redis://127.0.0.1:{made.port}/0"
        settings.REDIS_URL = settings.QUEUE_REDIS_URL = url
        settings.CACHES = {
            name: {**cache, "LOCATION": url} for name, cache in settings.CACHES.items()
        }
        settings.THROTTLE_WRITES, settings.THROTTLE_LOGIN = (120, 60), (10, 60)
        monkeypatch.setattr(cache_of(), "copies", NoLocalCache())
        monkeypatch.setattr(redis_state, "latest", redis_state.Latest())
        monkeypatch.setattr(redis_budget, "Stopwatch", Wall)
        configure(
            settings, READ_SECONDS=5.0
        )  # For the connections, which a busy machine must not end.
        queue_redis().ping()
        for alias in settings.CACHES:
            caches[alias].client.get_client().ping()
        cache_of().outage.try_to_end()
        configure(settings, BUDGET_SECONDS=BUDGET_SECONDS, READ_SECONDS=None)
        yield made
        settle()
        assert not cache_of().outage.is_open
        assert breaker._next_try is queue_breaker._next_try is None


def settle() -> None:
    while announcer.owes:
        announcer.settle()


@pytest.fixture
def staff(books, line) -> Client:
    """A client who may do everything, whose session has its copy in Redis."""
    user = User.objects.create_user("staff", password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(user)
    client.get("/store/basket/")
    return client


@dataclass(frozen=True)
class Way:
    """A request to a route, and how many answers it takes past the budget, for what it is about."""

    route: str
    method: str = "get"
    data: Any = None
    past_it: int = 0
    status: int = 200
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} /{self.route} {self.data or ''}"


P, T = "<int:product_id>", "<int:transfer_id>"
JSON = {"content_type": "application/json"}
BASIC = "Basic " + base64.b64encode(b"staff:secret").decode()
NEW = '{"name": "New", "description": "", "price": 1}'
WAYS = [
    Way("store/"),
    Way("store/cached/"),
    Way("store/cached/", data={"limit": "1"}),
    Way("store/basket/"),
    Way("store/basket/", "delete"),
    Way(f"store/basket/{P}/", "put", '{"quantity": 1}', past_it=1, options=JSON),
    Way(f"store/basket/{P}/", "delete", past_it=1),
    Way("store/imports/"),
    Way("store/imports/", "post", "a file", past_it=3, status=202),
    Way(f"store/imports/{T}/rejected/"),
    Way("store/exports/"),
    Way("store/exports/", "post", past_it=3, status=202),
    Way(f"store/exports/{T}/"),
    Way("store/jobs/<str:job_id>/"),
    Way("store/products/"),
    Way("store/products/", options={"headers": {"authorization": BASIC}}),
    Way("store/products/", "post", NEW, status=201, options=JSON),
    Way("store/products/popular/"),
    Way("store/products/recent/"),
    Way("store/products/<int:pk>/"),
    Way("store/products/<int:pk>/", "patch", '{"price": 7}', options=JSON),
    Way("store/products/<int:pk>/", "delete", status=204),
    Way(""),
    Way("demo/<str:token>/", status=302),
    Way("forget/price/", "post", {"product": "1", "price": "5"}, status=302),
    Way("forget/cache/", "post", status=302),
    Way("forget/entry/", "post", status=302),
    Way("redis/"),
    Way("redis/state/"),
    Way("shop/"),
    Way("shop/", data={"search": "book"}),
    Way(f"shop/{P}/"),
    Way(f"shop/{P}/", "post", {"quantity": "2"}, past_it=1, status=302),
    Way(f"shop/{P}/price/"),
    Way("shop/basket/"),
    Way(f"shop/basket/{P}/", "post", {"quantity": "2"}, past_it=1, status=302),
    Way(f"shop/basket/{P}/remove/", "post", past_it=2, status=302),
    Way("shop/basket/empty/", "post", status=302),
    Way("jobs/"),
    Way("jobs/sample-books.csv"),
    Way("jobs/imports/"),
    Way("jobs/imports/", "post", "a file", past_it=3, status=202),
    Way(f"jobs/imports/{T}/rejected/"),
    Way("jobs/exports/"),
    Way("jobs/exports/", "post", past_it=3, status=202),
    Way(f"jobs/exports/{T}/"),
    Way("jobs/status/<str:job_id>/"),
    Way("strategies/"),
    Way("language/setlang/", "post", {"language": "fa"}, status=302),
    Way("texts.js"),
    Way("api-auth/login/"),
    Way("api-auth/login/", "post", {"username": "staff", "password": "secret"}, 1, status=302),
    Way("api-auth/logout/", "post"),
    Way("api/schema/"),
    Way("api/docs/"),
    Way("favicon.ico", status=302),
    Way("admin/"),
    Way("admin/store/product/"),
    Way("admin/store/product/<path:object_id>/change/"),
    Way("admin/login/", "post", {"username": "staff", "password": "secret"}, 2, status=302),
    Way("nothing/here/", status=404),
]
# Ask by threads of their own, or for seconds: a stream, a stampede, an outage that is asked for, the
# demo's catalogue. RQ's pages ask by connections of RQ's. Of the admin some stand for all.
APART = (
    "store/events/",
    "forget/stampede/",
    "forget/redis/",
    "forget/database/",
    "jobs/bring-back/",
)
MANY = ("admin/", "django-rq/", "store/strategies/")


def send(client: Client, way: Way, product: Product, transfer: Transfer) -> Any:
    path = f"/{way.route}"
    for placeholder in (P, "<int:pk>", "<path:object_id>"):
        path = path.replace(placeholder, str(product.pk))
    path = path.replace(T, str(transfer.pk)).replace("<str:token>", "x")
    path = path.replace("<str:job_id>", transfers.job_id(transfer))
    data = way.data
    if data == "a file":
        data = {"file": SimpleUploadedFile("a.csv", b"name,description,price\nA,,1\n", "text/csv")}
    elif "product" in (data or ()) and isinstance(data, dict):
        data = data | {"product": str(product.pk)}
    return getattr(client, way.method)(path, data, **way.options)


CASES = [(way, state) for way in WAYS for state in ("hit", "miss")[way.method != "get" :]]


@pytest.mark.parametrize(("way", "state"), CASES, ids=str)
def test_a_request_spends_no_more_than_its_budget(way, state, staff, line, books, redis):
    kind = "import" if "imports/" in way.route else "export"
    transfer = Transfer.objects.create(kind=kind, state="done", touched_at=timezone.now())
    staff.put(f"/store/basket/{books[0].pk}/", '{"quantity": 1}', **JSON)
    if state == "hit":
        send(staff, way, books[0], transfer)
    else:
        gone = [key for key in redis.scan_iter() if b":basket:" not in key]
        redis.delete(*gone)
    answers = []
    asked = line.count(lambda: answers.append(send(staff, way, books[0], transfer)))
    assert answers[0].status_code == way.status
    assert asked <= IN_BUDGET + way.past_it


def test_a_fill_is_begun_only_if_its_end_is_within_the_budget(line, books, client, settings):
    configure(settings, BUDGET_SECONDS=ANSWER_SECONDS * 5.2)
    products.version()
    assert line.count(lambda: client.get("/store/cached/?limit=1")) <= 5


def routes(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        nested = getattr(pattern, "url_patterns", None)
        yield from [route] if nested is None else routes(nested, route)


def test_every_route_has_its_place_in_the_table():
    served = {one for one in routes(get_resolver().url_patterns) if not one.startswith(MANY)}
    assert served - {way.route for way in WAYS} == set(APART)


# --- What is done past the budget, and what is not --------------------------------------------------


@pytest.fixture
def spent(line) -> Iterator[None]:
    """The test is a request that has spent its budget."""
    budget = redis_budget.Budget()
    budget.spent_seconds = 60.0
    token = redis_budget._budget.set(budget)
    yield
    redis_budget._budget.reset(token)


@contextmanager
def outside() -> Iterator[None]:
    """The body is no part of the request."""
    token = redis_budget._budget.set(None)
    yield
    redis_budget._budget.reset(token)


def test_a_write_is_announced_to_the_cache_however_late_it_is(books, line, spent):
    before = products.version()
    assert before is None  # It can do without.
    with outside():
        catalogue.list_products_cached(ProductQuery())
    Product.objects.filter(pk=books[0].pk).update(price=7)
    assert not cache_of().outage.is_open
    with outside():
        found = catalogue.list_products_cached(ProductQuery())
    assert found.fetched.outcome is Outcome.MISS
    assert b'"price":7,' in found.fetched.body


def test_an_event_that_there_was_no_time_for_is_made_up_for(books, line, spent, caplog):
    Product.objects.create(name="Book D", price=1)
    assert announcer.owes
    settle()
    assert [entry.event for entry in event_stream.read_all()] == ["bulk"]
    assert "refuses events" not in caplog.text


def test_a_session_is_ended_and_a_basket_filled_past_the_budget(staff, books, redis, spent):
    session = staff.session
    assert redis.exists(caches["session"].make_key(session.cache_key))
    session.delete()
    assert not redis.exists(caches["session"].make_key(session.cache_key))
    basket_lines.put("basket:x", books[0].pk, 2)
    assert basket_lines.read("basket:x") == {books[0].pk: 2}


def test_a_claim_is_given_back_past_the_budget(books, line, redis, monkeypatch):
    """Otherwise all others would wait for it until its lease ends."""

    def load() -> bytes:
        budget = redis_budget._budget.get()
        budget.spent_seconds = 60.0
        raise Product.DoesNotExist

    token = redis_budget._budget.set(redis_budget.Budget())
    with pytest.raises(Product.DoesNotExist):
        products.get_or_load("", load, ttl=60)
    redis_budget._budget.reset(token)
    assert not [key for key in redis.scan_iter() if key.endswith(b":lock")]


def test_what_a_page_can_do_without_is_left_out_and_opens_no_circuit(staff, books, line, spent):
    for ask in (
        lambda: view_counts.recent(1),
        lambda: view_counts.most_viewed(timezone.now(), 0, 10),
        lambda: throttling.count((1, 60), "a", needed=False),
        lambda: throttling.remember("a", "b", 60, 10),
    ):
        with pytest.raises(Unavailable):
            ask()
    assert line.count(lambda: ranking.count_view(ranking.Visitor(1, "a", "b"), books[0].pk)) == 0
    assert line.count(lambda: caches["template_fragments"].set("a", "b")) == 0
    assert line.count(lambda: caches["session"].get("a")) == 0
    throttling.count((1, 60), "a")
    with pytest.raises(TooMany):
        throttling.count((1, 60), "a")


def test_jobs_and_threads_have_no_budget(line):
    assert line.count(lambda: [view_counts.recent(1) for _ in range(5)]) == 5


def test_the_first_of_an_anonymous_basket_goes_past_the_budget_for_writes_alone(books, line):
    client = Client()
    path = f"/store/basket/{books[0].pk}/"
    asked = line.count(lambda: client.put(path, '{"quantity": 1}', **JSON))
    assert asked <= IN_BUDGET + 5
    assert len(client.get("/store/basket/").json()["lines"]) == 1
