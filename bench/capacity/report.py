"""Lays out what the model says: tables for the terminal, and docs/capacity.md."""

import math
from collections.abc import Iterable
from dataclasses import replace

from bench.cache_costs.report import Table
from bench.capacity.check import Check
from bench.capacity.costs import PAGE, Costs
from bench.capacity.limits import HOST_BYTES, HOST_CORES, LINK_BITS, NO_NUMBER, Limit, limits
from bench.capacity.model import (
    UTILISATION,
    Demand,
    Estimate,
    cheapest,
    estimate,
    fills_to_hear_of,
)

SHARDS = 16
WRITES = (0.0, 0.01, 0.1, 1.0, 10.0)
CDN_SHARE = 0.95


def tables(demands: list[Demand], costs: Costs, checked: list[Check]) -> list[Table]:
    """Return all tables, in the order of reading."""
    found = [cheapest(demand, costs) for demand in demands]
    return [
        _resources(found, costs),
        _limits(found, costs),
        _writes(demands, costs),
        _changes(demands[-1], costs),
        _checks(checked),
    ]


def sentences(demands: list[Demand], costs: Costs) -> list[str]:
    """Say for each demand which limit is met first, and what to change then."""
    return [_sentence(cheapest(demand, costs), costs) for demand in demands]


def _sentence(found: Estimate, costs: Costs) -> str:
    every = limits(found, costs)
    first = every[0]
    load = f"**{found.demand.requests_a_second:,.0f} requests a second**"
    if first.times <= 1:
        said = f"{load}: one of everything suffices; nearest to its limit: {_name(first)}."
    else:
        said = (
            f"{load}: met first: {_name(first)} ({first.needed} where one has "
            f"{first.had}). Then: {first.then}"
        )
    raised = [f"{one.name} to {one.needed}" for one in every if _is_to_be_raised(one)]
    return f"{said} To be raised: {'; '.join(raised)}." if raised else said


def _is_to_be_raised(limit: Limit) -> bool:
    return limit.is_a_setting and limit.times > 1


def _resources(found: list[Estimate], costs: Costs) -> Table:
    kinds = [
        ("Web processes", [_whole(one.processes) for one in found]),
        ("with copies (LOCAL_CACHE)", ["on" if one.demand.copies else "off" for one in found]),
        (f"Web hosts of {HOST_CORES} cores and {HOST_BYTES / 1e9:.0f} GB", [*map(_hosts, found)]),
        ("Redis primaries", [_whole(_redis_nodes(one, costs)) for one in found]),
        ("Redis memory, GB", [f"{one.redis_memory_bytes / 1e9:,.1f}" for one in found]),
        ("Database servers, if reads could be spread", [_whole(_databases(one)) for one in found]),
        ("To clients, Gbit/s", [f"{one.sent_bytes * 8 / 1e9:,.2f}" for one in found]),
        ("Hits of copies, a second", [f"{one.copy_hits:,.0f}" for one in found]),
        ("Hits of Redis, a second", [f"{one.redis_hits:,.0f}" for one in found]),
        ("Fills, a second", [f"{one.fills:,.0f}" for one in found]),
        (f"Hit ratio, of {found[0].demand.hit_ratio:g}", [f"{one.hit_ratio:.4f}" for one in found]),
    ]
    return Table(
        "What it takes",
        f"Cores are busy for {UTILISATION:.0%} of the time. Replicas and spares come on top. The last "
        "line is the hit ratio that\nwrites and expiries leave of the one asked for, and that all of "
        "this is worked out from.",
        ("Requests a second", *(f"{one.demand.requests_a_second:,.0f}" for one in found)),
        [(name, *cells) for name, cells in kinds],
    )


def _limits(found: list[Estimate], costs: Costs) -> Table:
    of_each = [{limit.name: limit for limit in limits(one, costs)} for one in found]
    order = [limit.name for limit in limits(found[-1], costs)]
    rows = [
        (
            name,
            " / ".join(dict.fromkeys(one[name].had for one in of_each)),
            *(f"{one[name].needed} ({_times(one[name])})" for one in of_each),
        )
        for name in order
    ]
    return Table(
        "What is met first",
        "What is needed of what there is one of, then of settings; in brackets how many times that is.",
        ("", "One has", *(f"{one.demand.requests_a_second:,.0f}/s needs" for one in found)),
        rows,
    )


def _writes(demands: list[Demand], costs: Costs) -> Table:
    return Table(
        "What writes leave of hits",
        f"The hit ratio that is to be had, of {demands[0].hit_ratio:g}, by the writes of all products a "
        f"second; in brackets with {SHARDS} families by\nkey, of which a write makes one old.",
        ("Writes a second", *(f"{one.requests_a_second:,.0f}/s" for one in demands)),
        [
            (
                f"{writes:g}",
                *(_left(replace(one, writes_a_second=writes), costs) for one in demands),
            )
            for writes in WRITES
        ],
    )


def _left(demand: Demand, costs: Costs) -> str:
    sharded = replace(demand, shards=SHARDS)
    return f"{estimate(demand, costs).hit_ratio:.2f} ({estimate(sharded, costs).hit_ratio:.2f})"


def _changes(demand: Demand, costs: Costs) -> Table:
    by_key = replace(demand, by_key=True)
    sharded = replace(by_key, shards=SHARDS)
    ways = [
        ("as the store is", estimate(demand, costs)),
        ("LOCAL_CACHE=off", estimate(replace(demand, copies=False), costs)),
        ("and key-set pages", estimate(replace(by_key, copies=False), costs)),
        (f"and {SHARDS} families by key", estimate(replace(sharded, copies=False), costs)),
        (
            f"and a CDN for {CDN_SHARE:.0%} of requests",
            cheapest(replace(sharded, cdn_share=CDN_SHARE), costs),
        ),
    ]
    return Table(
        f"What to change for {demand.requests_a_second:,.0f} requests a second",
        "Each line changes what those above it do, and this besides. Cores are busy ones.",
        ("", "Web processes", "Redis cores", "Database cores", "Gbit/s out", "Met first"),
        [(name, *_figures(one, limits(one, costs)[0])) for name, one in ways],
    )


