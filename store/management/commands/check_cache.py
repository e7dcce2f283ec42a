from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError

from freshcache.circuit_breaker import Unavailable
from store import comparison


class Command(BaseCommand):
    help = "Compare the cached product lists with the database; exits 1 if one differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--repair", action="store_true", help="make differing lists be forgotten, and exit 0"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["repair"]:
                checked, wrong = comparison.repair_cached_lists()
            else:
                checked, wrong = comparison.compare_cached_lists()
        except RedisError as error:
            raise CommandError(f"Redis cannot be reached: {error}") from error
        except Unavailable as error:
            raise CommandError(f"{error}.") from error
        for difference in wrong:
            self.stdout.write(str(difference))
        if not wrong:
            self.stdout.write(f"Compared {checked} cached lists with the database: all are right.")
            return
        summary = f"{len(wrong)} of {checked} cached lists differ from the database"
        if not options["repair"]:
            raise CommandError(f"{summary}; --repair makes them be forgotten.")
        self.stdout.write(f"{summary}; they have been forgotten.")
