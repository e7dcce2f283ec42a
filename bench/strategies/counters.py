"""What Redis and the database are asked while something is measured, by their own count."""

import time

from django.conf import settings
from django.db import connection
from redis import Redis


class Counters:
    """Counts from outside; `queries` is None on SQLite, which counts nothing."""

    def __init__(self) -> None:
        self.redis = Redis.from_url(settings.REDIS_URL, protocol=2, driver_info=None)

    def redis_commands(self) -> int:
        """Return how many commands Redis has run, but for the questions that are asked here."""
        stats = self.redis.info("commandstats")
        return sum(one["calls"] for name, one in stats.items() if name != "cmdstat_info")

    def queries(self) -> int | None:
        """Return how many statements the database has been sent, this one included."""
        if not settings.MYSQL_HOST:
            return None
        with connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])


def begin_to_log_queries() -> None:
    """Have MySQL keep all statements that it is sent, in a table; not on SQLite."""
    if settings.MYSQL_HOST:
        with connection.cursor() as cursor:
            cursor.execute("SET GLOBAL general_log = OFF")
            cursor.execute("TRUNCATE mysql.general_log")
            cursor.execute("SET GLOBAL log_output = 'TABLE'")
            cursor.execute("SET GLOBAL general_log = ON")


def logged_product_queries() -> int | None:
    """Return how many statements have read products since; no more are logged."""
    if not settings.MYSQL_HOST:
        return None
    with connection.cursor() as cursor:
        cursor.execute("SET GLOBAL general_log = OFF")
        cursor.execute(
            "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE %s",
            ["SELECT%FROM `store_product`%"],
        )
        return int(cursor.fetchone()[0])


def statement_ms(sql: str) -> float:
    """Return the milliseconds that the database takes for a statement, the best of some."""
    best = float("inf")
    with connection.cursor() as cursor:
        for _ in range(7):
            started = time.perf_counter()
            cursor.execute(sql)
            cursor.fetchall()
            best = min(best, (time.perf_counter() - started) * 1000)
    return best


def product_ids() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM store_product ORDER BY id")
        return [row[0] for row in cursor.fetchall()]
