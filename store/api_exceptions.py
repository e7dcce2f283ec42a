"""What the store's own exceptions are for DRF, which makes an answer and Retry-After of them."""

from rest_framework import exceptions, status

from freshcache.circuit_breaker import RETRY_SECONDS, Unavailable
from store.throttling import TooMany


class ServiceUnavailable(exceptions.APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The store cannot answer at the moment. Please try again."
    wait = int(RETRY_SECONDS)  # DRF makes a Retry-After header of it.


def as_api_exception(error: Unavailable | TooMany) -> exceptions.APIException:
    """Return 429 for what has been done too often, 503 for what is down, which a breaker has logged."""
    if isinstance(error, TooMany):
        return exceptions.Throttled(error.retry_after_seconds, error.reason or None)
    return ServiceUnavailable()
