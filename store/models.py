from typing import Any

from django.core.validators import MaxValueValidator
from django.db import models

from store import events

MAX_PRICE = 2**31 - 1  # What an integer column holds on every database.
# The highest id that a file may bring along: JavaScript counts to twice that, so that the ids that the
# database gives to later products are exact there, too.
MAX_ID = 2**52 - 1


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


class Transfer(models.Model):
    """A CSV file of products on its way into the store or out of it, and how far it has come.

    The database is the truth about it, so that it outlives Redis and workers: each batch of rows is
    committed together with the progress. `attempt` is the fence: it grows with each process that goes
    on with the transfer, and who has an older number writes nothing any more (see store.transfers).
    """

    class Kind(models.TextChoices):
        IMPORT = "import"
        EXPORT = "export"

    class State(models.TextChoices):
        RECEIVING = "receiving"
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    kind = models.CharField(max_length=10, choices=Kind)
    state = models.CharField(max_length=10, choices=State)
    all_or_nothing = models.BooleanField(default=False)
    is_checked = models.BooleanField(
        default=False
    )  # all_or_nothing: every row is known to be good.
    attempt = models.PositiveIntegerField(default=0)
    fruitless_attempts = models.PositiveIntegerField(default=0)  # since the last committed batch
    position = models.BigIntegerField(default=0)  # import: bytes done; export: the last id written
    line = models.BigIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    rows_done = models.BigIntegerField(default=0)
    rows_bad = models.BigIntegerField(default=0)
    rows_total = models.BigIntegerField(null=True)  # An import knows it at its end.
    seconds = models.FloatField(default=0.0)  # of work, pauses left out
    error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    touched_at = models.DateTimeField()  # the last sign of life

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "touched_at"], name="transfer_by_state")]

    def __str__(self) -> str:
        return f"{self.kind}-{self.pk}"


class Chunk(models.Model):
    """A piece of a file of a transfer, where web servers and workers both reach it."""

    class Content(models.TextChoices):
        PRODUCTS = "products"
        REJECTED = "rejected"

    transfer = models.ForeignKey(Transfer, on_delete=models.CASCADE)
    content = models.CharField(max_length=10, choices=Content)
    number = models.BigIntegerField()
    body = models.BinaryField()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(
                fields=["transfer", "content", "number"], name="chunk_of_transfer"
            )
        ]

    def __str__(self) -> str:
        return f"{self.transfer_id} {self.content} {self.number}"
