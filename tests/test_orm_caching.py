"""ORM_CACHE=on: single products through django-cacheops, as fresh as the lists.

cacheops has to be there when Django starts: most tests here run in a pytest of their own, which the
first one starts.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import connection, transaction

from freshcache.runtime import cache_of
from store import orm_caching
from store.models import Product
from tests.line import Line
from tests.preloaded import ROOT
from tests.servers import free_port, start_redis
from tests.test_freshness import every_write
from tests.visitors import prices, reprice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

is_on = settings.ORM_CACHE
with_cacheops = pytest.mark.skipif(not is_on, reason="run by the test that sets ORM_CACHE=on")


@pytest.mark.skipif(is_on, reason="this is the run that it starts")
def test_with_orm_cache_on_all_of_this_holds():
    variables = {"ORM_CACHE": "on", "MYSQL_NAME": f"orm_cache_{os.getpid()}"}
    kept = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    finished = subprocess.run(
        command, cwd=ROOT, env=kept | variables, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout
    assert "passed" in finished.stdout


@pytest.mark.skipif(is_on, reason="about the default")
def test_it_is_off_by_default():
    assert "cacheops" not in settings.INSTALLED_APPS
    assert "cacheops" not in sys.modules


def behind_the_back(product: Product, price: int) -> None:
    """Change a price so that neither Django nor the cache sees it."""
    connection.ensure_connection()
    with connection.connection.cursor() if settings.MYSQL_HOST else connection.connection as cursor:
        cursor.execute(f"UPDATE store_product SET price = {price} WHERE id = {product.pk}")
    connection.connection.commit()


def price_of(product: Product) -> int | None:
    return Product.objects.get(pk=product.pk).price


def orm_keys(redis) -> list[bytes]:
    return list(redis.scan_iter(f"{settings.PROJECT_NAME}:orm:*"))


@pytest.mark.smoke
@with_cacheops
def test_a_product_is_read_from_the_cache(books, redis, django_assert_num_queries):
    price_of(books[0])
    behind_the_back(books[0], 1)
    with django_assert_num_queries(0):
        assert price_of(books[0]) == 1000
    assert {key.decode().split(":")[3] for key in orm_keys(redis)} == {"q", "conj", "schemes"}


@pytest.mark.smoke
@with_cacheops
def test_no_key_lives_for_ever(books, redis):
    for product in books:
        price_of(product)
        product.save()
        price_of(product)
    assert all(redis.ttl(key) > 0 for key in orm_keys(redis))


@with_cacheops
@every_write
def test_a_write_is_seen_by_the_next_get(books, write):
    ids = [product.pk for product in books]
    for one in ids:
        first_price(one)
    write(books[0])
    found = {one: first_price(one) for one in ids}
    in_database = dict(Product.objects.nocache().values_list("pk", "price"))
    assert found == {one: in_database.get(one) for one in ids}


def first_price(product_id: int) -> int | None:
    product = Product.objects.filter(pk=product_id).first()
    return product.price if product else None


@with_cacheops
def test_a_rolled_back_write_is_not_seen(books):
    price_of(books[0])
    with transaction.atomic():
        Product.objects.update(price=5)
        assert price_of(books[0]) == 5
        transaction.set_rollback(True)
    assert price_of(books[0]) == 1000


@with_cacheops
def test_a_transaction_stores_nothing_as_its_snapshot_may_be_old(books, redis):
    with transaction.atomic():
        price_of(books[0])
    assert orm_keys(redis) == []


@with_cacheops
def test_a_slow_reader_cannot_bring_old_data_back(books, monkeypatch):
    def write_in_between(execute, sql, params, many, context):
        found = execute(sql, params, many, context)
        if sql.startswith("SELECT"):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(write_elsewhere).result()
        return found

    def write_elsewhere() -> None:
        Product.objects.update(price=9)
        connection.close()

    with connection.execute_wrapper(write_in_between):
        Product.objects.get(pk=books[0].pk)
    assert price_of(books[0]) == 9


@with_cacheops
def test_after_an_outage_nothing_is_served_that_may_be_old(books):
    price_of(books[0])
    cache_of().outage.trip(orm_caching.RedisError("cut off"))
    Product.objects.update(price=3)
    assert price_of(books[0]) == 3
    assert cache_of().outage.try_to_end()
    assert price_of(books[0]) == 3


def shown(answer) -> int:
    assert answer.status == 200
    return answer.json["price"]


@with_cacheops
def test_the_detail_page_is_fresh_in_every_process(open_store, editor, books):
    store = open_store("--workers=2", ORM_CACHE="on")
    path = f"/store/products/{books[0].pk}/"
    for price in range(20, 60):
        if price % 2:
            Product.objects.filter(pk=books[0].pk).update(price=price)
        else:
            assert reprice(store, editor, books[0], price) == 200
        assert {shown(store.get(path)) for _ in range(3)} == {price}


@with_cacheops
def test_without_redis_the_detail_page_comes_from_the_database_and_is_right_afterwards(
    open_store, books
):
    port = free_port()
    server = start_redis(port)
    line = Line(port)
    url = f"redis://127.0.0.1:{line.port}"
    store = open_store("--workers=1", ORM_CACHE="on", REDIS_URL=url, SECRET_KEY=settings.SECRET_KEY)
    path = f"/store/products/{books[0].pk}/"
    assert shown(store.get(path)) == 1000
    for price, fail, mend in ((7, line.cut, line.mend), (8, line.go_dead, line.mend)):
        fail()
        Product.objects.update(price=price)  # This process tells another Redis.
        assert {shown(store.get(path)) for _ in range(3)} <= {price}
        mend()
        assert prices(store.get("/store/")) == [price] * 3
        assert shown(store.get(path)) == price
    assert "Internal Server Error" not in store.log.read_text()
    line.close()
    server.stop()
