"""The model: from a demand and the costs of one of everything to how many of everything it takes.

All pages are asked for equally often, which is the worst case for every cache: real demand is uneven, and
what is asked for most is fresh, and in copies, most of the time. CPU adds up; nothing waits for anything.
"""

import math
from dataclasses import dataclass, replace

from bench.capacity.costs import PAGE, Costs

UTILISATION = 0.7  # of a core: beyond, queues grow faster than the load
US = 1e6
ROUNDS = 200


@dataclass(frozen=True)
class Demand:
    """What is asked of the store, and what has been changed about it."""

    requests_a_second: float
    products: int
    hit_ratio: float  # of reads, over Redis and the copies of processes, if writes leave it that
    writes_a_second: float = 0.01
    copies: bool = True  # LOCAL_CACHE
    by_key: bool = False  # Pages begin behind an id instead of at an offset.
    shards: int = 1  # families, each with a generation and a Redis of its own
    cdn_share: float = 0.0  # of requests that never reach the store

    @property
    def pages(self) -> int:
        return math.ceil(self.products / PAGE)

    @property
    def arriving(self) -> float:
        """Requests a second that reach the store."""
        return self.requests_a_second * (1 - self.cdn_share)


@dataclass(frozen=True)
class Estimate:
    """How much of everything a demand takes; cores are busy ones, and bytes are a second's."""

    demand: Demand
    copy_hits: float  # a second, as the next three
    redis_hits: float
    fills: float
    processes: float  # inf: more of them would only hear of more
    web_cores: float
    web_bytes: float
    redis_cores: float  # of all shards together, as the next four
    redis_memory_bytes: float
    redis_sent_bytes: float
    redis_connections: float
    database_cores: float
    database_connections: float
    sent_bytes: float  # to clients
    changes_a_second: float  # of each entry, by writes and by its expiry
    bearable_changes: float  # with which the hit ratio that is asked for can be had
    hit_ratio: float  # that is had, and that all of this is worked out from
    slots: float  # that keep pages out of each other's way


def estimate(demand: Demand, costs: Costs) -> Estimate:
    """Work out the whole demand; with copies, each process more makes those of all others less useful."""
    lifetime_seconds = costs.ttl_seconds
    changes = demand.writes_a_second / demand.shards + 1 / lifetime_seconds
    hit_ratio = min(demand.hit_ratio, 1 - lost(demand.arriving / demand.pages / changes))
    hits, fills = hit_ratio * demand.arriving, (1 - hit_ratio) * demand.arriving
    overhead = _of_listening(demand, costs, fills) if demand.copies else 0.0
    processes, copy_hits = _processes(demand, costs, overhead, hits, fills, 0.0), 0.0
    if demand.copies and processes < math.inf:
        # From no copies at all downwards, so that of several answers the largest is found.
        for _ in range(ROUNDS):
            copy_hits = min(hits, _copy_hits(demand, costs, processes, changes))
            processes = _processes(demand, costs, overhead, hits, fills, copy_hits)
    redis_hits = hits - copy_hits
    return Estimate(
        demand,
        copy_hits,
        redis_hits,
        fills,
        processes,
        web_cores=processes * UTILISATION,
        web_bytes=processes * (costs.process_bytes + costs.copies_bytes * demand.copies),
        redis_cores=_redis(demand, costs, redis_hits, fills, processes, "redis_us") / US,
        redis_memory_bytes=costs.entry_bytes * math.ceil(demand.hit_ratio * demand.pages),
        redis_sent_bytes=_redis(demand, costs, redis_hits, fills, processes, "redis_bytes"),
        redis_connections=demand.shards * processes * costs.redis_connections,
        database_cores=_database_us(demand, costs, fills) / US,
        database_connections=processes * costs.database_connections,
        sent_bytes=copy_hits * costs.gzip_bytes + (redis_hits + fills) * costs.page_bytes,
        changes_a_second=changes,
        bearable_changes=_bearable_changes(demand),
        hit_ratio=hit_ratio,
        slots=_quotient(demand.pages, mean_rate(demand.hit_ratio)),
    )


def cheapest(demand: Demand, costs: Costs) -> Estimate:
    """Estimate with copies in processes or without, whichever takes fewer processes."""
    both = [estimate(replace(demand, copies=copies), costs) for copies in (True, False)]
    return min(both, key=lambda one: one.processes)


def fills_to_hear_of(costs: Costs) -> float:
    """Return how many fills a second leave a process that keeps copies no time for anything else."""
    return (UTILISATION * US - costs.listening.web_us) / costs.hearing.web_us


def lost(rate: float) -> float:
    """Return which part of requests comes first in its turn, of `rate` requests in a turn on average."""
    return -math.expm1(-rate) / rate if rate > 0 else 1.0


def mean_rate(part: float) -> float:
    """Return the rate at which `lost` is `part`: between 0 and 1, the lower the higher."""
    if part <= 0:
        return math.inf
    if part >= 1:
        return 0.0
    low, high = 0.0, 1.0
    while lost(high) > part:
        high *= 2
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if lost(middle) > part else (low, middle)
    return high


def _bearable_changes(demand: Demand) -> float:
    """Return how often an entry may change if (1 - hit ratio) of its requests are to be the first."""
    return _quotient(demand.arriving / demand.pages, mean_rate(1 - demand.hit_ratio))


def _quotient(dividend: float, divisor: float) -> float:
    return dividend / divisor if divisor > 0 else math.inf


def _copy_hits(demand: Demand, costs: Costs, processes: float, changes: float) -> float:
    kept = min(1.0, costs.copies_bytes // costs.page_bytes / demand.pages)
    in_each = demand.arriving / processes / demand.pages / changes if processes else 0.0
    return demand.arriving * kept * (1 - lost(in_each))


def _processes(
    demand: Demand, costs: Costs, overhead: float, hits: float, fills: float, copy_hits: float
) -> float:
    busy_us = (
        copy_hits * costs.copy_hit.web_us
        + (hits - copy_hits) * costs.redis_hit.web_us
        + fills * costs.fill.web_us
        + demand.writes_a_second * costs.write.web_us
    )
    room = UTILISATION - overhead
    return busy_us / US / room if room > 0 else math.inf


def _of_listening(demand: Demand, costs: Costs, fills: float) -> float:
    """Return the part of a core that each process spends on hearing of what all others store."""
    heard = fills + demand.writes_a_second
    return (costs.listening.web_us * demand.shards + heard * costs.hearing.web_us) / US


def _redis(
    demand: Demand, costs: Costs, hits: float, fills: float, processes: float, what: str
) -> float:
    writes = demand.writes_a_second
    of_requests = (
        hits * getattr(costs.redis_hit, what)
        + fills * getattr(costs.fill, what)
        + writes * getattr(costs.write, what)
    )
    if not demand.copies:
        return of_requests
    listening = demand.shards * getattr(costs.listening, what)
    return of_requests + processes * (listening + (fills + writes) * getattr(costs.hearing, what))


def _database_us(demand: Demand, costs: Costs, fills: float) -> float:
    rows_before = 0.0 if demand.by_key else demand.products / 2
    a_fill = costs.fill.database_us + costs.offset_row_us * rows_before
    return fills * a_fill + demand.writes_a_second * costs.write.database_us
