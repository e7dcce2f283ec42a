"""The shop: the list of products, and a page for each.

The list is read through the cache, with the API's own parameters. What stands beside it is not needed:
it is left out while Redis, or for once the database, does not answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import orjson
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from freshcache import Outcome
from freshcache.circuit_breaker import Unavailable
from pages.basket import pieces_in, quantities_of, try_to_put
from pages.page import page
from pages.powers import powers_of
from store import catalogue, ranking, regions
from store.basket_lines import MAX_QUANTITY
from store.catalogue import ProductList
from store.models import Product
from store.product_query import ProductQuery
from store.product_rules import plain_digits
from store.serializers import ProductQuerySerializer
from store.visitors import count_look, visitor_of

T = TypeVar("T")
ON_A_PAGE = 24
BESIDE = 8  # How many of the most viewed and of the recent products are shown.
FIELDS = ("search", "ordering", "min_price", "max_price", "offset")
ORDERINGS = {
    "id": _("Oldest first"),
    "-id": _("Newest first"),
    "name": _("Name, A to Z"),
    "-name": _("Name, Z to A"),
    "price": _("Price, lowest first"),
    "-price": _("Price, highest first"),
    "-date_modified": _("Recently changed first"),
    "date_modified": _("Longest unchanged first"),
}
ORIGINS = {
    Outcome.HIT: _("This list came from the cache."),
    Outcome.COALESCED: _("This list came from the cache, where another request had just put it."),
    Outcome.MISS: _("This list came from the database; the next reader finds it in the cache."),
    Outcome.REFRESH: _("This list came from the database, to renew the cache before it expires."),
    Outcome.STALE: _(
        "The database does not answer. This is the last list that the cache has of it."
    ),
    Outcome.BYPASS: _("This list came from the database, past the cache."),
}


@dataclass(frozen=True)
class Asked:
    """What a visitor wants to see: `query` is what could be understood, `errors` say what could not."""

    query: ProductQuery
    values: Mapping[str, str]  # as they were sent, to be shown again
    errors: Mapping[str, Any]

    @property
    def page_number(self) -> int:
        return self.query.offset // ON_A_PAGE + 1

    def address(self, offset: int) -> str:
        """Return the address of the page of this list that begins at `offset`."""
        kept = {name: value for name, value in self.values.items() if name not in self.errors}
        return "?" + urlencode({**kept, "offset": str(offset)})


@require_safe
@page
def products(request: HttpRequest) -> HttpResponse:
    asked = asked_of(request.GET)
    found = catalogue.list_products_cached(asked.query)
    context = {
        "powers": powers_of(request),
        "pieces": pieces_in(quantities_of(request)),
        "asked": asked,
        "orderings": ORDERINGS,
        "origin": ORIGINS[found.fetched.outcome],
        "found": found,
        **_shelf(asked, found),
        **_beside(request, found),
    }
    return render(request, "pages/shop.html", context, status=400 if asked.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def product(request: HttpRequest, product_id: int) -> HttpResponse:
    """Show a product; a POST, from a browser without JavaScript, puts it into the basket."""
    found = _find(product_id, may_be_late=True)
    problem = None
    if request.method == "POST":
        problem = try_to_put(request, product_id)
        if problem is None:
            return redirect("pages:basket")
    quantities = quantities_of(request)
    context = {
        "powers": powers_of(request),
        "product": found,
        "pieces": pieces_in(quantities),
        "in_basket": (quantities or {}).get(product_id),
        "problem": problem,
        "most": MAX_QUANTITY,
    }
    status = problem.status if problem else 200
    response = render(request, "pages/product.html", context, status=status)
    count_look(request, response, product_id)
    return response


@require_safe
@page
def price(_request: HttpRequest, product_id: int) -> HttpResponse:
    """Answer what a product costs now, for a page that is open; that is no look at it.

    Asked for because of an event, which a replica may not know of yet.
    """
    return JsonResponse({"price": _find(product_id).price})


def asked_of(parameters: Mapping[str, str]) -> Asked:
    """Return what the list's form asks for; an empty field asks for nothing."""
    values = {name: parameters.get(name, "").strip() for name in FIELDS}
    values = {name: value for name, value in values.items() if value}
    errors = ProductQuerySerializer(data=_plain(values))
    errors.is_valid()
    good = {name: value for name, value in values.items() if name not in errors.errors}
    understood = ProductQuerySerializer(data=_plain(good))
    understood.is_valid(raise_exception=True)
    # One more than is shown says whether there is another page, which no COUNT needs to.
    query = ProductQuery(**understood.validated_data, limit=ON_A_PAGE + 1)
    return Asked(query, values, errors.errors)


def _plain(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values with numbers in the digits that the API takes; keyboards have others, too."""
    return {
        name: value if name == "search" else plain_digits(value) for name, value in values.items()
    }


def _shelf(asked: Asked, found: ProductList) -> dict[str, Any]:
    rows = orjson.loads(found.fetched.body)
    offset = asked.query.offset
    products = rows[:ON_A_PAGE]
    return {
        "products": products,
        "first": offset + 1,
        "last": offset + len(products),
        "start": asked.address(0),
        "earlier": asked.address(max(0, offset - ON_A_PAGE)) if offset else None,
        "later": asked.address(offset + ON_A_PAGE) if len(rows) > ON_A_PAGE else None,
    }


def _beside(request: HttpRequest, found: ProductList) -> dict[str, Any]:
    if found.fetched.outcome is Outcome.STALE:
        return {}  # The database is down; nobody need wait for it again.
    recent = _or_none(lambda: ranking.recent(visitor_of(request)).results)
    return {
        "products_version": regions.products.version(),
        # Called by the template, if the fragment is not in the cache.
        "most_viewed": partial(_or_none, lambda: ranking.popular(BESIDE).results),
        "recently_viewed": (recent or [])[:BESIDE],
    }


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except (Unavailable, OperationalError, InterfaceError):
        return None


def _find(product_id: int, *, may_be_late: bool = False) -> Product:
    try:
        return catalogue.find_product(product_id, may_be_late=may_be_late)
    except Product.DoesNotExist as error:
        raise Http404 from error
