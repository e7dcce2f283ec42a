"""What must not grow: memory, connections, keys, files; looked at every few seconds."""

import statistics
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

import psutil
from MySQLdb import MySQLError
from redis.exceptions import RedisError

from tests.scale.fleet import Fleet

EVERY_SECONDS = 5.0
WARMING_SHARE = 0.25  # of the run: what a process takes once is no growth
MEGABYTE = 1e6


@dataclass(frozen=True)
class Measure:
    """Something that is looked at; `share` and `tolerance` more in the end is no growth."""

    name: str
    look: Callable[[Fleet], float]
    tolerance: float
    share: float = 0.15


def processes(fleet: Fleet) -> list[psutil.Process]:
    """Return gunicorn's masters and workers on all hosts."""
    found = []
    for web in fleet.webs:
        if web.process:
            master = psutil.Process(web.process.pid)
            found += [master, *master.children(recursive=True)]
    return found


def largest_mb(fleet: Fleet) -> float:
    """Return what the largest process holds; a sum would tell how many there are just now."""
    return max(one.memory_info().rss for one in processes(fleet)) / MEGABYTE


def most_files(fleet: Fleet) -> float:
    return max(one.num_fds() for one in processes(fleet))


def redis_connections(fleet: Fleet) -> float:
    with closing(fleet.redis) as redis:
        return float(redis.info("clients")["connected_clients"])


def redis_keys(fleet: Fleet) -> float:
    with closing(fleet.redis) as redis:
        # RQ keeps what became of a job for a day.
        return float(sum(1 for _ in redis.scan_iter("django_redis:*", count=1000)))


def redis_mb(fleet: Fleet) -> float:
    with closing(fleet.redis) as redis:
        return float(redis.info("memory")["used_memory"]) / MEGABYTE


def mysql_connections(fleet: Fleet) -> float:
    with closing(fleet.database()) as database, database.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Threads_connected'")
        return float(cursor.fetchone()[1])


def temporary_files(fleet: Fleet) -> float:
    return float(sum(1 for _ in fleet.folder.rglob("*")))


MEASURES = (
    Measure("memory of the largest web process, MB", largest_mb, tolerance=15),
    Measure("open files of a web process", most_files, tolerance=25),
    Measure("connections to Redis", redis_connections, tolerance=25),
    Measure("connections to MariaDB", mysql_connections, tolerance=25),
    Measure("keys in Redis other than RQ's", redis_keys, tolerance=50),
    Measure("memory of Redis, MB", redis_mb, tolerance=5),
    Measure("temporary files", temporary_files, tolerance=10),
)


class Watch:
    """Looks at all measures every EVERY_SECONDS, in a thread; what is down just then is left out."""

    def __init__(self, fleet: Fleet) -> None:
        self.seen: dict[str, list[float]] = {measure.name: [] for measure in MEASURES}
        self._fleet = fleet
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            for measure in MEASURES:
                with suppress(RedisError, MySQLError, psutil.Error, OSError, ValueError):
                    self.seen[measure.name].append(measure.look(self._fleet))


def compared(values: list[float]) -> tuple[float, float]:
    """Return the medians of the first and of the last third of what was seen once it was warm."""
    warm = values[int(len(values) * WARMING_SHARE) :]
    third = max(1, len(warm) // 3)
    return statistics.median(warm[:third]), statistics.median(warm[-third:])


def has_grown(measure: Measure, values: list[float]) -> bool:
    before, after = compared(values)
    return after > before * (1 + measure.share) + measure.tolerance
