"""Errors as users see them: JSON that says when to try again, and never a stack trace."""

import logging
import sys
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from freshcache.circuit_breaker import Unavailable
from freshcache.database_errors import describe
from freshcache.sparing_log import Sparingly, kind_of
from store.api_exceptions import ServiceUnavailable, as_api_exception
from store.basket import BasketFull, NotThere
from store.exports import NotFinished
from store.job_status import NoSuchJob
from store.product_query import TooManyRows
from store.throttling import TooMany

logger = logging.getLogger(__name__)
_failures = Sparingly()


class Conflict(exceptions.APIException):
    status_code = 409


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer what is down with 503 and Retry-After, what a basket refuses, all else as DRF does."""
    if isinstance(error, OperationalError | InterfaceError):
        if _failures.allows(kind_of(error)):
            logger.error("The database failed: %s", describe(error), exc_info=error)
        error = ServiceUnavailable()
    elif isinstance(error, Unavailable | TooMany):
        error = as_api_exception(error)
    elif isinstance(error, NotThere | NoSuchJob):
        error = exceptions.NotFound(str(error))
    elif isinstance(error, NotFinished):
        error = Conflict(str(error))
    elif isinstance(error, TooManyRows):
        error = exceptions.ValidationError({"limit": [str(error)]})
    elif isinstance(error, BasketFull):
        error = exceptions.ValidationError({"detail": str(error)})
    return drf_exception_handler(error, context)


def server_error(_request: HttpRequest) -> HttpResponse:
    """Answer what no view has caught; Django has logged it."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError | Unavailable):
        body = {"detail": ServiceUnavailable.default_detail}
        return JsonResponse(body, status=503, headers={"Retry-After": str(ServiceUnavailable.wait)})
    return JsonResponse({"detail": "The store has made a mistake; it has been noted."}, status=500)


def not_found(_request: HttpRequest, _exception: Exception) -> HttpResponse:
    """Answer an address of the API that leads nowhere."""
    return JsonResponse({"detail": "There is nothing at this address."}, status=404)
