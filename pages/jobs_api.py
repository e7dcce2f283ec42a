"""The API's imports, exports and jobs once more, for the page: to those who may run jobs there.

In the demo these are strangers, too. The API's own addresses stay with staff.
"""

from collections.abc import Callable
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from pages.page import in_their_language
from pages.powers import powers_of
from store import transfer_views


class MayRunJobs(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return powers_of(request._request).run_jobs


class CheckedSession(SessionAuthentication):
    """Asks strangers for the CSRF token, too; DRF asks those who are signed in alone.

    Whoever may run no jobs is refused in any case, and not asked: looking for the token reads the body,
    which may be as long as IMPORT_MAX_BYTES.
    """

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        self.enforce_csrf(request)
        return super().authenticate(request)

    def enforce_csrf(self, request: Request) -> None:
        if powers_of(request._request).run_jobs:
            super().enforce_csrf(request)


def for_page(view: type[APIView]) -> Callable[..., HttpResponseBase]:
    """Return a view of the API for the page's own addresses; /api/schema/ does not describe it."""
    answer = view.as_view(
        authentication_classes=(CheckedSession,), permission_classes=(MayRunJobs,), schema=None
    )
    return in_their_language(answer)


job = for_page(transfer_views.JobView)
imports = for_page(transfer_views.ImportsView)
rejected_rows = for_page(transfer_views.RejectedRowsView)
exports = for_page(transfer_views.ExportsView)
export = for_page(transfer_views.ExportView)
