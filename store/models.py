from django.core.validators import MaxValueValidator
from django.db import models

MAX_PRICE = 2**31 - 1  # What an integer column holds on every database.


class Product(models.Model):
    """A product of the store; writes to its table are watched by `store.catalogue`."""

    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    price = models.PositiveIntegerField(
        null=True, blank=True, validators=[MaxValueValidator(MAX_PRICE)]
    )
    date_created = models.DateTimeField(auto_now_add=True)
    date_modified = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["price", "id"], name="product_by_price"),
            models.Index(fields=["name", "id"], name="product_by_name"),
            models.Index(fields=["date_modified", "id"], name="product_by_modified"),
        ]

    def __str__(self) -> str:
        return self.name
