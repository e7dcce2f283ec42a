"""Who has just written, or was told of a write, is shown nothing from before it."""

import itertools
import re
import secrets
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils import timezone
from redis.exceptions import RedisError

from bench.own_writes import old_after_events, old_after_own_writes
from freshcache.local_cache import MOST_TOKENS
from freshcache.runtime import cache_of
from store import catalogue, own_writes, product_query
from store.models import Product, Transfer
from store.own_writes import COOKIE, OwnWritesMiddleware
from store.regions import products
from tests.configuration import configure
from tests.test_copies import copy, keep, track
from tests.test_copies import make as make
from tests.test_copies import server as server
from tests.test_short_way import PATH, Site
from tests.test_short_way import copies as copies
from tests.test_short_way import site as site
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]
TOKEN = "5" * 32
WRITES = 50


def test_who_writes_or_hears_of_a_write_reads_it_next_whoever_answers(open_store, editor, books):
    variables = {"LOCAL_CACHE": "on", "LOCAL_CACHE_MAX_LAG": "5"}
    store = open_store("--workers=2", "--keep-alive=75", **variables)
    asked = store, books[0].pk, itertools.count(1)
    assert old_after_own_writes(*asked, editor, count=WRITES, sends_back=True) == 0
    assert old_after_events(*asked, count=WRITES, sends_back=True) == 0
    # Who sends nothing back is served what others may still see: the copies were in use.
    wait_for(lambda: old_after_events(*asked, count=2, sends_back=False) > 0)


# --- Copies ---------------------------------------------------------------------------------------


def test_no_copy_from_before_a_token_came_is_served_to_who_brings_it(make):
    copies = make()
    track(copies)
    kept = copy()
    kept.read_at = read_at = 1.0
    copies.keep(copies.epoch(), "family", kept)
    assert copies.find("family", "", [TOKEN]) is None
    assert copies.find("family", "") is kept  # to all others
    again = copy()
    again.read_at = float("inf")
    copies.keep(copies.epoch(), "family", again)
    assert copies.find("family", "", [TOKEN]) is kept  # What was made of it is not made again.
    assert kept.read_at > read_at


def test_a_token_that_comes_before_there_is_a_copy_counts_from_then(make):
    copies = make()
    assert copies.find("family", "", [TOKEN]) is None
    track(copies)
    came_at = copies._came_at[TOKEN]
    kept = copy()
    kept.read_at = came_at
    copies.keep(copies.epoch(), "family", kept)
    assert copies.find("family", "", [TOKEN]) is kept
    assert copies.find("family", "", [TOKEN, "6" * 32]) is None


@pytest.mark.parametrize("garbage", ["", "1", "x" * 32, f"{TOKEN},{TOKEN}", "\xff", "a" * 8000])
def test_what_is_no_token_is_not_kept_and_no_copy_satisfies_it(make, garbage):
    copies = make()
    track(copies)
    kept = keep(copies)
    kept.read_at = float(10**12)
    assert copies.find("family", "", [garbage]) is None
    assert len(copies._came_at) == 0
    assert copies.find("family", "") is kept


def test_tokens_are_bounded_and_one_that_comes_again_counts_as_new(make):
    copies = make()
    copies.find("family", "", [TOKEN])
    came_at = copies._came_at[TOKEN]
    copies.find("family", "", [secrets.token_hex(16) for _ in range(MOST_TOKENS)])
    assert len(copies._came_at) == MOST_TOKENS
    copies.find("family", "", [TOKEN])
    assert copies._came_at[TOKEN] > came_at


# --- Requests -------------------------------------------------------------------------------------


@pytest.fixture
def looks(monkeypatch) -> list[Any]:
    """What this process asks Redis for entries."""
    asked: list[Any] = []
    read = cache_of().entries.read

    def noting(*arguments: Any) -> Any:
        asked.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(cache_of().entries, "read", noting)
    return asked


@pytest.mark.parametrize(
    "brought",
    [
        {"HTTP_COOKIE": f"a=b; {COOKIE}={TOKEN}; c=d"},
        {"HTTP_X_STORE_SEEN": TOKEN},
        {"HTTP_COOKIE": f"{COOKIE}={TOKEN}", "HTTP_X_STORE_SEEN": "6" * 32},
    ],
    ids=str,
)
def test_a_token_costs_one_look_in_redis_and_no_query(
    site: Site, looks, brought, django_assert_num_queries
):
    site.prepare()
    looks.clear()
    with django_assert_num_queries(0):
        answer = site.ask(site.short, **brought)
    assert len(looks) == 1
    assert answer.status == "200 OK"
    assert "hit" in answer.headers["Cache-Status"]
    site.reached_django = 0
    assert site.ask(site.short).body  # Others' hits stay where they were.
    assert site.reached_django == 0
    # Mostly the next one; nothing is kept that was read while the process checked its copies.
    site.prepare(**brought)


