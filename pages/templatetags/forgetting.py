"""What the part "Make it forget" of the first page shows of the store."""

from typing import Any

import orjson
from django import template

from freshcache.circuit_breaker import Unavailable
from pages import outages
from store import catalogue
from store.product_query import ProductQuery

PRODUCTS = 6
register = template.Library()


@register.simple_tag
def first_products() -> list[dict[str, Any]]:
    """Return the products whose price may be changed, as they are now; none if the database is down."""
    try:
        found = catalogue.list_products(ProductQuery(limit=PRODUCTS))
    except Unavailable:
        return []
    products: list[dict[str, Any]] = orjson.loads(found.fetched.body)
    return products


@register.simple_tag
def seconds_stopped(what: str) -> int:
    """Return for how many seconds "redis" or "database" is still stopped."""
    return outages.seconds_left(what)
