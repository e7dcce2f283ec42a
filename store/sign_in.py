"""Signing in, by a form or by HTTP Basic credentials: THROTTLE_LOGIN bounds how fast passwords are tried.

All ways lead through Django's authentication backend, so that is where attempts are counted: by client
address and by user name, before the password is looked at, as otherwise those at once would all be let
through. A right password gives its attempt back. Redis down: SignInUnavailable, nobody gets in.
"""

import contextlib
import unicodedata
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from freshcache.circuit_breaker import Unavailable
from store import keys, throttling
from store.throttling import TooMany


class SignInUnavailable(Unavailable):
    """Attempts cannot be counted, so none is let in."""


class ThrottledBackend(ModelBackend):
    """Django's own users, whose passwords can be tried THROTTLE_LOGIN times in a window.

    `authenticate` raises TooMany, and SignInUnavailable if Redis is down.
    """

    # ModelBackend's own would go past the count.
    aauthenticate = BaseBackend.aauthenticate  # type: ignore[assignment]

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        if settings.THROTTLE_LOGIN is None or username is None or password is None:
            return super().authenticate(request, username, password, **kwargs)
        network = throttling.client_network(request.META.get("REMOTE_ADDR", "") if request else "")
        name = _normalised(username)
        try:
            counted = _count(name, network)
        except Unavailable as error:
            raise SignInUnavailable(str(error)) from error
        user = super().authenticate(request, username, password, **kwargs)
        # A database that takes yet other letters for the same would give each way of writing a name
        # attempts of its own; so none but these ways is a user's name.
        if user is None or _normalised(user.get_username()) != name:
            return None
        with contextlib.suppress(Unavailable):  # It stays counted; the password was right.
            throttling.give_back(counted)
        with contextlib.suppress(Unavailable):
            throttling.remember(
                keys.known_clients_key(name),
                keys.pseudonym(network),
                keys.KNOWN_CLIENT_SECONDS,
                keys.MAX_KNOWN_CLIENTS,
            )
        return user


class RefusedSignIns:
    """Answers what the backend raises in the login pages; the API's views have answered theirs."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, TooMany | SignInUnavailable):
            return None
        throttled, seconds = isinstance(error, TooMany), error.retry_after_seconds
        page = {"throttled": throttled, "seconds": seconds}
        response = render(request, "store/refused.html", page, status=429 if throttled else 503)
        response["Retry-After"] = str(seconds)
        return response


def _count(name: str, network: str) -> throttling.Counted:
    """Count an attempt by address, and by name unless the user has signed in from there of late.

    Otherwise whoever sends wrong passwords for a name would keep its owner out.
    """
    counted_under = [keys.throttle_key("login-address", network)]
    known = keys.known_clients_key(name)
    if not throttling.is_remembered(known, keys.pseudonym(network), keys.KNOWN_CLIENT_SECONDS):
        counted_under.append(keys.throttle_key("login-name", name))
    return throttling.count(settings.THROTTLE_LOGIN, *counted_under)


def _normalised(username: str) -> str:
    """Return the same text for all ways of writing a name, whether there is such a user or not.

    MySQL ignores case, accents and spaces at the end. What only the database could say would tell by
    who shares a count which names there are.
    """
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", username).casefold())
    return "".join(one for one in decomposed if not unicodedata.combining(one)).strip()
