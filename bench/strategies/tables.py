"""Lays out the figures as tables."""

from collections.abc import Callable, Iterable

from bench.cache_costs.report import Table
from bench.strategies.aims import aims
from bench.strategies.behaviour import CROWD, THREADS, WORKERS, Behaviour, Outage
from bench.strategies.contenders import Contender
from bench.strategies.crowds import NO_ANSWER
from bench.strategies.races import WRITERS
from bench.strategies.rows import BARE, NAMES, USUAL
from bench.strategies.sections import Plan

AT_ONCE = "at once"
NOTHING = "-"  # What does not apply or could not be counted.


def tables(plan: Plan) -> list[Table]:
    """Return all tables that have rows, in the order of reading."""
    made = (
        speed(plan),
        behaviour(plan),
        _aims(plan),
        _spread("As lists grow", _GROWTH, "products", _growing(plan)),
        _spread("While products change", _WRITES, "load", plan.written),
        _spread("Compressed answers", _GZIP, "body", plan.compressed),
        _spread("More workers", _WORKERS, "gunicorn's workers", plan.scaled),
        _spread(f"Pages of {plan.pages:,} products", _PAGES, "page", plan.paged),
        _page_costs(plan),
    )
    return [table for table in made if table.rows]


def speed(plan: Plan, *, short: bool = False) -> Table:
    """Return the table of all strategies; the `short` one is for the README."""
    by_name = {one.row.name: one for one in plan.strategies}
    columns: list[tuple[str, Callable[[Contender], str]]] = [
        ("strategy", lambda one: f"`{one.row.name}`"),
        ("requests a second", _rate),
        (f"times {USUAL}", lambda one: _times(one, by_name.get(USUAL))),
        (f"of {BARE}", lambda one: _times(one, by_name.get(BARE))),
        ("p50, ms", lambda one: _ms(one, "p50_ms")),
        ("p99, ms", lambda one: _ms(one, "p99_ms")),
        ("p99.9, ms", lambda one: _ms(one, "p999_ms")),
        ("CPU ms", lambda one: f"{one.median('cpu_ms'):.3f}"),
        ("Redis commands", lambda one: _count(one, "redis_commands")),
        ("queries", lambda one: _count(one, "queries")),
        ("bytes", lambda one: f"{one.median('body_bytes'):,.0f}"),
    ]
    if short:
        columns = [one for one in columns if one[0] not in ("p50, ms", "p99.9, ms", "bytes")]
    note = "In brackets the slowest and the quickest round. CPU, commands and queries are of one request."
    headings, cells = zip(*columns, strict=True)
    rows = [tuple(cell(one) for cell in cells) for one in plan.strategies]
    return Table("Requests a second", note, headings, rows)


def behaviour(plan: Plan) -> Table:
    """Return what was seen of each strategy when it matters."""
    rows = [
        (
            f"`{one.row.name}`",
            _or_nothing(one.queries_of_a_crowd),
            *(_seen(one, way) for way in ("save", "update", "outside")),
            _share(one),
            f"{one.broken:,}",
            _outage(one.refused),
            _outage(one.hung),
            NOTHING if one.is_pickled is None else "yes" if one.is_pickled else "no",
        )
        for one in plan.behaviours
    ]
    note = (
        f"{WORKERS} workers of {THREADS} threads; entries live {plan.ttl_seconds} s. Queries: of {CROWD} "
        "requests at once on a cold entry.\nStale and broken: of reads beside "
        f"{WRITERS} writers and random evictions; a stale one lacks what had been acknowledged\nbefore, "
        "by how long at most. Refused and hung: statuses and p99 of those who ask meanwhile."
    )
    headings = ("strategy", "queries", "save() seen", "update() seen", "outside Django")
    headings += ("stale", "broken", "Redis refused, p99", "Redis hung, p99", "pickled")
    return Table("What happens", note, headings, rows)


