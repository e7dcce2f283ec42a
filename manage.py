#!/usr/bin/env python
"""Run a management command; `python manage.py help` lists them."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simple_django_redis.settings")
    if "runserver" not in sys.argv:
        # Commands work on whole tables; they may take longer than a web request.
        os.environ.setdefault("MYSQL_TIMEOUT_SECONDS", "600")
    try:
        from django.core.management import execute_from_command_line

        from simple_django_redis.startup import start_embedded_redis
    except ImportError as error:
        sys.exit(f"{error}. Run `make setup` first and use .venv/bin/python.")
    try:
        start_embedded_redis()
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
