from typing import Any

from rest_framework.permissions import SAFE_METHODS, DjangoModelPermissionsOrAnonReadOnly
from rest_framework.request import Request


class StaffWritesElseReadOnly(DjangoModelPermissionsOrAnonReadOnly):
    """Anyone reads; staff who have the model's permission for it write."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS:
            return True
        return bool(request.user.is_staff) and super().has_permission(request, view)
