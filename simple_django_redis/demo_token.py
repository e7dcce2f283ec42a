"""The secret at the end of the address that a start of the demo prints: who has it may do everything.

gunicorn's master makes it (gunicorn.conf.py) and its workers inherit its memory: it is in no file and no
environment, and each start has its own. Without it nobody has the demo's powers.
"""

import secrets

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare

value = ""


def make() -> None:
    """Begin a start: what the last one has printed leads nowhere from now on."""
    global value
    value = secrets.token_urlsafe(24)


def cookie_name() -> str:
    """Return a name of this port's: browsers send a host's cookies to all of its ports."""
    return f"demo_{settings.PORT}"


def is_right(said: str) -> bool:
    return bool(value) and constant_time_compare(said, value)


def is_with(request: HttpRequest) -> bool:
    return is_right(request.COOKIES.get(cookie_name(), ""))


def give(response: HttpResponseBase) -> None:
    """Have the browser keep it until it is closed; scripts and other sites' pages have no use of it."""
    secure = settings.SESSION_COOKIE_SECURE
    response.set_cookie(cookie_name(), value, httponly=True, samesite="Strict", secure=secure)
