from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminIntegerFieldWidget
from django.core.exceptions import ValidationError
from django.db import models

from store.models import Product
from store.product_rules import whole_number


class WholeNumberFormField(forms.IntegerField):
    """A number by the rule of all doors."""

    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values:
            return None
        try:
            return whole_number(str(value))
        except ValueError:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from None


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Not generic at run time.
    formfield_overrides = {
        models.PositiveIntegerField: {
            "form_class": WholeNumberFormField,
            "widget": AdminIntegerFieldWidget,
        }
    }
    list_display = ("name", "price", "date_modified")
    list_editable = ("price",)
    list_filter = ("date_modified", "date_created")
    search_fields = ("name", "description")
    readonly_fields = ("date_created", "date_modified")
