from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError
from rich.progress import Progress, TextColumn

from freshcache import maintenance


class Command(BaseCommand):
    requires_system_checks = ()  # Some checks of newer Djangos need the database, and this does not.
    help = "Delete cached entries of this project; sessions, locks and everything else stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="every cached entry")
        which.add_argument("--pattern", help="entries whose key matches, for example 'product*'")
        parser.add_argument("--dry-run", action="store_true", help="only count them")

    def handle(self, *args: Any, **options: Any) -> None:
        pattern: str = "*" if options["all"] else options["pattern"]
        dry_run: bool = options["dry_run"]
        found = 0
        columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,} entries"))
        try:
            with Progress(*columns, disable=not self.stdout.isatty()) as progress:
                task = progress.add_task("Counting" if dry_run else "Deleting", total=None)
                for count in maintenance.sweep(pattern, delete=not dry_run):
                    found += count
                    progress.advance(task, count)
        except RedisError as error:
            raise CommandError(f"Redis cannot be reached: {error}") from error
        if not found:
            self.stdout.write(f"No cached entry matches {pattern}.")
        else:
            verb = "Would delete" if dry_run else "Deleted"
            self.stdout.write(f"{verb} {found:,} cached entr{'y' if found == 1 else 'ies'}.")
