"""Which products people look at: counted at each look, ranked over the last 24 hours, and recalled.

Kept in Redis (`view_counts`), as it is nothing that a store could not lose; what a browser that nobody
is signed in on looked at, it keeps itself. Redis down: a look is not counted, and rankings are not
available; no page fails.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from freshcache.circuit_breaker import Unavailable
from store import replicas, view_counts
from store.models import Product
from store.view_counts import Viewing

DEFAULT_POPULAR = 10
MAX_POPULAR = 100
PAGE = 100  # Ranks that are looked up at a time, until enough of their products still exist.


@dataclass(frozen=True)
class Visitor:
    """Who looks: a user or, without one, a browser."""

    user_id: int | None
    network: str  # where the request comes from
    fingerprint: str  # tells visitors of a day apart, without a cookie
    recent: tuple[int, ...] = ()  # what a browser without a user says that it looked at


@dataclass(frozen=True)
class Ranked:
    """A product and how often it was looked at in the last 24 hours."""

    views: int
    product: Product


@dataclass(frozen=True)
class Popular:
    """The products that were looked at most, best first; not `available` while Redis is down."""

    available: bool
    results: list[Ranked] = field(default_factory=list)


@dataclass(frozen=True)
class Recent:
    """The products that a visitor looked at, the last one first; not `available` while Redis is down."""

    available: bool
    results: list[Product] = field(default_factory=list)


def count_view(visitor: Visitor, product_id: int) -> None:
    """Count that the visitor looks at a product; never raises for an outage of Redis."""
    user = None if visitor.user_id is None else f"user:{visitor.user_id}"
    viewing = Viewing(
        product_id=product_id,
        at=datetime.now(UTC),
        user_id=visitor.user_id,
        client=user or visitor.network,
        visitor=user or visitor.fingerprint,
    )
    with suppress(Unavailable):
        view_counts.count(viewing)


def popular(limit: int) -> Popular:
    """Return the `limit` products that were looked at most; those that are gone do not count."""
    now, found, start = datetime.now(UTC), list[Ranked](), 0
    while len(found) < limit:
        try:
            page = view_counts.most_viewed(now, start, PAGE)
        except Unavailable:
            return Popular(available=False)
        products = Product.objects.in_bulk([product_id for product_id, _ in page])
        found += [Ranked(views, products[one]) for one, views in page if one in products]
        start += PAGE
        if len(page) < PAGE:
            break
    return Popular(available=True, results=found[:limit])


def recent(visitor: Visitor) -> Recent:
    """Return the products that the visitor looked at last; those that are gone are left out."""
    try:
        ids = visitor.recent if visitor.user_id is None else view_counts.recent(visitor.user_id)
    except Unavailable:
        return Recent(available=False)
    products = replicas.read(lambda: Product.objects.in_bulk(ids))
    return Recent(available=True, results=[products[one] for one in ids if one in products])
