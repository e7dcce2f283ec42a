from django.contrib import admin

from store.models import Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Not generic at run time.
    list_display = ("name", "price", "date_modified")
    list_editable = ("price",)
    list_filter = ("date_modified", "date_created")
    search_fields = ("name", "description")
    readonly_fields = ("date_created", "date_modified")
