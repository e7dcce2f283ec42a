"""Measure what the cache of the product list costs, and write docs/cache-costs.md.

It starts servers of its own, calls the store in process as the view does, and leaves nothing behind.
"""

import argparse
import datetime
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import servers
from bench.cache_costs import report

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "cache-costs.md"
FEWEST_ROWS = 2
WIDTH_OF_TABLES = 130  # for what is not a terminal, such as a file


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, _exit)  # So that the servers are stopped then, too.
    try:
        measure_and_report(arguments)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.cache_costs", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=15, help="how many (%(default)s)")
    parser.add_argument(
        "--products",
        type=_counts,
        default="234,2340,23400",
        metavar="N,N,...",
        help="lengths of the lists to measure (%(default)s)",
    )
    parser.add_argument(
        "--rows",
        type=_positive,
        default=10_000,
        help="rows of the large transactions (%(default)s)",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="Markdown file to write")
    arguments = parser.parse_args()
    if arguments.rows < FEWEST_ROWS:
        parser.error(f"--rows must be at least {FEWEST_ROWS}, not {arguments.rows}")
    if problem := _why_not_writable(arguments.output):
        parser.error(f"--output {arguments.output}: {problem}")
    return arguments


def measure_and_report(arguments: argparse.Namespace) -> None:
    servers.start()
    from bench.cache_costs import rounds  # The settings need the servers first.

    try:
        figures = rounds.measure(arguments.products, arguments.rounds, arguments.rows)
    except rounds.MeasurementError as error:
        sys.exit(f"The figures would be wrong: {error}. Is the machine very busy?")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_TABLES)
    for table in report.tables(figures):
        console.print(table.for_terminal())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = report.markdown(figures, servers.describe(), today, _command(arguments))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    console.print(f"Written to {arguments.output}")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 up')
    return int(text)


def _counts(text: str) -> list[int]:
    counts = [_positive(part.strip()) for part in text.split(",")]
    if len(set(counts)) < len(counts):
        raise argparse.ArgumentTypeError(f'"{text}" names a length twice')
    return counts


def _why_not_writable(output: Path) -> str | None:
    if output.is_dir():
        return "is a folder; name a file"
    nearest = output.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if nearest != output.absolute() and not nearest.is_dir():
        return f"{nearest} is not a folder"
    return None if os.access(nearest, os.W_OK) else f"{nearest} cannot be written to"


def _command(arguments: argparse.Namespace) -> str:
    products = ",".join(map(str, arguments.products))
    return (
        f".venv/bin/python -m bench.cache_costs --rounds {arguments.rounds} "
        f"--products {products} --rows {arguments.rows}"
    )


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
