"""The first page: both lists race, and the cache is made to forget."""

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_safe

from freshcache.circuit_breaker import Unavailable
from pages.page import page
from pages.powers import powers_of
from simple_django_redis import demo_token
from store import catalogue, product_query
from store.catalogue import ProductList
from store.product_query import ProductQuery, TooManyRows


@dataclass(frozen=True)
class Column:
    """One of the two lists, and what one request to it took; `measured` is None if it failed."""

    name: str
    title: str
    path: str
    measured: ProductList | None


@require_safe
@page
def home(request: HttpRequest) -> HttpResponse:
    """Measure each list once, for who has no JavaScript; with it, the browser goes on from there."""
    database = _measure(catalogue.list_products)
    cached = _measure(catalogue.list_products_cached)
    columns = [
        Column("database", gettext("From the database"), reverse("store"), database),
        Column("cache", gettext("From the cache"), reverse("store-cached"), cached),
    ]
    context = {
        "powers": powers_of(request),
        "columns": columns,
        "times_faster": _times_faster(database, cached),
    }
    return render(request, "pages/watch.html", context)


@require_safe
@page
def open_demo(request: HttpRequest, token: str) -> HttpResponse:  # noqa: ARG001
    """Lead to the first page, whose address is no secret, and give who knew this one the powers."""
    response = redirect("pages:watch")
    response["Referrer-Policy"] = "no-referrer"
    if settings.DEMO and demo_token.is_right(token):
        demo_token.give(response)
    return response


def _measure(read: Callable[[ProductQuery], ProductList]) -> ProductList | None:
    try:
        return read(product_query.ALL_PRODUCTS)
    except (Unavailable, TooManyRows):
        return None


def _times_faster(database: ProductList | None, cached: ProductList | None) -> float | None:
    """Return None also where the cached list had to be read from the database, as nothing is compared."""
    if database is None or cached is None or not cached.fetched.from_cache:
        return None
    return database.response_time_seconds / cached.response_time_seconds
