"""Turns of load, in which every contender of a section is measured, round by round."""

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count

from redis import Redis

from bench.strategies.contenders import Contender, Turn
from bench.strategies.counters import Counters
from bench.strategies.load import load
from bench.strategies.processes import Answer, BenchError, Place, Process, Server, Writer
from bench.strategies.proxy import Proxy
from bench.strategies.site import Site

WARM_UP_SECONDS = 0.3
START_SECONDS = 1.0  # roughly, for the time left
EVERY_MS = 100  # between two changes
_prices = count(2000)


@dataclass(frozen=True)
class Step:
    """A part of the run; `seconds` is about what it takes."""

    label: str
    seconds: float
    do: Callable[[], object]


def steps(parts: list[tuple[list[Contender], int]], site: Site, seconds: float) -> Iterator[Step]:
    """Yield what measures contenders, part by part, each for its number of rounds, on the same servers.

    The first of a round is another one each time, so that nobody is always in the wake of the same.
    """
    fleet = Fleet(site)
    for contenders, _ in parts:
        for one in contenders:
            yield Step(f"starting {one.row.name}", START_SECONDS, partial(fleet.start, one))
    for contenders, rounds in parts:
        for number in range(rounds):
            first = number % max(1, len(contenders))
            for one in contenders[first:] + contenders[:first]:
                take = partial(fleet.take_turn, one, seconds)
                yield Step(f"{one.row.name} {one.label}".strip(), seconds + 1, take)
    yield Step("ending servers", 1.0, fleet.close)


class Fleet:
    """The processes of some contenders: those of one row share its cache and who changes products."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._processes: list[Process] = []
        site.cleanup.callback(self.close)
        self._shared: dict[Hashable, tuple[Place, Writer | None]] = {}
        self._running: dict[Hashable, Running] = {}

    def start(self, contender: Contender) -> None:
        if contender.needs in self._running:
            return
        row, key = contender.row, (contender.row.name, contender.products)
        if key not in self._shared:
            place = self._site.place(contender.products)
            writer = Writer(row, place) if row.shows_products else None
            if writer:
                self._processes.append(writer)
            self._shared[key] = place, writer
        place, writer = self._shared[key]
        server = Server(row, place, contender.workers, contender.options)
        self._processes.append(server)
        running = Running(server.wait_until_open(), writer, place.redis_url)
        if contender.behind_proxy:
            proxy = Proxy(server.port)
            self._processes.append(proxy)
            running.url = proxy.url
        self._running[contender.needs] = running

    def close(self) -> None:
        for process in self._processes:
            process.stop()
        for process in self._processes:
            process.close()
        self._processes.clear()

    def take_turn(self, contender: Contender, seconds: float) -> None:
        contender.turns.append(self._running[contender.needs].turn(contender, seconds))


class Running:
    """A server, who changes its products, and the load that it is put under."""

    def __init__(self, server: Server, writer: Writer | None, redis_url: str) -> None:
        self.server = server
        self.url = server.url
        self.writer = writer
        self.redis_url = redis_url
        self.counters = Counters()

    def turn(self, contender: Contender, seconds: float) -> Turn:
        """Load the server for `seconds`; raises BenchError if an answer before or after is wrong."""
        body = self._warm_up(contender)
        if contender.is_written and self.writer:
            self.writer.tell("steady", EVERY_MS, int(seconds * 1000))
        commands, queries = self.counters.redis_commands(), self.counters.queries()
        cpu = self.server.cpu_seconds()
        loaded = load(self.url + contender.address, seconds, contender.asks_with)
        cpu = self.server.cpu_seconds() - cpu
        commands = self.counters.redis_commands() - commands
        after = self.counters.queries()
        asked = None if queries is None or after is None else after - queries - 1
        if contender.is_written and self.writer:
            self.writer.answer()
        self._ask(contender)
        return Turn(
            loaded.requests_a_second,
            loaded.p50_ms,
            loaded.p99_ms,
            loaded.p999_ms,
            cpu / loaded.requests * 1000,
            commands / loaded.requests,
            None if asked is None else asked / loaded.requests,
            len(body),
            *self.server.memory_mb(),
        )

    def _warm_up(self, contender: Contender) -> bytes:
        """Change a price, fill the cache, and see that the answers show it; return one's body."""
        fresh = None
        if self.writer:
            fresh = min(self._ask(contender).prices()), next(_prices)
            self.writer.do("save", *fresh)
            if not contender.row.sees_saves:
                with Redis.from_url(self.redis_url) as redis:
                    redis.flushdb()
        ends_at = time.monotonic() + WARM_UP_SECONDS * contender.workers
        answer = self._ask(contender)
        while time.monotonic() < ends_at:
            answer = self._ask(contender)
        if fresh and answer.prices()[fresh[0]] != fresh[1]:
            raise BenchError(f"{contender.row.name} shows an old price")
        return answer.body

    def _ask(self, contender: Contender) -> Answer:
        answer = self.server.get(contender.address, contender.asks_with)
        if answer.status not in (200, 201):
            raise BenchError(f"{contender.row.name} answers {answer.status}")
        found, expected = len(answer.prices()), contender.expects or contender.products
        if found != expected:
            raise BenchError(f"{contender.row.name} shows {found} products, not {expected}")
        return answer
