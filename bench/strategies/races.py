"""Reads beside writers and evictions, and whether each shows what had been acknowledged before it."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from threading import Event, Thread

from redis import Redis

from bench.strategies import crowds
from bench.strategies.crowds import Asked
from bench.strategies.processes import Server, Writer

WRITERS = READERS = 4
EVICT_EVERY_SECONDS = 0.2

Write = tuple[int, int, float]  # the id of a product, its new price, when that was acknowledged


@dataclass(frozen=True)
class Verdict:
    """How many of the reads were broken or stale, and how long ago what those lack was acknowledged."""

    reads: int
    broken: int
    stale: int
    stalest_ms: float


def race(
    server: Server, writer: Writer, redis: Redis, seconds: float
) -> tuple[list[Asked], list[Write]]:
    """Return all reads and all writes of some seconds, in which keys of `redis` vanish at random."""
    writer.tell("race", WRITERS, int(seconds * 1000))
    done = Event()
    evictor = Thread(target=_evict, args=(redis, done))
    evictor.start()
    try:
        asked = crowds.keep_asking(server, READERS, seconds)
        written = [(product, price, at) for product, price, at in writer.answer()]
    finally:
        done.set()
        evictor.join()
    return asked, written


def _evict(redis: Redis, done: Event) -> None:
    while not done.wait(EVICT_EVERY_SECONDS):
        if key := redis.randomkey():
            redis.delete(key)


def judge(
    asked: list[Asked], written: list[Write], prices_of: Callable[[Asked], dict[int, int]]
) -> Verdict:
    """Compare every read with what had been acknowledged before it began.

    The prices of a product only ever rise. `prices_of()` returns nothing for a broken answer.
    """
    by_product: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for product, price, acknowledged in sorted(written):
        by_product[product].append((price, acknowledged))
    lags = []
    broken = 0
    for one in asked:
        if not (shown := prices_of(one)):
            broken += 1
            continue
        lacking = [
            acknowledged
            for product, writes in by_product.items()
            for _, acknowledged in writes[bisect_right(writes, (shown[product], inf)) :][:1]
        ]
        lags += [one.began - oldest for oldest in sorted(lacking)[:1] if oldest < one.began]
    return Verdict(len(asked), broken, len(lags), max(lags, default=0.0) * 1000)
