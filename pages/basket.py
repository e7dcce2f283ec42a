"""The basket. With JavaScript the page changes it by the API, without by the forms that are taken here.

Both do the same: quantities are checked as the API checks them, and THROTTLE_WRITES counts both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_http_methods, require_safe
from rest_framework.exceptions import ValidationError

from freshcache.circuit_breaker import Unavailable
from pages.page import View, page
from pages.powers import powers_of
from pages.templatetags.numbers import number
from store import basket
from store.api_exceptions import ServiceUnavailable
from store.basket_lines import MAX_LINES, MAX_QUANTITY
from store.serializers import QuantitySerializer
from store.throttling import TooMany, client_network
from store.write_throttle import count_write


@dataclass(frozen=True)
class Problem:
    """Why a form was refused, and what was in it."""

    text: str
    status: int
    product: int | None = None
    quantity: str = ""


def _kindly(view: View) -> View:
    """Without Redis, which has the baskets, say so where the basket would be (503)."""

    @wraps(view)
    def answer(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Unavailable:
            context = {"powers": powers_of(request), "is_unavailable": True}
            response = render(request, "pages/basket.html", context, status=503)
            response["Retry-After"] = str(ServiceUnavailable.wait)
            return response

    return answer


def _posted(view: View) -> View:
    """Lead who asks for a form's address by GET to the basket.

    What a form's answer shows stands there: loaded again, or come back to in another language or after
    signing in.
    """

    @wraps(view)
    def answer(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if request.method != "POST":
            return redirect("pages:basket")
        return view(request, *args, **kwargs)

    return answer


@require_safe
@page
@_kindly
def home(request: HttpRequest) -> HttpResponse:
    return _show(request)


@require_http_methods(["GET", "HEAD", "POST"])
@page
@_posted
@_kindly
def change(request: HttpRequest, product_id: int) -> HttpResponse:
    return _show_or_go_on(request, try_to_put(request, product_id))


@require_http_methods(["GET", "HEAD", "POST"])
@page
@_posted
@_kindly
def remove(request: HttpRequest, product_id: int) -> HttpResponse:
    def take_out(visitor: basket.Visitor) -> None:
        if product_id in basket.quantities(visitor):
            basket.remove(visitor, product_id)

    return _show_or_go_on(request, _try(request, take_out))


@require_http_methods(["GET", "HEAD", "POST"])
@page
@_posted
@_kindly
def empty(request: HttpRequest) -> HttpResponse:
    return _show_or_go_on(request, _try(request, basket.empty))


def try_to_put(request: HttpRequest, product_id: int) -> Problem | None:
    """Set the quantity that the request's form has; return what was wrong with it, if anything."""

    def put(visitor: basket.Visitor) -> None:
        basket.put(visitor, product_id, QuantitySerializer.parse(request.POST))

    return _try(request, put, product_id)


def quantities_of(request: HttpRequest) -> dict[int, int] | None:
    """Return how many of each product the visitor's basket has; None without Redis."""
    try:
        return basket.quantities(_visitor(request))
    except Unavailable:
        return None


def pieces_in(quantities: Mapping[int, int] | None) -> int | None:
    return None if quantities is None else sum(quantities.values())


def _try(
    request: HttpRequest, act: Callable[[basket.Visitor], object], product_id: int | None = None
) -> Problem | None:
    sent = request.POST.get("quantity", "")
    try:
        count_write(request)
        act(_visitor(request))
    except ValidationError:
        text = gettext("It takes a number from 1 to %(most)s.") % {"most": number(MAX_QUANTITY)}
        return Problem(text, 400, product_id, sent)
    except basket.BasketFull:
        text = gettext("The basket is full: it holds %(most)s different products at most.")
        return Problem(text % {"most": number(MAX_LINES)}, 400, product_id, sent)
    except basket.NotThere:
        return Problem(gettext("This product is no longer in the store."), 404, product_id)
    except TooMany as error:
        seconds = error.retry_after_seconds
        text = ngettext(
            "These were too many changes in a row. Please try again in %(seconds)s second.",
            "These were too many changes in a row. Please try again in %(seconds)s seconds.",
            seconds,
        )
        return Problem(text % {"seconds": number(seconds)}, 429, product_id, sent)
    except Unavailable:
        text = gettext("The basket does not answer at the moment. Please try again shortly.")
        return Problem(text, 503, product_id, sent)
    return None


def _show_or_go_on(request: HttpRequest, problem: Problem | None) -> HttpResponse:
    return _show(request, problem) if problem else redirect("pages:basket")


def _show(request: HttpRequest, problem: Problem | None = None) -> HttpResponse:
    found = basket.read(_visitor(request))
    has_line = problem is not None and any(line.product == problem.product for line in found.lines)
    context = {
        "powers": powers_of(request),
        "basket": found,
        "pieces": sum(line.quantity for line in found.lines),
        "problem": problem,
        "problem_has_line": has_line,
        "most": MAX_QUANTITY,
    }
    return render(request, "pages/basket.html", context, status=problem.status if problem else 200)


def _visitor(request: HttpRequest) -> basket.Visitor:
    network = client_network(request.META.get("REMOTE_ADDR", ""))
    return basket.Visitor(request.session, request.user.pk, network)
