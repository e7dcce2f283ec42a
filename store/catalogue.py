"""The product lists: what they hold, and the one place where products and their cache meet."""

import time
from contextlib import suppress
from dataclasses import dataclass

from freshcache import Outcome, Result
from freshcache.source import database
from store import replicas, warm_up
from store.models import Product
from store.product_query import ALL_PRODUCTS, ProductQuery, TooManyRows, read_as_json
from store.regions import products


@dataclass(frozen=True)
class ProductList:
    """A list of products as ready JSON in `fetched.body`, and how it was come by."""

    fetched: Result
    response_time_seconds: float


def products_changed() -> None:
    """Make the cached product lists stale.

    Django's own writes, raw SQL included, do this by themselves once they are committed. Call it
    after changing products in a way that Django does not see, such as another program's import.
    """
    products.invalidate()
    warm_up.request_after_write()


def fill_cached_lists() -> None:
    """Put into the cache what most readers ask for; what else they should find there goes here."""
    with suppress(TooManyRows):  # Nobody is served it.
        list_products_cached(ALL_PRODUCTS)


def list_products(query: ProductQuery) -> ProductList:
    """Return the products that `query` asks for, read from the database, or from a replica of it.

    Raises Unavailable if the database is down, and TooManyRows.
    """
    started = time.perf_counter()
    body = replicas.read(lambda: read_as_json(query), primary=database.call)
    seconds = time.perf_counter() - started
    fetched = Result(body, Outcome.BYPASS, load_seconds=seconds)
    return ProductList(fetched, seconds)


def list_products_cached(query: ProductQuery) -> ProductList:
    """Return the products that `query` asks for, from the cache if it has them.

    A transaction that has written products reads its own writes, from the database. Raises
    Unavailable if the database is down and no earlier list can be served, and TooManyRows.
    """
    started = time.perf_counter()
    fetched = products.get_or_load(
        query.normalised(), lambda: read_as_json(query), may_load_later=True
    )
    return ProductList(fetched, time.perf_counter() - started)


def find_product(product_id: int, *, may_be_late: bool = False) -> Product:
    """Return a product, from a replica of the database if it `may_be_late`.

    Raises Product.DoesNotExist, or Unavailable if the database is down.
    """

    def find() -> Product:
        return Product.objects.get(pk=product_id)

    return replicas.read(find, primary=database.call) if may_be_late else database.call(find)


def load(query: ProductQuery) -> bytes:
    """Return the products that `query` asks for as JSON; raises Unavailable, TooManyRows."""
    return database.call(lambda: read_as_json(query))
