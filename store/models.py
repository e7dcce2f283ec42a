from typing import Any

from django.core.validators import MaxValueValidator
from django.db import models

from store import events

MAX_PRICE = 2**31 - 1  # What an integer column holds on every database.


class Product(models.Model):
    """A product of the store; `store.catalogue` and `store.events` watch what is written to its table."""

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

    def save(self, *args: Any, **kwargs: Any) -> None:
        with events.of_one(self):
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with events.of_one(self):
            return super().delete(*args, **kwargs)
