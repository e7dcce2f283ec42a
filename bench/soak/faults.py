"""What breaks: one thing at a time, for a few seconds, in an order that the seed determines.

A fault says what it excuses while it lasts and shortly after: a database that is down excuses a 503 of
what is not cached, a process that is killed the requests that it had begun with. Whatever else fails is
an error. The processes of the first host are left alone, so that they can be seen to grow.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from tests.scale.fleet import Fleet, JobWorker, WebHost

SETTLING_SECONDS = 6.0  # until connections are made anew, breakers closed and checks passed
TELLING_SECONDS = 0.5
DATABASE, REDIS, PROCESS = "database", "Redis", "process"


@dataclass
class Episode:
    """Something that broke; `ended_at` is when what it excuses is over.

    In between is when nobody could write, as the database was away for all.
    """

    name: str
    excuses: str | None
    began_at: float
    ended_at: float = float("inf")
    unwritten_from: float = float("inf")
    unwritten_until: float = float("-inf")

    def covers(self, began_at: float, ended_at: float) -> bool:
        """Say whether a request from `began_at` to `ended_at` may have met it."""
        return self.began_at <= ended_at and began_at <= self.ended_at


class Faults:
    """Breaks something every few seconds, in a thread, until it is told to end."""

    def __init__(
        self, fleet: Fleet, worker: JobWorker, seed: int, variables: Mapping[str, str]
    ) -> None:
        self.episodes: list[Episode] = []
        self._variables = variables
        self._fleet, self._worker = fleet, worker
        self._dice = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self._error: BaseException | None = None
        self._kinds: list[tuple[str, str | None, Callable[[float], None]]] = [
            ("Redis killed", REDIS, self._kill_redis),
            ("Redis hung", REDIS, self._hang_redis),
            ("MariaDB restarted", DATABASE, self._restart_mysql),
            ("MariaDB killed", DATABASE, self._kill_mysql),
            ("host cut off from Redis", REDIS, self._cut_from_redis),
            ("host cut off from MariaDB", DATABASE, self._cut_from_mysql),
            ("host replaced", None, self._replace_host),
            ("host reloaded", None, self._reload_host),
            ("web process killed", PROCESS, self._kill_web_process),
            ("worker killed", None, self._kill_worker),
        ]

    def __enter__(self) -> "Faults":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _go_on(self) -> None:
        try:
            while True:
                # Each comes up once before any comes up twice.
                for name, excuses, fault in self._dice.sample(self._kinds, len(self._kinds)):
                    if self._ended.wait(self._dice.uniform(4, 10)):
                        return
                    with self._episode(name, excuses):
                        fault(self._dice.uniform(1, 5))
        except BaseException as error:
            self._error = error

    @contextmanager
    def _episode(self, name: str, excuses: str | None) -> Iterator[None]:
        episode = Episode(name, excuses, time.monotonic())
        self.episodes.append(episode)
        print(f"{time.strftime('%X')} {name}", flush=True)
        yield
        episode.ended_at = time.monotonic() + SETTLING_SECONDS

    def _host(self) -> WebHost:
        return self._dice.choice(self._fleet.webs)

    @property
    def _other_host(self) -> WebHost:
        return self._dice.choice(self._fleet.webs[1:])

    def _kill_redis(self, seconds: float) -> None:
        self._fleet.redis_server.kill()
        time.sleep(seconds)
        self._fleet.redis_server.start()

    def _hang_redis(self, seconds: float) -> None:
        process = self._fleet.redis_server.process
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGCONT)

    def _restart_mysql(self, _seconds: float) -> None:
        self._fleet.mysql_server.stop()
        self._fleet.mysql_server.start()

    def _kill_mysql(self, seconds: float) -> None:
        self._fleet.mysql_server.kill()
        # What had been committed just before may be told of a moment later.
        self.episodes[-1].unwritten_from = time.monotonic() + TELLING_SECONDS
        time.sleep(seconds)
        self.episodes[-1].unwritten_until = time.monotonic()
        self._fleet.mysql_server.start()

    def _cut_from_redis(self, seconds: float) -> None:
        machine = self._host().machine
        machine.cut_off(self._fleet.redis_machine)
        time.sleep(seconds)
        machine.heal(self._fleet.redis_machine)

    def _cut_from_mysql(self, seconds: float) -> None:
        machine = self._host().machine
        machine.cut_off(self._fleet.mysql_machine)
        time.sleep(seconds)
        machine.heal(self._fleet.mysql_machine)

    def _replace_host(self, _seconds: float) -> None:
        host = self._other_host
        host.stop()
        host.start(**self._variables)
        time.sleep(2)  # until the balancer knows it again

    def _reload_host(self, seconds: float) -> None:
        process = self._other_host.process
        assert process
        process.send_signal(signal.SIGHUP)
        time.sleep(seconds)

    def _kill_web_process(self, _seconds: float) -> None:
        process = self._other_host.process
        assert process
        self._dice.choice(psutil.Process(process.pid).children()).kill()

    def _kill_worker(self, seconds: float) -> None:
        self._worker.kill()
        time.sleep(seconds)
        self._worker.start()
