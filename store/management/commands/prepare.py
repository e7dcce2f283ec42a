from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from store import database


class Command(BaseCommand):
    help = "Make everything ready to serve: the database, its tables and, if empty, the products."

    requires_system_checks = ()  # Some checks of newer Djangos need the database to be there.

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            database.wait_until_up(say=self.stdout.write)
            self._prepare()
        except OperationalError as error:
            raise CommandError(database.describe(error)) from error

    def _prepare(self) -> None:
        with database.one_at_a_time():
            self.stdout.write(database.create_if_missing())
            call_command("migrate", interactive=False, verbosity=0)
            call_command("seed_products", stdout=self.stdout)