def _figures(found: Estimate, first: Limit) -> tuple[str, ...]:
    return (
        _whole(found.processes),
        _cores(found.redis_cores),
        _cores(found.database_cores),
        f"{found.sent_bytes * 8 / 1e9:,.2f}",
        f"{_name(first)} ({_times(first)})",
    )


def _checks(checked: list[Check]) -> Table:
    return Table(
        "Predicted and measured",
        "Requests a second without copies, as the model has them and as `make bench-capacity` had them. "
        "Client, Redis,\ndatabase and workers share the cores of one machine there, so that more workers "
        "than cores gain little. In brackets\nthe slowest and the quickest round; disturbed is "
        "where they are far apart, or something else had the machine.",
        ("hit ratio", "workers", "predicted", "measured", "error"),
        [
            (
                f"{one.hit_ratio:g}",
                str(one.workers),
                f"{one.predicted:,.0f}",
                f"{one.measured:,.0f} ({min(one.rounds):,.0f}-{max(one.rounds):,.0f})",
                f"{one.error:+.0%}" + ("" if one.is_steady else " (disturbed)"),
            )
            for one in checked
        ],
    )


def markdown(
    demands: list[Demand],
    costs: Costs,
    checked: list[Check],
    machine: Iterable[tuple[str, str]],
    command: str,
) -> str:
    """Return the whole of docs/capacity.md."""
    first = demands[0]
    on = "; ".join(value for name, value in machine if name in ("Processor", "Cache", "Database"))
    parts = [
        "# What a load takes",
        f"Worked out, not measured, by\n\n```sh\n{command}\n```",
        f"for {first.products:,} products in pages of {PAGE}, a hit ratio of {first.hit_ratio:g} and "
        f"{first.writes_a_second:g} writes a second, from what one hit,\nfill, write and announcement "
        "costs: by `make bench`, and by `make bench-capacity`, which writes\n"
        "[scale/costs.json](scale/costs.json). `make capacity` writes this page anew, with whatever "
        f"figures are there.\nThese are of one small machine: {on}.",
        "\n".join(f"- {sentence}" for sentence in sentences(demands, costs)),
        *(table.as_markdown() for table in tables(demands, costs, checked)),
        "## What is assumed",
        "\n".join(f"- {sentence}" for sentence in _assumptions(costs, checked)),
    ]
    return "\n\n".join(parts) + "\n"


def _assumptions(costs: Costs, checked: list[Check]) -> list[str]:
    return [
        "All pages are asked for equally often. That is the worst case: what is asked for most is fresh, "
        "and in copies, most of the time, so the same hit ratio bears more writes.",
        "A miss is whoever comes first after an entry has changed, by a write or by its expiry. Where "
        "that leaves less than the hit ratio asked for, all is worked out from what is left.",
        "With LOCAL_CACHE=on every process hears of every fill of every other one, which alone takes all "
        f"of its time with {fills_to_hear_of(costs):,.0f} fills a second. Copies pay where fills are few "
        "and pages fit into LOCAL_CACHE_MAX_BYTES; the tables have them on where that takes fewer "
        "processes.",
        "A fill reads pages by offset, on average from the middle of the list; key-set pages begin "
        "behind an id, which costs the same everywhere.",
        f"A host has {HOST_CORES} cores, {HOST_BYTES / 1e9:.0f} GB and {LINK_BITS / 1e9:.0f} Gbit/s; "
        "clients take gzip, which the store sends for hits of copies alone. TLS, load balancers and "
        "replicas are not in it.",
        f"CPU adds up and nothing waits for anything. {_off_by(checked)} At sizes that nobody has tried "
        "here it may be off by more.",
    ]


def _off_by(checked: list[Check]) -> str:
    steady = [abs(one.error) for one in checked if one.is_steady]
    if not steady:
        return "The rounds above were too disturbed to say by how much the model is off."
    return (
        f"With one to four workers the model was off by {max(steady):.0%} at most, in the "
        f"{len(steady)} of {len(checked)} rows that were not disturbed."
    )


def _redis_nodes(found: Estimate, costs: Costs) -> float:
    """Return how many primaries the load and the pages need, if pages could be spread evenly."""
    named = {limit.name: limit.times for limit in limits(found, costs)}
    return found.demand.shards * max(
        1.0, *(times for name, times in named.items() if _is_of_one_redis(name))
    )


def _is_of_one_redis(name: str) -> bool:
    return name.startswith(("CPU of one Redis", "Line of one Redis", "Memory of one Redis"))


def _databases(found: Estimate) -> float:
    return max(1.0, found.database_cores / (HOST_CORES * UTILISATION))


def _hosts(found: Estimate) -> str:
    return _whole(max(found.processes / HOST_CORES, found.web_bytes / HOST_BYTES))


def _name(limit: Limit) -> str:
    return limit.name[0].lower() + limit.name[1:] if limit.name[1].islower() else limit.name


def _times(limit: Limit) -> str:
    if limit.times == math.inf:
        return "no end"
    return f"{limit.times:,.0f} times" if limit.times >= 10 else f"{limit.times:.2g} times"


def _whole(value: float) -> str:
    return f"{max(1, math.ceil(value)):,}" if value < math.inf else NO_NUMBER


def _cores(value: float) -> str:
    return f"{value:,.1f}" if value < math.inf else NO_NUMBER
