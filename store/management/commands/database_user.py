import sys
from argparse import ArgumentParser
from getpass import getpass
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, OperationalError

from store import database


class Command(BaseCommand):
    help = "Print the statements that give a MySQL user the rights of the store, or carry them out."

    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user")
        parser.add_argument(
            "--apply",
            action="store_true",
            help="as MYSQL_USER, who may; the user's password is asked for, or read from standard input",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = options["user"]
        if not options["apply"]:
            for statement, parameters in database.user_statements(user):
                quoted = tuple(f"'{database.quoted(text)}'" for text in parameters)
                self.stdout.write(statement % quoted + ";")
            return
        if not settings.MYSQL_HOST:
            raise CommandError("SQLite has no users; set MYSQL_HOST.")
        password = (
            getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        )
        if not password:
            raise CommandError("A user without a password is made by nobody.")
        try:
            database.wait_until_up(say=self.stdout.write)
            database.make_user(user, password)
        except OperationalError as error:
            raise CommandError(database.describe(error)) from error
        except DatabaseError as error:
            raise CommandError(str(error.args[-1])) from error
        self.stdout.write(f"{user} may do on {settings.MYSQL_NAME} what the store does.")
