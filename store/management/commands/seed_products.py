from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from store import demo
from store.models import Product

MAX_COUNT = 1_000_000


class Command(BaseCommand):
    help = "Fill an empty store with the demo catalogue."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--count", type=int, help=f"varied books, up to {MAX_COUNT:,}")
        parser.add_argument("--seed", type=int, default=1, help="what determines varied books")
        parser.add_argument("--replace", action="store_true", help="delete what is there first")

    def handle(self, *args: Any, **options: Any) -> None:
        count: int | None = options["count"]
        if count is not None and not 1 <= count <= MAX_COUNT:
            raise CommandError(f"--count must be from 1 to {MAX_COUNT}, not {count}")
        if Product.objects.exists() and not options["replace"]:
            self.stdout.write("The store has products already; --replace would replace them.")
            return
        products = demo.books() if count is None else demo.varied_books(count, options["seed"])
        with transaction.atomic(), self._progress() as progress:
            Product.objects.all().delete()
            task = progress.add_task("Seeding products", total=count or demo.DEFAULT_COUNT)
            for size in demo.store_in_batches(products):
                progress.advance(task, size)
        self.stdout.write(f"The store has {count or demo.DEFAULT_COUNT} products.")

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        return Progress(*columns, TimeRemainingColumn(), disable=not self.stdout.isatty())
