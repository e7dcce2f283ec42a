"""What `make bench` found out, read from the file that it writes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from django.conf import settings

RESULTS = "docs/bench/results.json"
USUAL = "tutorial"  # What all others are compared with.
OURS = "store"


@dataclass(frozen=True)
class Outage:
    """How those were answered who asked while Redis was down."""

    all_answered: bool  # with a list, that is
    statuses: str
    p99_ms: float


@dataclass(frozen=True)
class Behaviour:
    """What was seen of a strategy when it matters; None: it was not seen for as long as was looked."""

    queries_of_a_crowd: int
    save_seconds: float | None
    update_seconds: float | None
    outside_seconds: float | None
    watched_seconds: float
    stale: int
    stalest_ms: float
    broken: int
    reads: int
    refused: Outage | None
    hung: Outage | None
    is_pickled: bool | None


@dataclass(frozen=True)
class Strategy:
    """A way of caching, and its medians over the rounds."""

    name: str
    requests_a_second: float
    share_of_quickest: float
    times_usual: float | None  # the median of each round's own
    p50_ms: float
    p99_ms: float
    queries: float
    redis_commands: float
    behaviour: Behaviour | None

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(OURS)

    @property
    def bar_length(self) -> str:
        return f"{self.share_of_quickest:.1%}"


@dataclass(frozen=True)
class Results:
    """The figures of one run, and what they depend on."""

    date: str
    command: str
    machine: list[tuple[str, str]]
    products: int
    ttl_seconds: int
    strategies: list[Strategy]

    def named(self, name: str) -> Strategy | None:
        return next((one for one in self.strategies if one.name == name), None)

    @property
    def ours(self) -> Strategy | None:
        return self.named(OURS)

    @property
    def usual(self) -> Strategy | None:
        return self.named(USUAL)


def read() -> Results | None:
    """Return the results, or None if there are none that can be read."""
    path: Path = settings.BASE_DIR / RESULTS
    try:
        return _results(json.loads(path.read_text()))
    except (OSError, ValueError, LookupError, TypeError):
        return None  # Written by another version, or never.


def _results(found: dict[str, Any]) -> Results:
    rates = {one["row"]["name"]: _figures(one, "requests_a_second") for one in found["strategies"]}
    behaviours = {one["row"]["name"]: _behaviour(one) for one in found["behaviours"]}
    circumstances = found["circumstances"]
    return Results(
        date=circumstances["date"],
        command=circumstances["command"],
        machine=[(name, value) for name, value in circumstances["machine"]],
        products=found["products"][0],
        ttl_seconds=found["ttl_seconds"],
        strategies=[_strategy(one, rates, behaviours) for one in found["strategies"]],
    )


def _strategy(
    found: dict[str, Any],
    rates: Mapping[str, list[float]],
    behaviours: Mapping[str, Behaviour],
) -> Strategy:
    name = found["row"]["name"]
    own, usual = rates[name], rates.get(USUAL)
    rate = median(own)
    return Strategy(
        name=name,
        requests_a_second=rate,
        share_of_quickest=rate / max(map(median, rates.values())),
        times_usual=median(a / b for a, b in zip(own, usual, strict=True)) if usual else None,
        p50_ms=median(_figures(found, "p50_ms")),
        p99_ms=median(_figures(found, "p99_ms")),
        queries=median(_figures(found, "queries")),
        redis_commands=median(_figures(found, "redis_commands")),
        behaviour=behaviours.get(name),
    )


def _figures(found: dict[str, Any], name: str) -> list[float]:
    return [turn[name] or 0.0 for turn in found["turns"]]


def _behaviour(found: dict[str, Any]) -> Behaviour:
    seen = found["seen_after_seconds"]
    same = ("watched_seconds", "stale", "stalest_ms", "broken", "reads", "is_pickled")
    return Behaviour(
        queries_of_a_crowd=found["queries_of_a_crowd"],
        save_seconds=seen["save"],
        update_seconds=seen["update"],
        outside_seconds=seen["outside"],
        refused=_outage(found["refused"]),
        hung=_outage(found["hung"]),
        **{name: found[name] for name in same},
    )


def _outage(found: dict[str, Any] | None) -> Outage | None:
    if found is None:
        return None
    statuses = found["statuses"]
    good = all(status in ("200", "201") for status in statuses)
    return Outage(good, ", ".join(statuses), found["p99_ms"])
