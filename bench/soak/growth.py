"""What must not grow: memory, connections, keys, files; looked at every few seconds.

Of processes, those that are left alone for the whole run are looked at, each by itself.
"""

import statistics
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass

import psutil
from MySQLdb import MySQLError
from redis.exceptions import RedisError

from tests.scale.fleet import Fleet, JobWorker

EVERY_SECONDS = 5.0
WARMING_SHARE = 0.25  # of the run: what a process takes once is no growth
MEGABYTE = 1e6
CONNECTIONS = "connections of the host left alone to"


@dataclass(frozen=True)
class Measure:
    """Something that is looked at; `share` and `tolerance` more in the end is no growth."""

    name: str
    look: Callable[[], float]
    tolerance: float
    share: float = 0.05


def left_alone(fleet: Fleet, worker: JobWorker) -> dict[str, psutil.Process]:
    """Return by their names the processes that no fault ends."""
    web, jobs = fleet.webs[0].process, worker.process
    assert web
    assert jobs
    master = psutil.Process(web.pid)
    workers = master.children()
    named = {f"web process {number}": one for number, one in enumerate(workers, start=1)}
    return {"gunicorn's master": master, **named, "worker": psutil.Process(jobs.pid)}


def measures(fleet: Fleet, processes: dict[str, psutil.Process]) -> list[Measure]:
    """Return all that is looked at."""
    of_processes = [
        measure
        for name, process in processes.items()
        for measure in (
            Measure(f"memory of {name}, MB", lambda one=process: _mb(one), tolerance=4),
            Measure(f"open files of {name}", process.num_fds, tolerance=6),
        )
    ]
    return [
        *of_processes,
        Measure(f"{CONNECTIONS} Redis", lambda: _redis_connections(fleet), tolerance=6),
        Measure(f"{CONNECTIONS} MariaDB", lambda: _mysql_connections(fleet), tolerance=6),
        Measure("keys in Redis", lambda: _keys(fleet), tolerance=50, share=0.15),
        Measure("keys in Redis without a lifetime", lambda: _lasting_keys(fleet), tolerance=6),
        Measure("memory of Redis, MB", lambda: _redis_mb(fleet), tolerance=2, share=0.15),
        # After a reload a host has files of four processes' metrics instead of two's: eight more.
        Measure("temporary files", lambda: _files(fleet), tolerance=10),
    ]


def _mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MEGABYTE


def _redis_connections(fleet: Fleet) -> float:
    own = f"{fleet.webs[0].address}:"
    with closing(fleet.redis) as redis:
        return float(sum(one["addr"].startswith(own) for one in redis.client_list()))


def _mysql_connections(fleet: Fleet) -> float:
    with closing(fleet.database()) as database, database.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE host LIKE %s",
            [f"{fleet.webs[0].address}:%"],
        )
        return float(cursor.fetchone()[0])


def _keys(fleet: Fleet) -> float:
    with closing(fleet.redis) as redis:
        return float(redis.dbsize())


def _lasting_keys(fleet: Fleet) -> float:
    with closing(fleet.redis) as redis:
        return float(sum(redis.ttl(key) == -1 for key in redis.scan_iter(count=1000)))


def _redis_mb(fleet: Fleet) -> float:
    with closing(fleet.redis) as redis:
        return float(redis.info("memory")["used_memory"]) / MEGABYTE


def _files(fleet: Fleet) -> float:
    return float(sum(1 for _ in fleet.folder.rglob("*")))


class Watch:
    """Looks at all measures every EVERY_SECONDS, in a thread; what is down just then is left out."""

    def __init__(self, measures: Iterable[Measure]) -> None:
        self.seen: dict[Measure, list[float]] = {measure: [] for measure in measures}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self._error: BaseException | None = None

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _go_on(self) -> None:
        try:
            while not self._ended.wait(EVERY_SECONDS):
                for measure, values in self.seen.items():
                    with suppress(RedisError, MySQLError, psutil.Error, OSError, ValueError):
                        values.append(measure.look())
        except BaseException as error:
            self._error = error


def compared(values: list[float]) -> tuple[float, float]:
    """Return the medians of the first and of the last third of what was seen once it was warm."""
    warm = values[int(len(values) * WARMING_SHARE) :] or [0.0]
    third = max(1, len(warm) // 3)
    return statistics.median(warm[:third]), statistics.median(warm[-third:])


def has_grown(measure: Measure, values: list[float]) -> bool:
    before, after = compared(values)
    return after > before * (1 + measure.share) + measure.tolerance
