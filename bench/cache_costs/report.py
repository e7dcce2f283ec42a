"""Lays out the figures: tables for the terminal, and the Markdown file."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table as RichTable

from bench.cache_costs.figures import AS_IS, CompressionTimes, Figures, RequestTimes, Traffic
from bench.cache_costs.sentences import listed, number, sentences


@dataclass(frozen=True)
class Table:
    """A heading, a line of explanation, and cells; the first `text_columns` columns hold words."""

    title: str
    note: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    text_columns: int = 1

    def for_terminal(self) -> RichTable:
        table = RichTable(title=self.title, caption=self.note)
        for position, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if self._is_text(position) else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        rules = [":--" if self._is_text(at) else "--:" for at in range(len(self.headings))]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.headings, rules, *self.rows)]
        return "\n".join([f"## {self.title}", "", self.note, "", *lines])

    def _is_text(self, position: int) -> bool:
        return position < self.text_columns


def tables(figures: Figures) -> list[Table]:
    """Return all tables, in the order of reading."""
    return [
        _request_times(figures),
        _request_traffic(figures),
        _write_traffic(figures),
        _memory(figures),
        _compression(figures),
    ]


def markdown(figures: Figures, machine: Iterable[tuple[str, str]], date: str, command: str) -> str:
    """Return the whole report."""
    parts = [
        "# What the cache costs",
        f"Measured on {date}, on servers of the benchmark's own, with\n\n```sh\n{command}\n```",
        "\n".join(f"- {name}: {value}" for name, value in machine),
        "The products are the invented ones of `store/demo.py`, no two of them alike. In each round "
        "every number of products\nand every kind of request has its turn, so that whatever else the "
        "machine does hits all alike: trust ratios more\nthan single figures.\n"
        "Hits are those of Redis (`LOCAL_CACHE=off`): one on a process' own copy takes no round trip.",
        "## What follows",
        "\n".join(f"- {sentence}" for sentence in sentences(figures)),
        *(table.as_markdown() for table in tables(figures)),
    ]
    return "\n\n".join(parts) + "\n"


# --- Tables ---------------------------------------------------------------------------------------


def _request_times(figures: Figures) -> Table:
    kinds: list[Callable[[RequestTimes], float]] = [
        lambda one: one.hit,
        lambda one: one.miss,
        lambda one: one.miss_cache,
        lambda one: one.miss_load,
        lambda one: one.invalidation,
        lambda one: one.uncached,
    ]
    rows = [
        (f"{one.products:,}", *(_spread(map(kind, one.requests)) for kind in kinds))
        for one in figures.lists
    ]
    return Table(
        "Time of a request, in microseconds",
        f"Rounds: {len(figures.lists[0].requests)}; their median, in brackets the quickest and the "
        "slowest. What HTTP and the view add is not in it.\n"
        "A miss also compresses and stores the stale copy. An invalidation is one short command; it "
        "takes longer\nwhere a long list has just gone through the processor's caches.",
        (
            "Products",
            "Hit",
            "Miss",
            "of it the cache",
            "of it database and JSON",
            "Invalidation",
            "Without a cache",
        ),
        rows,
        text_columns=0,
    )


def _request_traffic(figures: Figures) -> Table:
    sizes: dict[tuple[str, int, str], list[int]] = {}
    for one in figures.lists:
        for kind, traffic in one.traffic.items():
            row = (kind, traffic.round_trips, _commands(traffic))
            sizes.setdefault(row, []).append(one.products)
    rows = [
        (kind, listed(f"{size:,}" for size in products), commands, str(round_trips))
        for (kind, round_trips, commands), products in sizes.items()
    ]
    return Table(
        "Round trips and commands of a request",
        "Commands as Redis counts them, those that scripts run included.",
        ("Request", "Products", "Commands", "Round trips"),
        rows,
        text_columns=3,
    )


def _write_traffic(figures: Figures) -> Table:
    rows = [
        (kind, _commands(traffic) or "none", str(traffic.round_trips))
        for kind, traffic in figures.writes.items()
    ]
    return Table(
        "What invalidation adds to a transaction",
        "All that the transaction makes of Redis, from its begin to its end.",
        ("Transaction", "Commands", "Round trips"),
        rows,
        text_columns=2,
    )


def _memory(figures: Figures) -> Table:
    rows = []
    for one in figures.lists:
        if one.memory:
            sizes = (one.memory.list_bytes, one.memory.entry_bytes, one.memory.stale_bytes)
            a_product = sum(sizes[1:]) / one.products
            rows.append((f"{one.products:,}", *(f"{size:,}" for size in sizes), f"{a_product:.0f}"))
    return Table(
        "Memory of an entry, in bytes",
        "MEMORY USAGE of the live entry and of the compressed copy that bridges an outage.",
        ("Products", "The list as JSON", "Entry", "Stale copy", "Both, for one product"),
        rows,
        text_columns=0,
    )


def _compression(figures: Figures) -> Table:
    rows = []
    for one in figures.lists:
        forms = one.compression_medians()
        for level, form in forms.items():
            times = (form.compress, form.store, form.fetch, form.decompress, form.hit)
            rows.append(
                (
                    f"{one.products:,}",
                    f"zlib, level {level}" if level != AS_IS else "as it is",
                    f"{form.size_bytes:,}",
                    *map(number, times),
                    _pays_below(forms[AS_IS], form) if level != AS_IS else "",
                )
            )
    return Table(
        "Whether compression pays, in microseconds",
        "A hit fetches and decompresses. The last column is the speed of the network to Redis below\n"
        "which a compressed entry would make hits faster, by arithmetic: here Redis is on the same "
        "machine.",
        (
            "Products",
            "Form",
            "Bytes",
            "Compress",
            "Store",
            "Fetch",
            "Decompress",
            "A hit",
            "Pays below, Mbit/s",
        ),
        rows,
        text_columns=2,
    )


def _pays_below(plain: CompressionTimes, packed: CompressionTimes) -> str:
    speed = packed.pays_below_mbit_a_second(plain)
    return "any" if speed is None else f"{speed:,.0f}"


def _commands(traffic: Traffic) -> str:
    return ", ".join(
        f"{calls} {name.replace('|', ' ')}" for name, calls in traffic.commands.items()
    )


def _spread(values: Iterable[float]) -> str:
    rounds = list(values)
    low, high = number(min(rounds)), number(max(rounds))
    return f"{number(statistics.median(rounds))} ({low}-{high})"
