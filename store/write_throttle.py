from contextlib import suppress
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from freshcache.circuit_breaker import Unavailable
from store import keys, throttling


def count_write(request: Request | HttpRequest) -> None:
    """Count a write of who is signed in, or else of the address; raises TooMany after THROTTLE_WRITES.

    Without Redis, or past the request's time for it, everybody may: writing goes on.
    """
    address = throttling.client_network(request.META.get("REMOTE_ADDR", ""))
    who = f"user {request.user.pk}" if request.user.pk else address
    with suppress(Unavailable):
        throttling.count(settings.THROTTLE_WRITES, keys.throttle_key("write", who), needed=False)


class WriteThrottle(BaseThrottle):
    """Refuses writes past THROTTLE_WRITES.

    DRF's own throttles keep their counts in a list that they read and write back, which loses those of
    requests at once.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS:
            return True
        try:
            count_write(request)
        except throttling.TooMany as refusal:
            self._wait_seconds = refusal.retry_after_seconds
            return False
        return True

    def wait(self) -> int:
        return self._wait_seconds
