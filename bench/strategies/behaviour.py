"""Observes what a row does when many ask at once, products change, entries vanish and Redis fails."""

import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from mirakuru import TCPExecutor
from redis import Redis

from bench.strategies import crowds, races
from bench.strategies.counters import begin_to_log_queries, logged_product_queries
from bench.strategies.crowds import Asked
from bench.strategies.processes import BenchError, Server, Writer
from bench.strategies.rounds import START_SECONDS, Step
from bench.strategies.rows import Row
from bench.strategies.site import Site

WORKERS, THREADS = 4, 8
CROWD = 100
RACE_TURNS = 2  # As rare things are looked for.
CLIENTS_IN_AN_OUTAGE = 4
WAYS_OF_CHANGING = ("save", "update", "outside")
# A change counts as seen when so many answers in a row show it, as processes may differ.
FRESH_IN_A_ROW = 20
SETTLE_SECONDS = 0.5
_prices = count(500_000)


@dataclass(frozen=True)
class Outage:
    statuses: dict[int, int]  # how many answers had which; NO_ANSWER for none
    p99_ms: float


@dataclass
class Behaviour:
    """What was seen of one row."""

    row: Row
    queries_of_a_crowd: int | None = None
    # From the commit to the last answer that does not show it; None: still old when watching ended.
    seen_after_seconds: dict[str, float | None] = field(default_factory=dict)
    watched_seconds: float = 0.0
    reads: int = 0
    stale: int = 0
    stalest_ms: float = (
        0.0  # how long before such a read what it does not show had been acknowledged
    )
    broken: int = 0
    refused: Outage | None = None
    hung: Outage | None = None
    is_pickled: bool | None = None  # None: nothing is kept in Redis


class Observation:
    """One row with a server of its own, on a Redis that may be broken."""

    def __init__(self, row: Row, products: int, ttl_seconds: int, seconds: float) -> None:
        self.found = Behaviour(row)
        self._row = row
        self._products = products
        self._ttl_seconds = ttl_seconds
        self._seconds = seconds

    def steps(self, site: Site, breakable: TCPExecutor) -> Iterator[Step]:
        name, seconds = self._row.name, self._seconds
        self._cleanup = site.cleanup.enter_context(ExitStack())
        yield Step(f"{name}: starting", 2 * START_SECONDS, partial(self._open, site, breakable))
        yield Step(f"{name}: {CROWD} at once", 2, self._watch_a_crowd)
        for way in WAYS_OF_CHANGING:
            step = partial(self._watch_a_change, way)
            yield Step(f"{name}: {way}", self._ttl_seconds / 2 + 1, step)
        yield Step(f"{name}: writers and evictions", RACE_TURNS * seconds, self._watch_a_race)
        yield Step(f"{name}: Redis refused", seconds + 2, partial(self._break, breakable))
        yield Step(f"{name}: Redis hung", seconds + 3, partial(self._hang, breakable))
        yield Step(f"{name}: ending", 1, self._cleanup.close)

    def _open(self, site: Site, breakable: TCPExecutor) -> None:
        redis_url = f"redis://127.0.0.1:{breakable.port}/0"
        place = site.place(self._products, redis_url, CACHE_TTL=str(self._ttl_seconds))
        options = ("--worker-class", "gthread", "--threads", str(THREADS))
        self._server = Server(self._row, place, WORKERS, options)
        self._cleanup.callback(self._server.close)
        self._writer = Writer(self._row, place)
        self._cleanup.callback(self._writer.close)
        self._redis = Redis.from_url(place.redis_url)
        self._server.wait_until_open()
        (self._first,) = self._writer.do("ids", 1)

    # --- Many at once -------------------------------------------------------------------------------

    def _watch_a_crowd(self) -> None:
        self._warm_up()
        self._redis.flushdb()
        time.sleep(SETTLE_SECONDS)
        begin_to_log_queries()
        answers = crowds.ask_at_once(self._server, CROWD)
        self.found.queries_of_a_crowd = logged_product_queries()
        if failed := [one for one in answers if not self._prices(one)]:
            raise BenchError(f"{self._row.name}: {len(failed)} of {CROWD} at once failed")

    # --- Changes ------------------------------------------------------------------------------------

    def _watch_a_change(self, way: str) -> None:
        """Note how long after a commit answers still show what was before it."""
        self._redis.flushdb()
        time.sleep(SETTLE_SECONDS)
        self._warm_up()
        if self._row.is_cached:
            self.found.is_pickled = self.found.is_pickled or self._holds_pickles()
        product, price = self._first, next(_prices)
        committed: float = self._writer.do(way, product, price)
        gives_up = committed + 2 * self._ttl_seconds + 1
        client, last_old, fresh = crowds.Client(self._server), committed, 0
        while fresh < FRESH_IN_A_ROW and time.monotonic() < gives_up:
            asked = client.ask()
            if self._prices(asked).get(product) == price:
                fresh += 1
            else:
                last_old, fresh = asked.ended, 0
        client.close()
        self.found.watched_seconds = gives_up - committed
        self.found.seen_after_seconds[way] = (
            last_old - committed if fresh == FRESH_IN_A_ROW else None
        )

    def _holds_pickles(self) -> bool:
        strings = [key for key in self._redis.scan_iter() if self._redis.type(key) == b"string"]
        values = [self._redis.get(key) or b"" for key in strings]
        return any(value.startswith(b"\x80") and value.endswith(b".") for value in values)

    # --- Writers and evictions ----------------------------------------------------------------------

    def _watch_a_race(self) -> None:
        """Compare every read with what had been acknowledged before it began."""
        self._warm_up()
        found = races.race(self._server, self._writer, self._redis, RACE_TURNS * self._seconds)
        verdict = races.judge(*found, self._prices)
        self.found.reads, self.found.broken = verdict.reads, verdict.broken
        self.found.stale, self.found.stalest_ms = verdict.stale, verdict.stalest_ms

    # --- Outages ------------------------------------------------------------------------------------

    def _break(self, breakable: TCPExecutor) -> None:
        self._warm_up()
        breakable.stop()
        self.found.refused = self._watch_an_outage()
        breakable.start()
        time.sleep(2 * SETTLE_SECONDS)

    def _hang(self, breakable: TCPExecutor) -> None:
        self._warm_up()
        process = breakable.process
        assert process
        process.send_signal(signal.SIGSTOP)
        try:
            self.found.hung = self._watch_an_outage()
        finally:
            process.send_signal(signal.SIGCONT)
            time.sleep(2 * SETTLE_SECONDS)

    def _watch_an_outage(self) -> Outage:
        asked = crowds.keep_asking(self._server, CLIENTS_IN_AN_OUTAGE, self._seconds)
        times = [one.milliseconds for one in asked]
        statuses = Counter(one.answer.status for one in asked)
        p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
        return Outage(dict(statuses.most_common()), p99)

    # --- All of them --------------------------------------------------------------------------------

    def _warm_up(self) -> None:
        crowds.ask_at_once(self._server, WORKERS * THREADS)
        crowds.keep_asking(self._server, WORKERS, SETTLE_SECONDS)

    def _prices(self, asked: Asked) -> dict[int, int]:
        """Return the prices of an answer; none if it is not the whole list."""
        if asked.answer.status not in (200, 201):
            return {}
        try:
            prices = asked.answer.prices()
        except ValueError:
            return {}
        return prices if len(prices) == self._products else {}
