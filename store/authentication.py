from typing import Any

from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request


class SessionWithCsrf(SessionAuthentication):
    """Whoever writes by a cookie needs a CSRF token; DRF's own asks only those who are signed in."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        self.enforce_csrf(request)
        return super().authenticate(request)
