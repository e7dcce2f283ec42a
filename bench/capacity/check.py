"""Holds the model against what `make bench` measured with one to four workers on one machine.

There the load's client, Redis and the workers share the cores, so that beyond as many workers as cores
the machine is the limit: what the client takes is learned from the bare gunicorn, which is not predicted.
"""

import re
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.capacity.costs import CostsError, Measured, cpu_ms, rates

BARE = "gunicorn"
CHECKED = ("tutorial", "store")
COMMANDS_OF_A_HIT = 2  # as Measured.hit has them
STEADY = 4 / 3  # Rounds that differ by more were disturbed, which no model foretells.


@dataclass(frozen=True)
class Check:
    """Requests a second of some sync workers, as the model has them and as they were."""

    name: str
    workers: int
    predicted: float
    rounds: list[float]

    @property
    def measured(self) -> float:
        return median(self.rounds)

    @property
    def is_steady(self) -> bool:
        return max(self.rounds) <= STEADY * min(self.rounds)

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def checks(results: dict[str, Any], measured: Measured) -> list[Check]:
    """Predict each row of several workers from the CPU of a request with one; raises CostsError."""
    cores = _cores(results)
    rows = {(row["row"]["name"], row["label"]): row for row in results["scaled"]}
    most = max(results["workers"])
    try:
        client_ms = cores * 1000 / median(rates(rows[BARE, f"{most} sync"])) - cpu_ms(results, BARE)
        return [
            Check(
                name,
                workers,
                _predict(results, measured, name, workers, cores, max(0.0, client_ms)),
                rates(rows[name, f"{workers} sync"]),
            )
            for name in CHECKED
            for workers in results["workers"]
        ]
    except KeyError as error:
        raise CostsError(f"results.json lacks {error}; `make bench` writes all of it") from error


def _predict(
    results: dict[str, Any],
    measured: Measured,
    name: str,
    workers: int,
    cores: int,
    client_ms: float,
) -> float:
    own_ms = cpu_ms(results, name)
    (row,) = [one for one in results["strategies"] if one["row"]["name"] == name]
    commands = row["turns"][0]["redis_commands"]
    redis_ms = commands * measured.hit.redis_us / COMMANDS_OF_A_HIT / 1000
    of_workers = workers * 1000 / own_ms
    of_machine = cores * 1000 / (own_ms + redis_ms + client_ms)
    return min(of_workers, of_machine)


def _cores(results: dict[str, Any]) -> int:
    machine = dict(results["circumstances"]["machine"])
    found = re.search(r"(\d+) cores", machine["Processor"])
    if not found:
        raise CostsError("results.json does not say how many cores the machine has")
    return int(found[1])
