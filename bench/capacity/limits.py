"""What there is one of, how much of it a demand takes, and what to change when it does not suffice."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from bench.capacity.costs import ROOT, Costs
from bench.capacity.model import UTILISATION, Estimate
from store.keys import RESERVED_KEYS

# What is assumed of machines: nothing here was measured.
HOST_CORES = 16
HOST_BYTES = 64e9
LINK_BITS = 10e9
DATABASE_CONNECTIONS = 151  # MySQL's and MariaDB's default of max_connections
NO_NUMBER = "no number suffices"


@dataclass(frozen=True)
class Limit:
    """Something that there is one of, or a setting: what is needed of it, and what one has."""

    name: str
    needs: float
    has: float
    show: Callable[[float], str]
    then: str
    is_a_setting: bool = False

    @property
    def needed(self) -> str:
        return self.show(self.needs) if self.needs < math.inf else NO_NUMBER

    @property
    def had(self) -> str:
        return self.show(self.has) if self.has < math.inf else "any number"

    @property
    def times(self) -> float:
        return self.needs / self.has if self.has else math.inf


def limits(found: Estimate, costs: Costs) -> list[Limit]:
    """Return all limits: of what there is one of, then of settings, each with the scarcest first."""
    shards = found.demand.shards
    every = [
        Limit(
            "Changes of an entry, a second",
            found.changes_a_second,
            found.bearable_changes,
            _small,
            "a write makes all pages of its family old: a family for each part of the products, with a "
            "generation of its own (sharding by key); CACHE_TTL=none; a CDN with stale-while-revalidate.",
        ),
        Limit(
            "CACHE_MAX_VARIANTS",
            2 * found.slots + RESERVED_KEYS,
            costs.variants,
            _whole,
            "pages that share a slot put each other out. Only what is asked for takes memory.",
            is_a_setting=True,
        ),
        Limit(
            "CPU of one Redis, cores",
            found.redis_cores / shards,
            UTILISATION,
            _small,
            "LOCAL_CACHE=off if most of it is telling processes of fills, on if it is hits of few pages; "
            "then sharding by key.",
        ),
        Limit(
            "Line of one Redis, Gbit/s",
            found.redis_sent_bytes * 8 / 1e9 / shards,
            LINK_BITS / 1e9,
            _small,
            "as for its CPU.",
        ),
        Limit(
            "Memory of one Redis, GB",
            found.redis_memory_bytes / 1e9 / shards,
            HOST_BYTES / 1e9,
            _small,
            "sharding by key; until then the least used pages go, and the hit ratio falls.",
        ),
        Limit(
            "maxclients of one Redis",
            found.redis_connections / shards,
            _maxclients(),
            _whole,
            "fewer EVENTS_MAX_CLIENTS, and so threads, in most pods.",
            is_a_setting=True,
        ),
        Limit(
            "CPU of the database, cores",
            found.database_cores,
            HOST_CORES * UTILISATION,
            _small,
            "fills read the server that is written to, which is one, so key-set pages (id > the last) "
            "instead of an offset, then fewer fills.",
        ),
        Limit(
            "max_connections of the database",
            found.database_connections,
            DATABASE_CONNECTIONS,
            _whole,
            "fewer EVENTS_MAX_CLIENTS; ProxySQL, which shares connections.",
            is_a_setting=True,
        ),
        Limit(
            "Line to the clients, Gbit/s",
            found.sent_bytes * 8 / 1e9,
            LINK_BITS / 1e9,
            _small,
            "several load balancers behind one name; a CDN with stale-while-revalidate.",
        ),
    ]
    return sorted(every, key=lambda limit: (limit.is_a_setting, -limit.times))


def _maxclients() -> int:
    found = re.search(r"^maxclients (\d+)$", (ROOT / "redis.conf").read_text(), re.MULTILINE)
    assert found, "redis.conf says how many clients it takes"
    return int(found[1])


def _whole(value: float) -> str:
    return f"{math.ceil(value):,}"


def _small(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
