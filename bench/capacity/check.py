"""Holds the model against what was measured with one to four workers on one machine.

There the client, Redis, the database and the workers share the cores, so that beyond as many workers as
cores the machine is the limit; what the client takes was measured with it and is not predicted.
"""

from dataclasses import dataclass
from statistics import median

from bench.capacity.costs import Costs, Measured, Rate
from bench.capacity.model import US, Demand, estimate

# Rounds that differ by more, or beside which others computed, were disturbed, which no model foretells.
STEADY = 4 / 3
OTHERS_CORES = 0.2
HALVINGS = 60


@dataclass(frozen=True)
class Check:
    """Requests a second of some workers, as the model has them and as they were."""

    hit_ratio: float
    workers: int
    predicted: float
    rounds: list[float]
    others_cores: float = 0.0

    @property
    def measured(self) -> float:
        return median(self.rounds)

    @property
    def is_steady(self) -> bool:
        is_quiet = self.others_cores <= OTHERS_CORES
        return is_quiet and max(self.rounds) <= STEADY * min(self.rounds)

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def checks(costs: Costs, measured: Measured) -> list[Check]:
    """Predict each rate that was measured."""
    return [
        Check(
            one.hit_ratio,
            one.workers,
            _predict(costs, one, measured.cores),
            one.rounds,
            one.others_cores,
        )
        for one in measured.rates
    ]


def _predict(costs: Costs, rate: Rate, cores: int) -> float:
    """Return the most requests a second for which, by the model, the workers and the machine suffice."""
    low, high = 0.0, cores * US  # No request takes less than a microsecond.
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _suffices(middle, costs, rate, cores) else (low, middle)
    return low


def _suffices(requests_a_second: float, costs: Costs, rate: Rate, cores: int) -> bool:
    # One page holds all hits, so that its changes cost none; each fill begins where its page does.
    demand = Demand(requests_a_second, 1, rate.hit_ratio, 0.0, copies=False, by_key=True)
    found = estimate(demand, costs)
    busy = found.web_cores + found.redis_cores + found.database_cores
    of_client = requests_a_second * rate.client_us / US
    return found.web_cores <= rate.workers and busy + of_client <= cores
