"""Who may do what on the pages: staff what their permissions say, in the demo everybody everything.

The demo is the embedded default on this machine and nothing else: no variable turns it on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from ipaddress import ip_address
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from store.proxies import is_forwarded

T = TypeVar("T")
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}


@dataclass(frozen=True)
class Powers:
    """What one visitor may do and see."""

    demo: bool  # also what takes the whole store down for a moment
    change_prices: bool
    handle_cache: bool  # see what is in Redis, make the cache forget
    run_jobs: bool


def powers_of(request: HttpRequest) -> Powers:
    """Return what the visitor may do; without the demo it takes the permissions of staff."""
    if is_demo(request):
        return Powers(demo=True, change_prices=True, handle_cache=True, run_jobs=True)
    user = request.user
    is_staff = user.is_active and user.is_staff
    may_change = is_staff and user.has_perm("store.change_product")
    return Powers(
        demo=False,
        change_prices=may_change,
        handle_cache=is_staff,
        run_jobs=may_change and user.has_perm("store.add_product"),
    )


def is_demo(request: HttpRequest) -> bool:
    """Say whether this is the embedded default (settings.DEMO), asked by its own machine, directly.

    That is looked at on each request, too, as gunicorn can be told to listen elsewhere, and a proxy of
    this machine would make everybody a local client. One that says nothing of itself at least speaks
    HTTP/1.0, as nginx does unless it is told otherwise; no browser does.
    """
    if not settings.DEMO or is_forwarded(request):
        return False
    if request.META.get("SERVER_PROTOCOL") == "HTTP/1.0":
        return False
    try:
        client = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    name = request.get_host().rpartition(":")[0] if _has_port(request) else request.get_host()
    return client.is_loopback and name in LOOPBACK_NAMES


def _has_port(request: HttpRequest) -> bool:
    return not request.get_host().endswith("]") and ":" in request.get_host()


def demo_only(view: Callable[..., T]) -> Callable[..., T]:
    """Make a view that does not exist (404) but in the demo."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> T:
        if not is_demo(request):
            raise Http404
        return view(request, *args, **kwargs)

    return guarded


def needs(power: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Refuse (403) who has not the power of this name, a field of `Powers`."""

    def decorate(view: Callable[..., T]) -> Callable[..., T]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> T:
            if not getattr(powers_of(request), power):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded

    return decorate
