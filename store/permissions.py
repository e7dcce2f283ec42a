from typing import Any

from rest_framework.permissions import (
    SAFE_METHODS,
    DjangoModelPermissionsOrAnonReadOnly,
    IsAdminUser,
)
from rest_framework.request import Request


class StaffWritesElseReadOnly(DjangoModelPermissionsOrAnonReadOnly):
    """Anyone reads; staff who have the model's permission for it write."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS:
            return True
        return bool(request.user.is_staff) and super().has_permission(request, view)


class MayImportElseStaff(IsAdminUser):
    """Staff who may add and change products write; all staff read."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        needed = ("store.add_product", "store.change_product")
        return request.method in SAFE_METHODS or request.user.has_perms(needed)


class MayExport(IsAdminUser):
    """Staff who may look at products, or change them."""

    def has_permission(self, request: Request, view: Any) -> bool:
        may = map(request.user.has_perm, ("store.view_product", "store.change_product"))
        return super().has_permission(request, view) and any(may)
