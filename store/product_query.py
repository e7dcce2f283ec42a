"""What is asked for of the products, and how it is read from the database."""

import re
from dataclasses import asdict, dataclass

import orjson
from django.conf import settings
from django.db.models import Q, QuerySet

from store.models import Product

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


def read_as_json(query: ProductQuery) -> bytes:
    """Return the products that `query` asks for as JSON, from the database; raises TooManyRows."""
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
