"""What all buttons have in common: a form posts, and is led back with a message; a script gets JSON."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST
from redis.exceptions import RedisError

from freshcache.circuit_breaker import Unavailable
from pages.page import AnyView, in_their_language

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """What a button has done: a sentence for people, and `data` for the page's script."""

    text: str
    data: dict[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """What a button could not do, in a sentence for people."""

    def __init__(self, text: str, status: int = 409) -> None:
        super().__init__(text)
        self.status = status


def action(page: str, part: str) -> Callable[[Callable[..., Done]], AnyView]:
    """Make a view of a function that does what a button says; a form is led back to a `part` of a page.

    The part shows the messages that are tagged with its name. What is down is answered with 503, what
    the function refuses as it says.
    """

    def decorate(act: Callable[..., Done]) -> AnyView:
        def lead_back() -> HttpResponse:
            return redirect(f"{reverse(page)}#{part}")

        def refuse(request: HttpRequest, text: str, status: int) -> HttpResponse:
            if wants_json(request):
                return JsonResponse({"detail": text}, status=status)
            messages.error(request, text, extra_tags=part)
            return lead_back()

        @wraps(act)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                done = act(request, *args, **kwargs)
            except Refused as refused:
                return refuse(request, str(refused), refused.status)
            except PermissionDenied:
                if not wants_json(request):
                    raise
                return refuse(request, gettext("Only staff may do this."), 403)
            except (Unavailable, RedisError):  # Their breakers have logged it.
                return refuse(request, _what_is_down(), 503)
            except (OperationalError, InterfaceError):
                logger.exception("The database failed")
                return refuse(request, _what_is_down(), 503)
            if wants_json(request):
                return JsonResponse({"text": done.text, **done.data})
            messages.success(request, done.text, extra_tags=part)
            return lead_back()

        return require_POST(in_their_language(cache_control(private=True, no_store=True)(answer)))

    return decorate


def _what_is_down() -> str:
    return gettext("What this needs cannot be reached right now. Please try again in a moment.")


def wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"
