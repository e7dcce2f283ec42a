from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from freshcache.circuit_breaker import Unavailable
from store import database, warm_up


class Command(BaseCommand):
    help = "Make everything ready to serve: the database, its tables and, if empty, the products."

    requires_system_checks = ()  # Some checks of newer Djangos need the database to be there.

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            database.wait_until_up(say=self.stdout.write)
            self._prepare()
            self._warm_up()
        except OperationalError as error:
            raise CommandError(database.describe(error)) from error

    def _prepare(self) -> None:
        with database.one_at_a_time():
            self.stdout.write(database.create_if_missing())
            if wrong := database.wrong_character_sets():
                raise CommandError("Names could not be stored. " + "; ".join(wrong))
            if wrong := database.wrong_engines():
                raise CommandError("Writes could not be undone. " + "; ".join(wrong))
            call_command("migrate", interactive=False, verbosity=0)
            call_command("seed_products", stdout=self.stdout)

    def _warm_up(self) -> None:
        if settings.EMBEDDED_REDIS:
            return  # It may end with this process, and the job with it.
        try:
            warm_up.request()
        except Unavailable as error:
            self.stdout.write(f"The cache is not warmed up: {error}.")
        else:
            self.stdout.write("A worker will warm the cache up.")
