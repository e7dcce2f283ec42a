from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from store import database


class Command(BaseCommand):
    help = "Make the MySQL database (utf8mb4) if it is missing."

    requires_system_checks = ()  # Some checks of newer Djangos need the database to be there.

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(database.create_if_missing())
        except OperationalError as error:
            raise CommandError(database.describe(error)) from error
