"""What goes wrong outside a view: told to scripts and by the API with JSON, elsewhere by a page."""

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext

from freshcache.circuit_breaker import Unavailable
from pages.action import wants_json
from pages.page import page
from store import errors


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if request.path.startswith("/store/"):
        return errors.not_found(request, exception)
    return _not_found(request)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:  # noqa: ARG001
    return _forbidden(request)


def csrf_failure(request: HttpRequest, **_reason: str) -> HttpResponseBase:
    """Refuse a form without its token: another site's, one older than a sign-in, or without cookies."""
    return _csrf_failure(request)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer what no view has caught; Django has logged it."""
    if request.path.startswith("/store/") or wants_json(request):
        return errors.server_error(request)
    return _server_error(request)


@page
def _not_found(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/not_found.html", {"nobody": True}, status=404)


@page
def _forbidden(request: HttpRequest) -> HttpResponse:
    title = gettext("You may not do this")
    return _error(request, title, gettext("It takes a permission that you do not have."), 403)


@page
def _csrf_failure(request: HttpRequest) -> HttpResponse:
    text = gettext(
        "The store could not see that this came from one of its own pages. Load the page anew and try "
        "once more; it needs cookies."
    )
    return _error(request, gettext("Please try again"), text, 403)


@page
def _server_error(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    if isinstance(error, OperationalError | InterfaceError | Unavailable):
        raise error  # The page that says so is the same for all.
    text = gettext("The store has made a mistake; it has been noted.")
    return _error(request, gettext("Something went wrong"), text, 500)


def _error(request: HttpRequest, title: str, text: str, status: int) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"detail": text}, status=status)
    context = {"nobody": True, "title": title, "text": text}
    return render(request, "pages/error.html", context, status=status)
