from typing import Any

from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.request import Request

from freshcache.circuit_breaker import Unavailable
from store.api_exceptions import as_api_exception
from store.throttling import TooMany


class SessionWithCsrf(SessionAuthentication):
    """Whoever writes by a cookie needs a CSRF token; DRF's own asks only those who are signed in."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        self.enforce_csrf(request)
        return super().authenticate(request)


class ThrottledBasic(BasicAuthentication):
    """HTTP Basic credentials, of which THROTTLE_LOGIN bounds how many are tried."""

    def authenticate_credentials(
        self, userid: str, password: str, request: Request | None = None
    ) -> tuple[Any, None]:
        try:
            return super().authenticate_credentials(userid, password, request)
        except (TooMany, Unavailable) as error:
            # Of its own exceptions alone DRF knows not to sign in anew while it renders the answer.
            raise as_api_exception(error) from error
