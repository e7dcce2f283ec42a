"""What is in Redis, as it changes."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from pages import families, redis_state
from pages.page import in_their_language, page
from pages.powers import powers_of
from pages.redis_state import State
from store.redis_survey import ALL, CACHE, QUEUE

TITLES: dict[str, str | Promise] = {
    ALL: _("The keys in Redis"),
    CACHE: _("Redis for the cache"),
    QUEUE: _("Redis for baskets, jobs and events"),
}


@require_safe
@page
def home(request: HttpRequest) -> HttpResponse:
    powers = powers_of(request)
    context: dict[str, Any] = {"powers": powers}
    if powers.handle_cache:
        state = redis_state.latest.get()
        context |= {"state": state, "servers": [_shown(server) for server in state["servers"]]}
    return render(request, "pages/redis.html", context)


@require_safe
@in_their_language
@cache_control(private=True, no_store=True)
def state(request: HttpRequest) -> HttpResponse:
    """Answer with the same as JSON; not that often, however many ask."""
    if not powers_of(request).handle_cache:
        return JsonResponse({"detail": gettext("Only staff see what is in Redis.")}, status=403)
    return JsonResponse(redis_state.latest.get())


def _shown(server: State) -> State:
    """Return a server with its title and a row for each family."""
    found = server["families"] or {}
    rows = [
        {"name": name, "sentence": sentence, "family": found.get(name)}
        for name, sentence in families.shown(server["name"], set(found)).items()
    ]
    return server | {"title": TITLES[server["name"]], "rows": rows}