@pytest.mark.parametrize(
    "brought",
    [
        {"HTTP_COOKIE": f"{COOKIE}=1"},
        {"HTTP_COOKIE": f"{COOKIE}={TOKEN}; {COOKIE}=" + "x" * 4000},
        {"HTTP_X_STORE_SEEN": "\xff\x00"},
        {"HTTP_X_STORE_SEEN": ""},
        {"HTTP_AUTHORIZATION": "Basic eDp5"},  # They may keep no cookies.
    ],
    ids=lambda brought: str(brought)[:50],
)
def test_garbage_costs_a_look_in_redis_each_time_and_nothing_else(
    site: Site, looks, redis, brought, django_assert_num_queries
):
    site.prepare()
    looks.clear()
    known = set(redis.scan_iter(f"{settings.PROJECT_NAME}:*"))
    with django_assert_num_queries(0):
        answers = [site.ask(site.short, **brought) for _ in range(3)]
    assert len(looks) == 3
    assert {one.status for one in answers} == {"200 OK"}
    assert (
        set(redis.scan_iter(f"{settings.PROJECT_NAME}:*")) - known == set()
    )  # Others may expire meanwhile.
    site.reached_django = 0
    site.ask(site.short)
    assert site.reached_django == 0


@pytest.mark.parametrize("path", [PATH, f"{PATH}?limit=1", "/store/products/"])
def test_who_brings_a_token_is_served_what_this_process_has_not_heard_of(site: Site, books, path):
    for name in ("changed", "checked", "forget"):
        setattr(cache_of().copies, name, lambda *_: None)
    seen = "HTTP_X_STORE_SEEN"

    def ask(**brought: str) -> str:
        return str(site.ask(site.short, path, **brought).json["results"][0]["price"])

    wait_for(lambda: ask() and cache_of().copies._copies)
    before = ask()
    Product.objects.filter(pk=books[0].pk).update(price=4711)
    assert [ask(), ask(**{seen: TOKEN})] == [before, "4711"]


def test_without_redis_a_token_is_answered_from_the_database(site: Site):
    site.prepare()
    cache_of().outage.trip(RedisError("down"))
    assert site.ask(site.short, HTTP_X_STORE_SEEN=TOKEN).json["from_database"]


# --- The cookie -----------------------------------------------------------------------------------


def answer_to(method: str, view=lambda _: HttpResponse()) -> HttpResponse:
    return OwnWritesMiddleware(view)(RequestFactory().generic(method, "/"))


@pytest.mark.parametrize("max_lag_seconds", [0.1, 1, 7.5])
def test_the_answer_to_a_write_brings_a_token_that_outlives_the_lag_of_copies(
    settings, max_lag_seconds
):
    configure(settings, LOCAL_CACHE=True, LOCAL_CACHE_MAX_LAG_SECONDS=max_lag_seconds)
    found = [answer_to("POST").cookies[COOKIE] for _ in range(2)]
    assert len({one.value for one in found}) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one.value) for one in found)
    assert all(one["max-age"] > max_lag_seconds and one["httponly"] for one in found)
    assert COOKIE not in answer_to("GET").cookies


def test_the_token_is_made_once_redis_knows_of_the_write(settings, books, redis):
    configure(settings, LOCAL_CACHE=True)
    catalogue.list_products_cached(product_query.ALL_PRODUCTS)
    generation = products.version()

    def write(_: object) -> HttpResponse:
        books[0].save()
        return HttpResponse()

    assert COOKIE in answer_to("PUT", write).cookies
    assert products.version() != generation


def test_where_nothing_lags_there_is_no_cookie(settings, client):
    configure(settings, LOCAL_CACHE=False)
    with pytest.raises(MiddlewareNotUsed):
        OwnWritesMiddleware(lambda _: HttpResponse())
    response = HttpResponse()
    own_writes.remember_write(response)
    assert not response.cookies


@pytest.mark.parametrize("address", ["/store/imports/", "/store/jobs/import-{}/", "/jobs/"])
def test_who_is_told_how_far_an_import_has_come_finds_its_products(settings, admin_client, address):
    configure(settings, LOCAL_CACHE=True)
    now = timezone.now()
    transfer = Transfer.objects.create(kind=Transfer.Kind.IMPORT, touched_at=now)
    answer = admin_client.get(address.format(transfer.pk))
    assert answer.status_code == 200
    assert COOKIE in answer.cookies
