"""The buttons of "Make it forget": a write, an emptied cache, an expiry, a stampede, outages."""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from rest_framework.exceptions import ValidationError

from freshcache import maintenance
from pages import outages, prices, stampede
from pages.action import Done, Refused, action
from pages.powers import demo_only, needs
from pages.templatetags.numbers import number
from store.locks import LockNotAcquired
from store.models import Product
from store.regions import products

button = action("pages:watch", "forget")


@button
@needs("change_prices")
def price(request: HttpRequest) -> Done:
    try:
        change = prices.change(request.POST.get("product", ""), request.POST.get("price", ""))
    except (Product.DoesNotExist, ValueError) as error:
        raise Refused(gettext("There is no such product."), 404) from error
    except ValidationError as error:
        raise Refused(_first_text(error), 400) from error
    text = gettext("%(name)s now costs %(price)s; before, it was %(before)s.") % {
        "name": change.product.name,
        "price": _shown(change.product.price),
        "before": _shown(change.before),
    }
    data = {
        "product": change.product.pk,
        "name": change.product.name,
        "price": change.product.price,
        "before": change.before,
        "seconds": change.seconds,
    }
    return Done(text, data)


@button
@needs("handle_cache")
def clear(_request: HttpRequest) -> Done:
    count = sum(maintenance.sweep("*", delete=True))
    text = ngettext(
        "The cache is empty: %(count)s cached list is gone.",
        "The cache is empty: %(count)s cached lists are gone.",
        count,
    )
    return Done(text % {"count": number(count)}, {"count": count})


@button
@needs("handle_cache")
def expire(_request: HttpRequest) -> Done:
    if maintenance.expire(products.name):
        return Done(gettext("The time of the cached list is up."))
    return Done(gettext("There was no cached list that could expire."))


@button
@needs("handle_cache")
def herd(request: HttpRequest) -> Done:
    try:
        went = stampede.run(request)
    except LockNotAcquired as error:
        raise Refused(gettext("There is a stampede already. Please wait for its end.")) from error
    text = ngettext(
        "%(requests)s requests at once, %(queries)s database query.",
        "%(requests)s requests at once, %(queries)s database queries.",
        went.queries,
    ) % {"requests": number(stampede.REQUESTS), "queries": number(went.queries)}
    data = {
        "requests": stampede.REQUESTS,
        "queries": went.queries,
        "statuses": went.statuses,
        "slowest_seconds": went.slowest_seconds,
    }
    return Done(text, data)


@button
@demo_only
def stop_redis(_request: HttpRequest) -> Done:
    left = outages.stop_redis()
    text = gettext("Redis answers nobody for %(seconds)s s.") % {"seconds": number(left)}
    return Done(text, {"seconds": left})


@button
@demo_only
def stop_database(_request: HttpRequest) -> Done:
    left = outages.stop_database()
    text = gettext("The database fails for %(seconds)s s.") % {"seconds": number(left)}
    return Done(text, {"seconds": left})


def _shown(price: int | None) -> str:
    return gettext("no price") if price is None else number(price)


def _first_text(error: ValidationError) -> str:
    detail: Any = error.detail  # {"price": ["..."]}
    return str(detail["price"][0])
