"""Gives a benchmark servers of its own and says what it ran on.

Nothing that the caller's environment names is used, so no store's data is ever touched; the servers
end with this process. Import what needs Django's settings only after `start()`.
"""

import os
import platform
import re
import secrets
import sqlite3
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection
from mirakuru.exceptions import ExecutorError
from redis import Redis

from tests.servers import (
    ServerDoesNotStartError,
    binary,
    free_port,
    start_mysql,
    start_redis,
    temporary_folder,
)

# A benchmark waits for what it measures, however busy the machine is, instead of giving it up.
PATIENT_SECONDS = "60"


def start(*redis_options: str) -> None:
    """Start a Redis and a database server, point the settings to them and set Django up.

    The database is MariaDB or MySQL where that can be had, else SQLite.
    """
    for name in list(os.environ):
        if name.startswith(("MYSQL_", "REDIS_", "CACHE_", "PROMETHEUS_")):
            del os.environ[name]
    redis_port = free_port()
    start_redis(redis_port, *redis_options)
    os.environ |= {
        "VAR_DIR": str(temporary_folder()),
        "PROJECT_NAME": "bench",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DEBUG": "false",
        "LOG_LEVEL": "WARNING",
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "LOCAL_CACHE": "off",
        "CACHE_BUDGET_SECONDS": PATIENT_SECONDS,
        "CACHE_LEASE_SECONDS": PATIENT_SECONDS,
        "CACHE_WAIT_SECONDS": PATIENT_SECONDS,
        "MYSQL_TIMEOUT_SECONDS": PATIENT_SECONDS,
        **_mysql_variables(),
        "DJANGO_SETTINGS_MODULE": "simple_django_redis.settings",
    }
    django.setup()


def _mysql_variables() -> dict[str, str]:
    if not binary("mariadbd", "mysqld") or find_spec("MySQLdb") is None:
        return {}
    port = free_port()
    try:
        start_mysql(port)
    except (ServerDoesNotStartError, ExecutorError, OSError) as error:
        print(f"MariaDB or MySQL does not start ({error}); measuring on SQLite instead")
        return {}
    return {"MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": str(port), "MYSQL_USER": "root"}


def describe() -> list[tuple[str, str]]:
    """Return what the figures depend on, as names and values; to be called after `start()`."""
    with Redis.from_url(settings.REDIS_URL, protocol=2) as redis:
        without_database = describe_for_redis(redis)
    return [*without_database, ("Database", f"{_database_version()}, on the same machine")]


def describe_for_redis(redis: Redis) -> list[tuple[str, str]]:
    """Return what figures depend on that have to do with Redis alone."""
    return [
        ("Processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("Kernel", f"{platform.system()} {_numbers(platform.release())}"),
        ("Python", platform.python_version()),
        ("Django", django.get_version()),
        ("redis-py", f"{version('redis')} with hiredis {version('hiredis')}"),
        ("Cache", f"{_redis_version(redis.info('server'))}, over TCP on the same machine"),
    ]


def _database_version() -> str:
    if not settings.MYSQL_HOST:
        return f"SQLite {sqlite3.sqlite_version}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        found = str(cursor.fetchone()[0])
    return f"{'MariaDB' if 'MariaDB' in found else 'MySQL'} {_numbers(found)}"


def _redis_version(info: dict[str, Any]) -> str:
    if valkey := info.get("valkey_version"):
        return f"Valkey {valkey}"
    return f"Redis {info['redis_version']}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _numbers(text: str) -> str:
    found = re.match(r"[\d.]*\d", text)
    return found[0] if found else text
