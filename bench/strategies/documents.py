"""Writes what was measured: results.json, chart.svg, a README.md beside them, and the project's own."""

import dataclasses
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.strategies import tables
from bench.strategies.chart import chart
from bench.strategies.load import CONNECTIONS
from bench.strategies.rows import ROWS, named
from bench.strategies.sections import Plan

MARK = "<!-- The figures of `make bench` -->"

METHOD = """\
wrk asks over {} connections as fast as it is answered, {:g} s a turn. In each of {} rounds every row has
its turn, so that whatever else the machine does hits all alike: trust ratios more than single figures.
wrk, Redis and the database share the machine with the store. A connection asks again when it has been
answered, so a pause of the server delays few requests; wrk adds to the percentiles those that a constant
rate would have sent meanwhile. Before and after each turn an answer is checked:
its status, the number of products, and a price that was changed just before."""


@dataclass(frozen=True)
class Circumstances:
    """What the figures depend on."""

    date: str
    command: str
    machine: list[tuple[str, str]]
    rounds: int
    seconds: float

    def sentence(self) -> str:
        machine = "; ".join(f"{name}: {value}" for name, value in self.machine)
        return textwrap.fill(f"Measured on {self.date}: {machine}.", 105)


def write(plan: Plan, circumstances: Circumstances, folder: Path, readme: Path | None) -> None:
    """Write all files into `folder`, and between the marks of `readme` the short version."""
    folder.mkdir(parents=True, exist_ok=True)
    results = json.dumps(_results(plan, circumstances), indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(results + "\n")
    about = f"{plan.products[0]:,} products, one sync worker, {CONNECTIONS} connections"
    about += f"; {circumstances.date}"
    (folder / "chart.svg").write_text(chart(plan.strategies, about))
    (folder / "README.md").write_text(_report(plan, circumstances))
    if readme:
        before, _, after = readme.read_text().split(MARK)
        readme.write_text(f"{before}{MARK}\n{_short(plan, circumstances)}\n{MARK}{after}")


def _results(plan: Plan, circumstances: Circumstances) -> dict[str, Any]:
    found = {"circumstances": dataclasses.asdict(circumstances)} | dataclasses.asdict(plan)
    del found["names"]
    return found


def _report(plan: Plan, circumstances: Circumstances) -> str:
    machine = "\n".join(f"- {name}: {value}" for name, value in circumstances.machine)
    rows = named(plan.names, ROWS)
    parts = [
        "# Which way of caching",
        f"Measured on {circumstances.date}, on servers of the benchmark's own, with",
        f"```sh\n{circumstances.command}\n```",
        machine,
        METHOD.format(CONNECTIONS, circumstances.seconds, circumstances.rounds),
        "![Requests a second](chart.svg)",
        "\n".join(f"- `{row.name}`: {row.what}." for row in rows),
        *(table.as_markdown() for table in tables.tables(plan)),
    ]
    return "\n\n".join(parts) + "\n"


def _short(plan: Plan, circumstances: Circumstances) -> str:
    whole = (tables.speed(plan, short=True), tables.behaviour(plan))
    parts = [
        "![Requests a second, by way of caching](docs/bench/chart.svg)",
        *(table.as_markdown().replace("## ", "### ", 1) for table in whole if table.rows),
        circumstances.sentence(),
    ]
    return "\n\n".join(parts)
