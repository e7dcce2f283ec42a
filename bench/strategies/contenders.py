"""One row under one kind of load, and what its turns have measured."""

import statistics
from collections.abc import Hashable
from dataclasses import dataclass, field

from bench.strategies.processes import SYNC
from bench.strategies.rows import Row


@dataclass(frozen=True)
class Turn:
    """What one turn has measured; per request where a unit of time or a count does not say otherwise."""

    requests_a_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_ms: float
    redis_commands: float
    queries: float | None
    body_bytes: int
    rss_mb: float
    pss_mb: float


@dataclass
class Contender:
    """One row under one kind of load, and what its turns have measured."""

    row: Row
    products: int
    label: str = ""
    workers: int = 1
    options: tuple[str, ...] = SYNC
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    expects: int = 0  # products in an answer
    is_written: bool = False  # while it is loaded
    behind_proxy: bool = False
    turns: list[Turn] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.path or self.row.path

    @property
    def asks_with(self) -> dict[str, str]:
        return {"Accept": "application/json"} | self.headers

    @property
    def needs(self) -> Hashable:
        """Return what its processes depend on."""
        return self.row.name, self.products, self.workers, self.options, self.behind_proxy

    def median(self, figure: str) -> float | None:
        """Return the median of one figure over all turns; None for what cannot be counted."""
        values = [getattr(turn, figure) for turn in self.turns]
        return None if None in values else statistics.median(values)

    def range(self, figure: str) -> tuple[float, float]:
        values = [getattr(turn, figure) for turn in self.turns]
        return min(values), max(values)

    def times(self, other: "Contender", figure: str = "requests_a_second") -> float:
        """Return how many times the figure of `other` this one has: the median of each round's own."""
        pairs = zip(self.turns, other.turns, strict=True)
        return statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs)
