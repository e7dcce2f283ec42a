"""The basket: what a visitor means to buy, at the database's prices.

Kept in Redis (`basket_lines`) under the user's id or, before signing in, under the key that the
session had when the basket was begun. Redis down: Unavailable, a 503; only signing in goes on,
and the anonymous basket is brought along later.
"""

from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from freshcache.circuit_breaker import Unavailable
from store import basket_lines, keys, throttling
from store.models import Product
from store.throttling import TooMany

# What a session remembers: the key that it had when its basket was begun. Signing in changes the key.
SESSION_ENTRY = "basket"
# How many one address may begin in how many seconds: others' baskets make room for them in the end.
NEW_BASKETS = (60, 3600)


class NotThere(Exception):
    """The product is not in the store, or not in the basket."""


class BasketFull(Exception):
    """The basket has as many lines as it may, and the product is in none of them."""


@dataclass(frozen=True)
class Visitor:
    """Whose basket it is: the user's, or without one the anonymous session's."""

    session: SessionBase
    user_id: int | None
    network: str  # where the request comes from


@dataclass(frozen=True)
class Line:
    """A product in the basket; one without a price counts as 0 and is not `priced`."""

    product: int
    name: str
    price: int | None
    priced: bool
    quantity: int
    total: int


@dataclass(frozen=True)
class Note:
    """What has happened to the basket without its visitor's doing."""

    product: int
    note: str


@dataclass(frozen=True)
class Basket:
    """A basket as its visitor sees it, lines in id order."""

    lines: list[Line] = field(default_factory=list)
    total: int = 0
    notes: list[Note] = field(default_factory=list)


def watch_logins() -> None:
    """From now on who signs in finds the anonymous basket in the user's."""
    user_logged_in.connect(_bring_along, dispatch_uid="store.basket")


def read(visitor: Visitor) -> Basket:
    """Return the visitor's basket; products that are gone from the store are taken out and noted.

    Raises Unavailable if Redis is down, as all functions here do.
    """
    key = _key(visitor)
    return _read(key) if key else Basket()


def quantities(visitor: Visitor) -> dict[int, int]:
    """Return how many of each product are in the basket, without asking the database about them."""
    key = _key(visitor)
    return basket_lines.read(key) if key else {}


def put(visitor: Visitor, product_id: int, quantity: int) -> Basket:
    """Set the quantity (1 to MAX_QUANTITY) of a product and return the basket.

    The first one of an anonymous visitor begins a session. Raises NotThere, BasketFull, and TooMany if
    too many baskets have been begun from where the visitor is.
    """
    if not Product.objects.filter(pk=product_id).exists():
        raise NotThere(f"There is no product {product_id} in the store.")
    key = _key(visitor) or _begin(visitor)
    if visitor.user_id is None:
        for gone in basket_lines.register(key):  # The session was but the way to it.
            visitor.session.delete(keys.session_of(gone))
    # A tab that is still anonymous while another signs in may write after the merge: that line is lost.
    if not basket_lines.put(key, product_id, quantity):
        raise BasketFull(
            f"A basket has at most {basket_lines.MAX_LINES} lines, and this one is full."
        )
    return _read(key)


def remove(visitor: Visitor, product_id: int) -> Basket:
    """Take a product out and return the basket; raises NotThere if it is not in it."""
    key = _key(visitor)
    if not key or not basket_lines.remove(key, [product_id]):
        raise NotThere(f"Product {product_id} is not in the basket.")
    return _read(key)


def empty(visitor: Visitor) -> Basket:
    """Take everything out and return the empty basket."""
    if key := _key(visitor):
        basket_lines.clear(key)
    return Basket()


def _read(key: str) -> Basket:
    quantities = basket_lines.read(key)
    products = Product.objects.filter(pk__in=quantities).order_by("pk")
    lines = [_line(product, quantities[product.pk]) for product in products]
    gone = sorted(quantities.keys() - {line.product for line in lines})
    if gone:
        basket_lines.remove(key, gone)
    notes = [Note(product, "No longer in the store; taken out of the basket.") for product in gone]
    return Basket(lines, sum(line.total for line in lines), notes)


def _line(product: Product, quantity: int) -> Line:
    price = product.price
    return Line(
        product.pk, product.name, price, price is not None, quantity, (price or 0) * quantity
    )


def _key(visitor: Visitor) -> str | None:
    """Return the key of the visitor's basket, or None if an anonymous visitor has none yet."""
    begun_under = visitor.session.get(SESSION_ENTRY)
    if visitor.user_id is None:
        return keys.anonymous_basket_key(begun_under) if begun_under else None
    user_key = keys.user_basket_key(visitor.user_id)
    if begun_under:
        # Redis was down when this user signed in. The entry stays until signing out, as a session
        # that is written here could have been deleted by another tab (SessionInterrupted).
        basket_lines.merge(keys.anonymous_basket_key(begun_under), user_key)
    return user_key


def _begin(visitor: Visitor) -> str:
    """Begin a session for an anonymous visitor's basket and return the basket's key.

    Two first writes of one visitor at once begin two; the browser keeps the one answered last.
    """
    basket_lines.check()  # A basket that cannot be had leaves no session behind.
    rate = NEW_BASKETS if settings.THROTTLE_WRITES else None
    try:
        throttling.count(rate, keys.throttle_key("basket", visitor.network))
    except TooMany as error:
        reason = "Too many baskets have been begun from this address."
        raise TooMany(error.retry_after_seconds, reason) from error
    session = visitor.session
    session.clear()  # It may hold the login of a user who has been deactivated, and would prolong it.
    session.cycle_key()  # A new one, even in the place of an old one, which may be deleted meanwhile.
    session[SESSION_ENTRY] = session.session_key
    session.set_expiry(keys.BASKET_AGE_SECONDS)
    return keys.anonymous_basket_key(session[SESSION_ENTRY])


def _bring_along(request: HttpRequest, user: AbstractBaseUser, **_: Any) -> None:
    session = request.session
    begun_under = session.get(SESSION_ENTRY)
    if begun_under is None:
        return
    session.set_expiry(None)  # A login does not last as long as a basket.
    try:
        basket_lines.merge(keys.anonymous_basket_key(begun_under), keys.user_basket_key(user.pk))
    except Unavailable:
        return  # `_key` does it later.
    del session[SESSION_ENTRY]
