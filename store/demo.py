"""The demo catalogue: 234 books as in the tutorial, or any number of varied ones."""

import itertools
import random
import string
from collections.abc import Iterator

from django.db import reset_queries, transaction

from store.models import Product

DEFAULT_COUNT = 234
BATCH_ROWS = 1000
ADJECTIVES = ("Quiet", "Golden", "Hidden", "Last", "Northern", "Paper", "Salt", "Second", "Winter")
NOUNS = ("Atlas", "Bridge", "Garden", "Harbour", "Letter", "Library", "Orchard", "River", "Tower")


def books() -> Iterator[Product]:
    """Yield Book A .. Book Z nine times over, at 1000 for A to 26000 for Z."""
    for _ in range(9):
        for rank, letter in enumerate(string.ascii_uppercase, start=1):
            yield Product(
                name=f"Book {letter}",
                description=f"book {letter} description",
                price=1000 * rank,
            )


def bring_back() -> int:
    """Delete all products and store the demo catalogue instead, under the ids from 1 on.

    Returns how many products it has.
    """
    found = list(books())
    for number, book in enumerate(found, start=1):
        book.pk = number
    with transaction.atomic():
        Product.objects.all().delete()
        Product.objects.bulk_create(found)
    return len(found)


def varied_books(count: int, seed: int) -> Iterator[Product]:
    """Yield `count` books with names and prices that `seed` determines."""
    dice = random.Random(seed)
    for number in range(1, count + 1):
        title = f"The {dice.choice(ADJECTIVES)} {dice.choice(NOUNS)}"
        yield Product(
            name=f"{title}, volume {number}",
            description=f"{title}: volume {number} of {count}, {dice.randint(80, 900)} pages",
            price=dice.randrange(500, 30_000, 50),
        )


def store_in_batches(products: Iterator[Product]) -> Iterator[int]:
    """Insert `products` in one transaction, yielding the size of each batch that went in."""
    with transaction.atomic():
        while batch := list(itertools.islice(products, BATCH_ROWS)):
            Product.objects.bulk_create(batch)
            reset_queries()  # With DEBUG on Django keeps all SQL.
            yield len(batch)
