"""What all pages have in common: the visitor's language, nothing kept by caches, errors as pages.

The API knows nothing of languages, so that no entry of its cache depends on one: there is no middleware
for them, but this decorator.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import cache_control

from freshcache.circuit_breaker import Unavailable
from store.api_exceptions import ServiceUnavailable

logger = logging.getLogger(__name__)
View = Callable[..., HttpResponse]
AnyView = Callable[..., HttpResponseBase]


def in_their_language(view: AnyView) -> AnyView:
    """Answer in the language of the visitor's cookie, or else of their browser."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        language = translation.get_language_from_request(request)
        # Left again, as the next request of this thread may be for the API.
        with translation.override(language):
            response = view(request, *args, **kwargs)
        response.headers.setdefault("Content-Language", language)
        patch_vary_headers(response, ["Accept-Language", "Cookie"])
        return response

    return answer


def page(view: View) -> AnyView:
    """Answer with a page of one visitor; if what it needs is down, with one that says so (503)."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Unavailable:
            pass  # Its breaker has logged it.
        except (OperationalError, InterfaceError):
            logger.exception("The database failed")
        return _unavailable(request)

    return in_their_language(cache_control(private=True, no_store=True)(answer))


def _unavailable(request: HttpRequest) -> HttpResponse:
    # Who is signed in may be what cannot be found out.
    response = render(request, "pages/unavailable.html", {"nobody": True}, status=503)
    response["Retry-After"] = str(ServiceUnavailable.wait)
    return response
