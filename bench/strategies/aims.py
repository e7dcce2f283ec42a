"""What the store's own list is meant to reach, beside what was measured."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.strategies.contenders import Contender
from bench.strategies.rows import BARE, OURS, USUAL
from bench.strategies.sections import Plan


@dataclass(frozen=True)
class Aim:
    what: str
    aim: str
    measured: str
    is_reached: bool


def aims(plan: Plan) -> list[Aim]:
    """Return those aims for which there are figures."""
    return [*_speed(plan), *_growth(plan), *_writes(plan), *_compression(plan)]


def _speed(plan: Plan) -> Iterator[Aim]:
    pairs = (
        (OURS, USUAL, 10.0, "A hit of `store` against `tutorial`"),
        (OURS, BARE, 0.7, "A hit of `store` against bare `gunicorn`"),
        ("store-uncached", "uncached", 1.6, "`store-uncached` against `uncached`"),
    )
    by_name = {one.row.name: one for one in plan.strategies}
    for ours, other, least, what in pairs:
        if {ours, other} <= by_name.keys():
            found = by_name[ours].times(by_name[other])
            what = f"{what}, requests a second"
            yield Aim(what, f"at least {least:g} times", f"{found:.2f} times", found >= least)


def _growth(plan: Plan) -> Iterator[Aim]:
    """What the bare server takes longer for a longer list is what copying it to the socket takes."""
    by_length = (*plan.strategies, *plan.growth)
    ours, bare = ([one for one in by_length if one.row.name == name] for name in (OURS, BARE))
    if len(ours) > 1 and bare:
        found, least = (_cpu(of[-1]) / _cpu(of[0]) for of in (ours, bare))
        what = f"CPU of a hit, {ours[-1].products:,} products against {ours[0].products:,}"
        aim = f"no more than bare `gunicorn`'s {least:.1f} times"
        yield Aim(what, aim, f"{found:.1f} times", found <= least)


def _writes(plan: Plan) -> Iterator[Aim]:
    ours = [one for one in plan.written if one.row.name == OURS]
    if ours:
        quiet, written = ours
        found = written.times(quiet, "p99_ms")
        what = "p99 of `store` while a product changes every 100 ms, against nobody writing"
        yield Aim(what, "at most 3 times", f"{found:.2f} times", found <= 3)


def _compression(plan: Plan) -> Iterator[Aim]:
    if plan.compressed:
        plain, packed = plan.compressed
        cpu, size = packed.times(plain, "cpu_ms"), packed.times(plain, "body_bytes")
        yield Aim("CPU of a gzip hit", "at most 1.15 times", f"{cpu:.2f} times", cpu <= 1.15)
        yield Aim("bytes of a gzip hit", "at most a tenth", f"{size:.1%}", size <= 0.1)


def _cpu(contender: Contender) -> float:
    return contender.median("cpu_ms") or 1e-9