_GROWTH = "One sync worker. Copying more bytes to the socket takes bare gunicorn longer, too."
_WRITES = "Percentiles are of all requests, not of hits alone. The writer is another process."
_GZIP = "CPU of a request for those who accept gzip and those who do not."
_WORKERS = "wrk takes a core of the same machine for itself. Memory is that of one worker."
_PAGES = (
    "`limit=100` with an offset, as the store's lists take it: any page can be asked for, and a hit "
    "costs the same\nwherever it is. Only who fills a page far behind pays for the rows before it."
)


def _growing(plan: Plan) -> list[Contender]:
    names = {one.row.name for one in plan.growth}
    shortest = [one for one in plan.strategies if one.row.name in names]
    return sorted(shortest + plan.growth, key=lambda one: NAMES.index(one.row.name))


def _spread(title: str, note: str, what: str, contenders: Iterable[Contender]) -> Table:
    rows = [
        (
            f"`{one.row.name}`",
            one.label or f"{one.products:,}",
            _rate(one),
            _ms(one, "p50_ms"),
            _ms(one, "p99_ms"),
            f"{one.median('cpu_ms'):.3f}",
            f"{one.median('body_bytes'):,.0f}",
            f"{one.median('rss_mb'):.0f} / {one.median('pss_mb'):.0f}",
        )
        for one in contenders
    ]
    headings = ("strategy", what, "requests a second", "p50, ms", "p99, ms", "CPU ms", "bytes")
    return Table(title, note, (*headings, "RSS / PSS, MB"), rows, text_columns=2)


def _aims(plan: Plan) -> Table:
    rows = [
        (one.what, one.aim, one.measured, "yes" if one.is_reached else "no") for one in aims(plan)
    ]
    note = "Ratios are medians of each round's own."
    return Table("What the store aims at", note, ("what", "aim", "measured", "reached"), rows, 3)


def _page_costs(plan: Plan) -> Table:
    rows = [
        (f"{one.offset:,}", f"{one.by_offset_ms:.2f}", f"{one.by_key_ms:.2f}")
        for one in plan.page_costs
    ]
    note = (
        "What the database takes for a page of 100 by `OFFSET` and by `WHERE id > ...`, which costs "
        "the same everywhere\nbut leads from one page to the next only. The best of seven."
    )
    return Table("Offset or key", note, ("products before", "offset, ms", "key, ms"), rows, 0)


# --- Cells ----------------------------------------------------------------------------------------


def _rate(one: Contender) -> str:
    low, high = one.range("requests_a_second")
    return f"{one.median('requests_a_second'):,.0f} ({low:,.0f}-{high:,.0f})"


def _times(one: Contender, other: Contender | None) -> str:
    return NOTHING if other is None else f"{one.times(other):.2f}"


def _ms(one: Contender, figure: str) -> str:
    return f"{one.median(figure):.2f}"


def _count(one: Contender, figure: str) -> str:
    value = one.median(figure)
    return NOTHING if value is None else f"{value:.2f}"


def _or_nothing(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def _seen(one: Behaviour, way: str) -> str:
    seconds = one.seen_after_seconds[way]
    if seconds is None:
        return f"not in {one.watched_seconds:.0f} s"
    return AT_ONCE if seconds == 0 else f"{seconds:.2g} s"


def _share(one: Behaviour) -> str:
    lag = f", up to {one.stalest_ms:,.1f} ms" if one.stale else ""
    return f"{one.stale:,} of {one.reads:,}{lag}"


def _outage(outage: Outage | None) -> str:
    if outage is None:
        return NOTHING
    total = sum(outage.statuses.values())
    shares = [
        f"{status if status != NO_ANSWER else 'no answer'}"
        + ("" if count == total else f" ({count / total:.0%})")
        for status, count in outage.statuses.items()
    ]
    return f"{', '.join(shares)}; {outage.p99_ms:,.0f} ms"
