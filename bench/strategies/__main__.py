"""Measure usual ways of caching a list in Django, beside the store's own; writes docs/bench/.

It starts servers of its own: MariaDB or MySQL, Redis, and gunicorn for each row. wrk asks.
"""

import argparse
import atexit
import datetime
import os
import signal
import sys
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bench import servers
from bench.strategies import load, rows
from bench.strategies.processes import ROOT, STOP_TIMEOUT_SECONDS, BenchError

OUTPUT = ROOT / "docs" / "bench"
WIDTH_OF_TABLES = 160  # for what is not a terminal, such as a file
REDIS_DATABASES = 500
BUSY_LOAD = 1.0


def main() -> None:
    arguments = parse_arguments()
    if not load.is_installed():
        sys.exit(load.MISSING)
    atexit.register(_end_children)  # First, so that it comes last.
    signal.signal(signal.SIGTERM, _exit)  # So that the servers are stopped then, too.
    try:
        measure_and_report(arguments)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BenchError as error:
        sys.exit(f"The figures would be wrong: {error}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.strategies", description=__doc__)
    add = parser.add_argument
    add("--products", type=_counts, default="234,2340,23400", metavar="N,N,...", help="%(default)s")
    add("--only", type=_names, default=rows.NAMES, metavar="NAME,...", help="; ".join(rows.NAMES))
    add("--seconds", type=_seconds, default=2.0, help="of each turn (%(default)s)")
    add("--rounds", type=_positive, default=5, help="how many (%(default)s)")
    add("--workers", type=_counts, default="1,2,4", metavar="N,N,...", help="%(default)s")
    add(
        "--pages",
        type=_count,
        default=100_000,
        help="products of the long list (%(default)s); 0: none",
    )
    add("--ttl", type=_positive, default=3, help="seconds, where changes are watched (%(default)s)")
    add("--output", type=Path, default=OUTPUT, help="folder to write into")
    add(
        "--readme",
        type=Path,
        help="file whose marked part is replaced (docs/benchmarks.md)",
    )
    arguments = parser.parse_args()
    if arguments.output.exists() and not arguments.output.is_dir():
        parser.error(f"--output {arguments.output} is not a folder")
    if arguments.readme and not arguments.readme.is_file():
        parser.error(f"--readme {arguments.readme} is not a file")
    if arguments.readme is None and arguments.output == OUTPUT:
        arguments.readme = ROOT / "docs/benchmarks.md"
    return arguments


def measure_and_report(arguments: argparse.Namespace) -> None:
    load_before = os.getloadavg()[0]
    if load_before > BUSY_LOAD:
        note = f"The machine is busy (load {load_before:.1f}); the figures will be worth little."
        print(note, file=sys.stderr)
    servers.start("--databases", str(REDIS_DATABASES))
    from bench.strategies import (
        documents,
        sections,
        site,
        tables,
    )  # The settings need servers first.

    plan = sections.Plan(
        names=arguments.only,
        products=arguments.products,
        workers=arguments.workers,
        pages=arguments.pages,
        ttl_seconds=arguments.ttl,
    )
    with ExitStack() as cleanup, _progress() as progress:
        ours = site.Site(cleanup, REDIS_DATABASES)
        steps = list(plan.steps(ours, arguments.rounds, arguments.seconds))
        task = progress.add_task("", total=sum(step.seconds for step in steps))
        for step in steps:
            progress.update(task, description=step.label)
            step.do()
            progress.advance(task, step.seconds)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_TABLES)
    for table in tables.tables(plan):
        console.print(table.for_terminal())
    circumstances = documents.Circumstances(
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        _command(arguments),
        [
            *servers.describe(),
            ("gunicorn", version("gunicorn")),
            ("Load before", f"{load_before:.1f}"),
        ],
        arguments.rounds,
        arguments.seconds,
    )
    documents.write(plan, circumstances, arguments.output, arguments.readme)
    console.print(f"Written to {arguments.output}")


def _progress() -> Progress:
    columns = (TextColumn("{task.description:32}"), BarColumn(), TaskProgressColumn())
    # The speed of the last minutes, as some parts take longer than they were thought to.
    return Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), speed_estimate_period=300
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number')
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 up')
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds from 0.1 to 3600')
    return seconds


def _counts(text: str) -> list[int]:
    counts = [_positive(part.strip()) for part in text.split(",")]
    if len(set(counts)) < len(counts):
        raise argparse.ArgumentTypeError(f'"{text}" names a number twice')
    return counts


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if unknown := [name for name in names if name not in rows.NAMES]:
        raise argparse.ArgumentTypeError(f'"{unknown[0]}" is none of {", ".join(rows.NAMES)}')
    return names


def _command(arguments: argparse.Namespace) -> str:
    products, workers = (
        ",".join(map(str, numbers)) for numbers in (arguments.products, arguments.workers)
    )
    only = "" if arguments.only == rows.NAMES else f" --only {','.join(arguments.only)}"
    return (
        f".venv/bin/python -m bench.strategies --products {products} --workers {workers} "
        f"--pages {arguments.pages}\\\n    --rounds {arguments.rounds} "
        f"--seconds {arguments.seconds:g} --ttl {arguments.ttl}{only}"
    )


def _end_children() -> None:
    """End what a signal came in the way of, between its start and its being known."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=STOP_TIMEOUT_SECONDS)[1]:
        process.kill()


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
