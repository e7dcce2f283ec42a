"""Measures what invalidation adds to transactions that write products."""

from collections.abc import Callable

from django.db import transaction

from bench.cache_costs.catalogues import make_catalogue
from bench.cache_costs.figures import Traffic
from bench.cache_costs.requests import read
from bench.cache_costs.traffic import traffic_of
from freshcache import Outcome
from store import catalogue
from store.models import Product

BATCH_ROWS = 1000


class RolledBack(Exception):
    """Undoes the transaction that it is raised in."""


def write_traffic(rows: int) -> dict[str, Traffic]:
    """Return the traffic of whole transactions that write products, by what they do."""
    make_catalogue("written", rows)
    many = f"{rows:,} rows"
    return {
        "1 row, save() outside of a transaction": _written(lambda: _save(1)),
        "1 row, save() inside atomic()": _written(lambda: _save_in_transaction(1)),
        f"{many}, bulk_update() in batches of {BATCH_ROWS:,}": _written(lambda: _bulk_update(rows)),
        f"{many}, a loop of save() inside atomic()": _written(lambda: _save_in_transaction(rows)),
        f"{many}, a loop of save(), rolled back": _rolled_back(rows),
    }


def _written(write: Callable[[], object]) -> Traffic:
    read(Outcome.MISS)
    traffic = traffic_of(write)
    read(Outcome.MISS)  # It was invalidated.
    catalogue.products_changed()
    return traffic


def _rolled_back(rows: int) -> Traffic:
    def write() -> None:
        try:
            _save_in_transaction(rows, then=RolledBack())
        except RolledBack:
            return

    read(Outcome.MISS)
    traffic = traffic_of(write)
    read(Outcome.HIT)  # Nothing was written.
    return traffic


def _save(rows: int) -> None:
    for product in Product.objects.order_by("id")[:rows]:
        product.price = (product.price or 0) + 1
        product.save()


def _save_in_transaction(rows: int, then: Exception | None = None) -> None:
    with transaction.atomic():
        _save(rows)
        if then:
            raise then


def _bulk_update(rows: int) -> None:
    products = list(Product.objects.order_by("id")[:rows])
    for product in products:
        product.price = (product.price or 0) + 1
    Product.objects.bulk_update(products, ["price"], batch_size=BATCH_ROWS)
