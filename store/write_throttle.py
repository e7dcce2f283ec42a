from typing import Any

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from store import keys, throttling
from store.breaker import Unavailable


class WriteThrottle(BaseThrottle):
    """Who is signed in, or else each address, may write THROTTLE_WRITES times in a window.

    Without Redis everybody may: writing goes on. DRF's own throttles keep their counts in a list that
    they read and write back, which loses those of requests at once.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS:
            return True
        address = throttling.client_network(request.META.get("REMOTE_ADDR", ""))
        who = f"user {request.user.pk}" if request.user.pk else address
        try:
            throttling.count(settings.THROTTLE_WRITES, keys.throttle_key("write", who))
        except throttling.TooMany as refusal:
            self._wait_seconds = refusal.retry_after_seconds
            return False
        except Unavailable:
            return True
        return True

    def wait(self) -> int:
        return self._wait_seconds
