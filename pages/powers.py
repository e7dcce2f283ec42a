"""Who may do what on the pages: staff what their permissions say, in the demo everybody everything.

The demo is the embedded default on this machine and nothing else: no variable turns it on. Its powers are
whose browser has opened the address that the start has printed (simple_django_redis/demo_token.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from simple_django_redis import demo_token

T = TypeVar("T")


@dataclass(frozen=True)
class Powers:
    """What one visitor may do and see."""

    demo: bool  # also what takes the whole store down for a moment
    may_open_demo: bool  # all of it, by the address that the start has printed
    change_prices: bool
    handle_cache: bool  # see what is in Redis, make the cache forget
    run_jobs: bool


def powers_of(request: HttpRequest) -> Powers:
    """Return what the visitor may do; without the demo it takes the permissions of staff."""
    if is_demo(request):
        return Powers(
            demo=True, may_open_demo=False, change_prices=True, handle_cache=True, run_jobs=True
        )
    user = request.user
    is_staff = user.is_active and user.is_staff
    may_change = is_staff and user.has_perm("store.change_product")
    return Powers(
        demo=False,
        may_open_demo=settings.DEMO,
        change_prices=may_change,
        handle_cache=is_staff,
        run_jobs=may_change and user.has_perm("store.add_product"),
    )


def is_demo(request: HttpRequest) -> bool:
    """Say whether this is the embedded default (settings.DEMO), asked by who has its address.

    Where a request comes from shows nothing: through a proxy of this machine everybody is a local client.
    """
    return settings.DEMO and demo_token.is_with(request)


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
