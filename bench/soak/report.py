"""What a run found, as docs/scale/soak.md has it."""

import datetime
from collections import Counter
from dataclasses import dataclass

from bench.soak.faults import Episode
from bench.soak.growth import Measure, compared, has_grown

# On a busy machine, too, and with outages: a tenth of what two cores do.
LEAST_A_MINUTE = {"requests": 300, "reads": 200, "writes": 60, "imports and exports": 3}
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
    transfers: int
    unfinished: list[str]
    acknowledged: int
    reads: int
    late_seconds: list[float]
    ended: list[str]
    seen: dict[Measure, list[float]]

    @property
    def grown(self) -> list[str]:
        return [one.name for one, values in self.seen.items() if has_grown(one, values)]

    @property
    def missing(self) -> list[str]:
        """Return what there was too little of for anything to be said."""
        done = {
            "requests": sum(self.requests.values()),
            "reads": self.reads,
            "writes": self.acknowledged,
            "imports and exports": self.transfers,
        }
        return [
            f"{count:,} {name}: at least {least:,} were to be"
            for name, count in done.items()
            if count < (least := max(1, round(LEAST_A_MINUTE[name] * self.minutes)))
        ] + [f"{one.name}: never looked at" for one, values in self.seen.items() if not values]

    @property
    def complaints(self) -> list[str]:
        """Return all that must not be, as sentences."""
        return [
            *self.errors,
            *(f"not done: {one}" for one in self.unfinished),
            *(f"read {seconds:.3f} s late" for seconds in self.late_seconds),
            *(f"{name} has ended, which nothing was to end" for name in self.ended),
            *(f"{name} has grown" for name in self.grown),
            *self.missing,
        ]


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
        ("imports and exports accepted", f"{run.transfers:,}"),
        ("of them not done in the end", f"{len(run.unfinished):,}"),
        ("errors that no promise allows", f"{len(run.errors):,}"),
        ("prices acknowledged, and read to see how fresh", f"{run.acknowledged:,}; {run.reads:,}"),
        ("read later than allowed, with no outage to excuse it", f"{len(run.late_seconds):,}"),
    ]
    lines = [
        "# Soak",
        "",
        f"`make soak MINUTES={run.minutes:g}`, seed {run.seed}, {today}: two web hosts behind HAProxy,",
        "two workers, one Redis and one MariaDB, each in a network namespace of its own, under mixed",
        "load while something breaks every few seconds ([bench/soak/](../../bench/soak/)). What fails",
        "must be excused by what was broken just then; nothing excuses that the list of all products",
        "fails once it was seen to be cached while the database alone is away. The processes of one",
        "host, and one worker, are left alone: nothing but network, database and Redis breaks for them,",
        "so that each can be compared with itself.",
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
        "What must not grow: medians of the first and of the last third, once warm. Redis is empty after",
        "it was killed; keys without a lifetime are a generation, RQ's sets, and jobs that are to come.",
        "",
        "| what | first | last | from beginning to end |",
        "| :-- | --: | --: | :-- |",
        *(_row(one.name, values) for one, values in run.seen.items()),
        f"| requests a second | | | `{bars(run.rates)}` |",
        "",
        "; ".join(f"{name}: {value}" for name, value in machine) + ".",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, values: list[float]) -> str:
    before, after = compared(values)
    return f"| {name} | {before:,.0f} | {after:,.0f} | `{bars(values)}` |"
