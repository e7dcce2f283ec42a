"""Are the cached lists right? Compares them with the database, for operators."""

import time
from dataclasses import dataclass

import orjson

from freshcache import maintenance
from freshcache.entry import Entry
from store import catalogue
from store.product_query import ORDERINGS, ProductQuery, TooManyRows
from store.regions import products

SETTLE_SECONDS = 0.5  # Longer than a writer takes from its commit to its invalidation.


@dataclass(frozen=True)
class Difference:
    """A cached list that is not what the database holds."""

    query: str
    cached: int  # products in the list
    stored: int  # products in the database
    differing: list[int]  # ids of products that are missing, too many or different

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.differing[:10])) + (", ..." if self.differing[10:] else "")
        name = self.query or "all products"
        what = f"ids {shown} differ" if shown else "the same products, but not the same list"
        return f"{name}: {self.cached} cached, {self.stored} in the database; {what}"


def compare_cached_lists() -> tuple[int, list[Difference]]:
    """Compare every product list that is being served with the database.

    Returns how many there are, and those that differ. A list that is forgotten while it is compared
    does not count. Raises RedisError or Unavailable.
    """
    checked, suspects = 0, []
    for names, entry in maintenance.served(products.name):
        query = _query_of(entry)
        if query is None:
            continue
        try:
            stored = catalogue.load(query)
        except TooManyRows:  # Nobody would be given this list today.
            stored = b"[]"
        checked += 1
        if stored != entry.body:
            suspects.append((names, entry, stored))
    # A write may have come between the two; once it is announced the list is not served any more.
    time.sleep(SETTLE_SECONDS if suspects else 0)
    return checked, [
        _difference(entry.query, entry.body, stored)
        for names, entry, stored in suspects
        if maintenance.is_served(names, entry)
    ]


def repair_cached_lists() -> tuple[int, list[Difference]]:
    """Compare as above and, if a list differs, make all of them be forgotten."""
    checked, wrong = compare_cached_lists()
    if wrong:
        catalogue.products_changed()
    return checked, wrong


def _query_of(entry: Entry) -> ProductQuery | None:
    """Return what `entry` is the answer to; None if only another release could ask for it."""
    try:
        query = ProductQuery(**(orjson.loads(entry.query) if entry.query else {}))
    except (ValueError, TypeError):
        return None
    return query if query.ordering.removeprefix("-") in ORDERINGS else None


def _difference(query: str, cached: bytes, stored: bytes) -> Difference:
    theirs = {row["id"]: row for row in orjson.loads(stored)}
    try:
        ours = {int(row["id"]): row for row in orjson.loads(cached)}
    except (ValueError, TypeError, KeyError):
        ours = {}  # It is no list of products: somebody else has written it.
    differing = [one for one in sorted(ours | theirs) if ours.get(one) != theirs.get(one)]
    return Difference(query, len(ours), len(theirs), differing)
