"""The cached list is there before its readers, at no risk for deploys and writes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from redis import Redis

from store import jobs, keys, locks, warm_up
from store.catalogue import list_products_cached
from store.locks import LockNotAcquired
from store.models import Product
from store.product_query import ALL_PRODUCTS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]


@pytest.fixture
def rq(queue_server):
    with Redis(port=queue_server.port) as client:
        yield client


def is_cached() -> bool:
    return list_products_cached(ALL_PRODUCTS).fetched.from_cache


def test_after_a_warm_up_the_first_reader_is_served_from_the_cache(books, client, start_worker):
    warm_up.request()
    start_worker("--burst").process.wait(timeout=30)
    answer = client.get("/store/cached/")
    assert (answer.status_code, answer.json()["from_cache"]) == (200, True)


def test_a_thousand_writes_ask_for_one_warm_up(books, rq, settings):
    settings.CACHE_WARM_ON_WRITE = True
    for price in range(1000):
        Product.objects.filter(pk=books[0].pk).update(price=price)
    assert rq.llen("rq:queue:default") == 1
    jobs.warm_up()
    assert is_cached()
    books[0].save()
    assert rq.llen("rq:queue:default") == 2


def test_unless_asked_for_writes_warm_nothing_up(books, rq):
    books[0].save()
    assert not rq.keys("rq:*")
    assert not rq.exists(keys.warm_up_key())


def test_a_write_does_not_fail_because_nothing_can_be_warmed_up(books, queue_server, settings):
    settings.CACHE_WARM_ON_WRITE = True
    queue_server.kill()
    Product.objects.filter(pk=books[0].pk).update(price=7)
    assert Product.objects.get(pk=books[0].pk).price == 7


def test_one_at_a_time_warms_up(rq, monkeypatch):
    inside, done = threading.Semaphore(1), []

    def fill() -> None:
        assert inside.acquire(blocking=False)
        done.append(1)
        inside.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(warm_up.run, [fill] * 4))
    assert len(done) == 4
    monkeypatch.setattr(warm_up, "WAIT_SECONDS", 0)
    with locks.hold("warm-up", lease_seconds=60), pytest.raises(LockNotAcquired):
        warm_up.run(fill)


def test_preparing_asks_for_a_warm_up_and_goes_on_without_redis(
    demo_books, queue_server, rq, settings, capsys
):
    settings.EMBEDDED_REDIS = False
    call_command("prepare")
    assert "A worker will warm the cache up." in capsys.readouterr().out
    assert rq.exists(keys.warm_up_key())
    queue_server.kill()
    call_command("prepare")
    assert "The cache is not warmed up: Redis, for what is no cache, is down." in (
        capsys.readouterr().out
    )
