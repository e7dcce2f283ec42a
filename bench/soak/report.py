"""What a run found, as docs/scale/soak.md has it."""

import datetime
from collections import Counter
from dataclasses import dataclass

from bench.soak.faults import Episode
from bench.soak.growth import MEASURES, compared, has_grown

BARS = "▁▂▃▄▅▆▇█"
CHART_WIDTH = 60


@dataclass(frozen=True)
class Run:
    """All that is known of a run."""

    seed: int
    minutes: float
    requests: Counter[str]
    rates: list[float]
    episodes: list[Episode]
    excused: Counter[str]
    errors: list[str]
    transfers: Counter[str]
    acknowledged: int
    reads: int
    latest_seconds: float
    seen: dict[str, list[float]]

    @property
    def grown(self) -> list[str]:
        return [one.name for one in MEASURES if has_grown(one, self.seen[one.name])]

    @property
    def failed(self) -> bool:
        return bool(self.errors or self.grown)


def bars(values: list[float]) -> str:
    """Return a chart of one line, from 0 to the highest value."""
    step = max(1, -(-len(values) // CHART_WIDTH))
    means = [sum(part) / len(part) for part in _parts(values, step)]
    top = max(means, default=0) or 1
    return "".join(BARS[min(int(mean / top * len(BARS)), len(BARS) - 1)] for mean in means)


def _parts(values: list[float], step: int) -> list[list[float]]:
    return [values[start : start + step] for start in range(0, len(values), step)]


def markdown(run: Run, machine: list[tuple[str, str]]) -> str:
    kinds = Counter(episode.name for episode in run.episodes)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    facts = [
        ("requests", f"{sum(run.requests.values()):,}"),
        ("of them writes", f"{sum(run.requests.values()) - run.requests['GET']:,}"),
        ("imports and exports, all done", f"{sum(run.transfers.values()):,}"),
        ("errors that no promise allows", f"{len(run.errors):,}"),
        ("prices acknowledged, and read to see how fresh", f"{run.acknowledged:,}; {run.reads:,}"),
        ("read later than allowed, with no outage to excuse it", f"{_late(run):,}"),
    ]
    lines = [
        "# Soak",
        "",
        f"`make soak MINUTES={run.minutes:g}`, seed {run.seed}, {today}: two web hosts behind HAProxy,",
        "a worker, one Redis and one MariaDB, each in a network namespace of its own, under mixed load",
        "while something breaks every few seconds ([bench/soak/](../../bench/soak/)). Growth is judged",
        "once it is warm; what fails must be excused by what was broken just then.",
        "",
        "| what | how many |",
        "| :-- | --: |",
        *(f"| {name} | {value} |" for name, value in facts),
        "",
        "| what broke | times |",
        "| :-- | --: |",
        *(f"| {name} | {count} |" for name, count in sorted(kinds.items())),
        "",
        "| failed, and why it may | times |",
        "| :-- | --: |",
        *(f"| {name} | {count:,} |" for name, count in sorted(run.excused.items())),
        "",
        "What must not grow: medians of the first and of the last third, once warm.",
        "",
        "| what | first | last | from beginning to end |",
        "| :-- | --: | --: | :-- |",
        *(_row(one.name, run.seen[one.name]) for one in MEASURES),
        f"| requests a second | | | `{bars(run.rates)}` |",
        "",
        "; ".join(f"{name}: {value}" for name, value in machine) + ".",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, values: list[float]) -> str:
    before, after = compared(values)
    return f"| {name} | {before:,.0f} | {after:,.0f} | `{bars(values)}` |"


def _late(run: Run) -> int:
    return sum("late" in error for error in run.errors)
