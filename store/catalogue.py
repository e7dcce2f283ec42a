"""The product lists: what they hold, and the one place where products and their cache meet."""

import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

import orjson
from django.conf import settings
from django.db.models import Q, QuerySet

from freshcache import Outcome, Result
from freshcache.source import database
from store import replicas, warm_up
from store.models import Product
from store.regions import products

ORDERINGS = ("id", "name", "price", "date_modified")
MAX_LIMIT = 1000
BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]+")


@dataclass(frozen=True)
class ProductQuery:
    """What of the catalogue is asked for; the default is all of it in id order."""

    limit: int | None = None
    offset: int = 0
    search: str = ""
    ordering: str = "id"
    min_price: int | None = None
    max_price: int | None = None

    def normalised(self) -> str:
        """Return the same text for every way of asking for the same list, "" for all products."""
        if self == ALL_PRODUCTS:
            return ""
        asked = {name: value for name, value in asdict(self).items() if value != DEFAULTS[name]}
        if (
            self.search and self.search.isascii()
        ):  # Databases disagree about the case of other letters.
            asked["search"] = self.search.lower()
        return orjson.dumps(asked, option=orjson.OPT_SORT_KEYS).decode()


ALL_PRODUCTS = ProductQuery()
DEFAULTS = asdict(ALL_PRODUCTS)


class TooManyRows(Exception):
    """A list without a limit would have more than LIST_MAX_ROWS products."""

    def __init__(self) -> None:
        super().__init__(
            f"There are more than {settings.LIST_MAX_ROWS} products in this list. Ask for it page by "
            f"page, with limit (at most {MAX_LIMIT}) and offset."
        )


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

    Raises breaker.Unavailable if the database is down, and TooManyRows.
    """
    started = time.perf_counter()
    body = replicas.read(lambda: _read(query), primary=database.call)
    seconds = time.perf_counter() - started
    fetched = Result(body, Outcome.BYPASS, load_seconds=seconds)
    return ProductList(fetched, seconds)


def list_products_cached(query: ProductQuery) -> ProductList:
    """Return the products that `query` asks for, from the cache if it has them.

    A transaction that has written products reads its own writes, from the database. Raises
    breaker.Unavailable if the database is down and no earlier list can be served, and TooManyRows.
    """
    started = time.perf_counter()
    fetched = products.get_or_load(query.normalised(), lambda: _read(query), may_load_later=True)
    return ProductList(fetched, time.perf_counter() - started)


def find_product(product_id: int, *, may_be_late: bool = False) -> Product:
    """Return a product, from a replica of the database if it `may_be_late`.

    Raises Product.DoesNotExist, or breaker.Unavailable if the database is down.
    """

    def find() -> Product:
        return Product.objects.get(pk=product_id)

    return replicas.read(find, primary=database.call) if may_be_late else database.call(find)


def select(query: ProductQuery) -> QuerySet[Product]:
    """Return the products that match `query`, ordered, ties broken by id; all pages of them."""
    found = Product.objects.order_by(query.ordering, "id")
    if query.search:
        found = found.filter(_contains("name", query) | _contains("description", query))
    if query.min_price is not None:
        found = found.filter(price__gte=query.min_price)
    if query.max_price is not None:
        found = found.filter(price__lte=query.max_price)
    return found


def _contains(field: str, query: ProductQuery) -> Q:
    """Compare as the database does, but what lies beyond the BMP, such as emoji, by its bytes.

    To utf8mb4_general_ci all of those are the same character.
    """
    found = Q(**{f"{field}__icontains": query.search})
    for run in BEYOND_BMP.findall(query.search):
        found &= Q(**{f"{field}__contains": run})
    return found


def load(query: ProductQuery) -> bytes:
    """Return the products that `query` asks for as JSON; raises breaker.Unavailable, TooManyRows."""
    return database.call(lambda: _read(query))


def _read(query: ProductQuery) -> bytes:
    # One row more says that there are too many, without reading them all.
    most = settings.LIST_MAX_ROWS + 1 if query.limit is None else query.limit
    columns = ("id", "name", "description", "price", "date_created", "date_modified")
    # Written out, as it is done for each row: a loop over the names would take longer.
    rows = [
        {
            "id": pk,
            "name": name,
            "desc": description,
            "price": price,
            "date_created": created,
            "date_modified": modified,
        }
        for pk, name, description, price, created, modified in select(query).values_list(*columns)[
            query.offset : query.offset + most
        ]
    ]
    if query.limit is None and len(rows) == most:
        raise TooManyRows
    return orjson.dumps(rows, option=orjson.OPT_UTC_Z)
