"""Work out how many processes, servers and Gbit/s a load takes, and which limit is met first."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench import servers
from bench.capacity import report
from bench.capacity.check import checks
from bench.capacity.costs import MEASURED, RESULTS, CostsError, read, read_measured, read_results
from bench.capacity.model import Demand
from bench.strategies.load import MISSING, is_installed

WIDTH_OF_TABLES = 150  # for what is not a terminal, such as a file
FEWEST_ROUNDS = 10


def main() -> None:
    arguments = parse_arguments(sys.argv[1:])
    try:
        if arguments.measure:
            measure(arguments)
        work_out(arguments)
    except CostsError as error:
        sys.exit(str(error))


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.capacity", description=__doc__)
    parser.add_argument(
        "--rps",
        type=_rates,
        default="1000,100000,1000000",
        metavar="N,N,...",
        help="requests a second (%(default)s)",
    )
    parser.add_argument(
        "--products", type=_whole, default=10_000_000, metavar="N", help="(%(default)s)"
    )
    parser.add_argument(
        "--hit-ratio", type=_part, default=0.99, metavar="0..1", help="of reads (%(default)s)"
    )
    parser.add_argument(
        "--writes",
        type=_number,
        default=0.01,
        metavar="N",
        help="transactions that change products, a second (%(default)s)",
    )
    parser.add_argument("--output", type=Path, help="Markdown file to write as well")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what `make bench` wrote")
    parser.add_argument("--costs", type=Path, default=MEASURED, help="what --measure writes")
    parser.add_argument(
        "--measure", action="store_true", help="measure on this machine what --costs holds first"
    )
    parser.add_argument(
        "--rounds", type=_rounds, default=2_000, metavar="N", help="of --measure (%(default)s)"
    )
    parser.add_argument(
        "--turns", type=_whole, default=5, metavar="N", help="of load of --measure (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=_number, default=2, metavar="N", help="of each turn (%(default)s)"
    )
    return parser.parse_args(words)


def measure(arguments: argparse.Namespace) -> None:
    """Measure the costs and write them to where they are read from; raises CostsError."""
    if not is_installed():
        raise CostsError(MISSING)
    servers.start()
    from bench.capacity import measure as measuring  # The settings need the servers first.

    found = measuring.measure_all(arguments.rounds, arguments.turns, arguments.seconds)
    arguments.costs.parent.mkdir(parents=True, exist_ok=True)
    arguments.costs.write_text(json.dumps(found, indent=1) + "\n")


def work_out(arguments: argparse.Namespace) -> None:
    """Print the tables and, if it is asked for, write them; raises CostsError."""
    results = read_results(arguments.results)
    costs = read(arguments.results, arguments.costs)
    demands = [
        Demand(rate, arguments.products, arguments.hit_ratio, arguments.writes)
        for rate in arguments.rps
    ]
    checked = checks(costs, read_measured(arguments.costs))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_TABLES)
    for sentence in report.sentences(demands, costs):
        console.print(f"- {sentence}", highlight=False, soft_wrap=True)
    for table in report.tables(demands, costs, checked):
        console.print(table.for_terminal())
    if arguments.output:
        machine = results["circumstances"]["machine"]
        text = report.markdown(demands, costs, checked, machine, _command(arguments))
        arguments.output.write_text(text)
        console.print(f"Written to {arguments.output}")


def _command(arguments: argparse.Namespace) -> str:
    rates = ",".join(f"{rate:g}" if rate % 1 else f"{rate:.0f}" for rate in arguments.rps)
    return (
        f".venv/bin/python -m bench.capacity --rps {rates} --products {arguments.products} "
        f"--hit-ratio {arguments.hit_ratio:g} --writes {arguments.writes:g}"
    )


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 up')
    return int(text)


def _rounds(text: str) -> int:
    if _whole(text) < FEWEST_ROUNDS:
        raise argparse.ArgumentTypeError(f'"{text}" is fewer than {FEWEST_ROUNDS}')
    return int(text)


def _number(text: str, holds: Callable[[float], bool] = lambda value: value >= 0) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not holds(value):
        raise argparse.ArgumentTypeError(f'"{text}" is not a number from 0 up')
    return value


def _rates(text: str) -> list[float]:
    found = [_number(part) for part in text.split(",")]
    if 0 in found:
        raise argparse.ArgumentTypeError("0 requests a second take nothing; name a number above 0")
    return sorted(found)


def _part(text: str) -> float:
    try:
        return _number(text, lambda value: 0 <= value <= 1)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number from 0 to 1') from error


if __name__ == "__main__":
    main()
