"""Makes all measurements in rounds; in each, every number of products has its turn."""

from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.progress import track

from bench.cache_costs import catalogues, compression, requests, writes
from bench.cache_costs.figures import Figures, ListFigures
from bench.cache_costs.requests import MeasurementError

__all__ = ["MeasurementError", "measure"]

WARM_UP_ROUNDS = 2

Step = Callable[[], object]


def measure(products: list[int], rounds: int, rows: int) -> Figures:
    """Measure lists of each number of `products`, and transactions that write `rows` rows.

    Uses the servers that the settings name as its own, and shows a progress bar. Raises
    MeasurementError.
    """
    figures = Figures([ListFigures(count) for count in products])
    steps: list[Step] = [
        *(partial(_make_catalogue, one) for one in figures.lists),
        *_rounds(figures.lists, rounds),
        *(partial(_look_once, one) for one in figures.lists),
        partial(_write, figures, rows),
    ]
    for step in track(steps, "Measuring", console=Console(stderr=True)):
        step()
    return figures


def _make_catalogue(one: ListFigures) -> None:
    catalogues.make_catalogue(str(one.products), one.products)


def _rounds(lists: list[ListFigures], rounds: int) -> list[Step]:
    steps: list[Step] = []
    for number in range(WARM_UP_ROUNDS + rounds):
        first = number % len(lists)  # Nobody is always measured in the wake of the longest list.
        turn = _warm_up if number < WARM_UP_ROUNDS else _take_turn
        steps += [partial(turn, one) for one in lists[first:] + lists[:first]]
    return steps


def _warm_up(one: ListFigures) -> None:
    _take_turn(ListFigures(one.products))


def _take_turn(one: ListFigures) -> None:
    one.requests.append(requests.request_times(str(one.products)))
    one.compression.append(compression.compression_times(str(one.products)))


def _look_once(one: ListFigures) -> None:
    """Measure what is the same each time."""
    one.traffic = requests.request_traffic(str(one.products))
    one.memory = requests.memory(str(one.products))


def _write(figures: Figures, rows: int) -> None:
    figures.writes = writes.write_traffic(rows)
