"""The two lists keep their HTTP contract on any backend of Django's cache framework."""

import threading

import pytest

from freshcache import runtime
from freshcache.redis.entries import RedisEntries
from store.models import Product
from tests.configuration import configure
from tests.test_short_way import Site

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

LOCAL = "django.core.cache.backends.locmem.LocMemCache"
DUMMY = "django.core.cache.backends.dummy.DummyCache"
FILES = "django.core.cache.backends.filebased.FileBasedCache"


@pytest.fixture(params=[LOCAL, FILES, "redis"])
def storing_backend(request, settings, tmp_path):
    if request.param != "redis":
        location = {"LOCATION": str(tmp_path)}
        settings.CACHES = {**settings.CACHES, "default": {"BACKEND": request.param, **location}}


def test_a_backend_that_stores_answers_201_then_200(storing_backend, client, books):
    first, second = client.get("/store/cached/"), client.get("/store/cached/")
    assert (first.status_code, first.json()["from_database"]) == (201, True)
    assert (second.status_code, second.json()["from_cache"]) == (200, True)
    assert first.json()["results"] == second.json()["results"]


def test_a_write_is_seen_on_a_backend_that_stores(storing_backend, client, books):
    client.get("/store/cached/")
    Product.objects.update(price=7)
    after = client.get("/store/cached/")
    assert after.status_code == 201
    assert {product["price"] for product in after.json()["results"]} == {7}


def test_filters_have_entries_of_their_own_on_a_backend_that_stores(storing_backend, client, books):
    assert client.get("/store/cached/?limit=1").status_code == 201
    assert client.get("/store/cached/?limit=2").status_code == 201
    assert client.get("/store/cached/?limit=1").status_code == 200


def test_the_dummy_backend_always_answers_201_from_the_database(client, books, settings):
    settings.CACHES = {**settings.CACHES, "default": {"BACKEND": DUMMY}}
    for _ in range(2):
        response = client.get("/store/cached/")
        assert (response.status_code, response.json()["from_database"]) == (201, True)


@pytest.mark.parametrize("backend", [LOCAL, DUMMY])
def test_the_uncached_list_and_readiness_need_no_redis(client, books, settings, backend):
    settings.CACHES = {**settings.CACHES, "default": {"BACKEND": backend}}
    assert client.get("/store/").status_code == 200
    assert client.get("/readyz").json() == {"database": "ok", "cache": "ok"}


@pytest.mark.parametrize("backend", [LOCAL, DUMMY])
def test_no_copies_are_kept_where_no_changes_are_announced(books, settings, monkeypatch, backend):
    configure(settings, LOCAL_CACHE=True)
    settings.CACHES = {**settings.CACHES, "default": {"BACKEND": backend}}
    monkeypatch.setattr(runtime.cache_of(), "copies", runtime.local_cache_of(RedisEntries()))
    settings.ALLOWED_HOSTS = ["testserver"]
    site = Site()
    before = set(threading.enumerate())
    for _ in range(3):
        assert site.ask(site.short).json["results"]
        assert set(threading.enumerate()) <= before
    assert site.reached_django == 3
