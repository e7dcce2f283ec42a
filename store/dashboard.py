"""RQ's dashboard, for superusers: whoever sees it can empty queues and run jobs."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from csp.decorators import csp_update
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import URLPattern
from django_rq.urls import urlpatterns as rq_urlpatterns
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError

from freshcache.circuit_breaker import Unavailable
from store.content_security import INLINE_SCRIPTS

View = Callable[..., HttpResponseBase]


def superusers_only(view: View) -> View:
    """Send strangers to the admin's login and other users away; no such job is a 404, no Redis a 503."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), resolve_url("admin:login"))
        if not (request.user.is_active and request.user.is_superuser):
            raise Http404
        try:
            return view(request, *args, **kwargs)
        except (IndexError, ValueError, NoSuchJobError) as error:  # An address typed by hand.
            raise Http404 from error
        except RedisError as error:
            raise Unavailable("Redis, for the jobs, is down") from error

    return guarded


# RQ's own URLs would show statistics to all staff.
urlpatterns = [
    URLPattern(rq.pattern, csp_update(INLINE_SCRIPTS)(superusers_only(rq.callback)), name=rq.name)
    for rq in rq_urlpatterns
]
app_name = "django_rq"
