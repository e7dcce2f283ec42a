"""Measure ways of caching a whole answer, and write docs/view-caching.md's table.

The same page of 100 products as JSON from a plain view, through `cached_response` and through Django's
`cache_page`, and as an HTML table with and without `{% cache %}`. It starts servers of its own.
"""

import argparse
import datetime
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

from rich.console import Console
from rich.progress import track

from bench import servers
from bench.cache_costs.report import Table

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "view-caching.md"
MARK = "<!-- The table of `make bench-views` -->"
PRODUCTS = 234
CROWD = 20


@dataclass
class Way:
    """One way of answering, and what was measured of it."""

    name: str
    path: str
    seconds: list[float]
    queries_of_a_hit: int = 0
    queries_of_a_crowd: int = 0
    fresh_after_update: bool = False
    pickled: bool = False


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.views", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="how many (%(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="Markdown file to write into")
    arguments = parser.parse_args()
    servers.start()
    from bench import views_site  # The settings need the servers first.

    views_site.prepare(PRODUCTS)
    ways = [Way(name, path, []) for name, path in views_site.WAYS.items()]
    for way in ways:
        _observe(way, views_site)
    for _ in track(range(arguments.rounds), "Measuring", console=Console(stderr=True)):
        for way in ways:  # In turn, so that whatever else the machine does hits all alike.
            started = time.perf_counter()
            views_site.ask(way.path)
            way.seconds.append(time.perf_counter() - started)
    table = _table(ways, arguments.rounds)
    Console(width=None if sys.stdout.isatty() else 130).print(table.for_terminal())
    _write(arguments.output, table)


def _observe(way: Way, site: Any) -> None:
    """Note what does not depend on the machine: queries, freshness, pickles."""
    site.forget()
    way.queries_of_a_crowd = _queries_of_a_crowd(way.path, site)
    site.forget()
    site.ask(way.path)
    way.queries_of_a_hit = site.queries(lambda: site.ask(way.path))
    before = site.ask(way.path)
    site.change_prices()
    way.fresh_after_update = site.ask(way.path) != before
    way.pickled = site.has_pickles()


def _queries_of_a_crowd(path: str, site: Any) -> int:
    barrier = Barrier(CROWD)

    def ask(_: int) -> int:
        barrier.wait()
        return int(site.queries(lambda: site.ask(path)))

    with ThreadPoolExecutor(CROWD) as pool:
        return sum(pool.map(ask, range(CROWD)))


def _table(ways: list[Way], rounds: int) -> Table:
    plain = {"json": ways[0], "html": next(way for way in ways if "html" in way.path)}
    rows = []
    for way in ways:
        median = statistics.median(way.seconds)
        of = statistics.median(plain["html" if "html" in way.path else "json"].seconds)
        rows.append(
            (
                way.name,
                f"{median * 1000:.2f}",
                f"{of / median:.1f}",
                str(way.queries_of_a_hit),
                str(way.queries_of_a_crowd),
                "at once" if way.fresh_after_update else "when it expires",
                "yes" if way.pickled else "no",
            )
        )
    return Table(
        title="Ways of caching a page of 100 products",
        note=f"Median of {rounds} rounds, without the network; hits where there is a cache.",
        headings=(
            *("way", "ms", "times faster", "queries of a hit"),
            f"queries of {CROWD} at once on a cold entry",
            *("update() is seen", "pickled"),
        ),
        rows=rows,
    )


def _write(output: Path, table: Table) -> None:
    """Replace what stands between the two marks of the document."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = "; ".join(f"{name}: {value}" for name, value in servers.describe())
    body = "\n\n".join(table.as_markdown().split("\n\n")[1:])
    text = output.read_text() if output.exists() else f"{MARK}\n{MARK}\n"
    before, _, after = text.split(MARK)
    output.write_text(f"{before}{MARK}\n{body}\n\nMeasured on {today}: {machine}.\n{MARK}{after}")
    Console().print(f"Written to {output}")


if __name__ == "__main__":
    main()
