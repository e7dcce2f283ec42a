"""Says in words what the figures show; made from them, so that it is true of each run."""

from collections.abc import Callable, Iterable

from bench.cache_costs.figures import AS_IS, CompressionTimes, Figures


def sentences(figures: Figures) -> list[str]:
    """Return what the figures show, in sentences."""
    return [_hits(figures), _invalidations(figures), _live_entry(figures), _stale_copy(figures)]


def _hits(figures: Figures) -> str:
    trips = max(one.traffic["a hit"].round_trips for one in figures.lists)
    medians = [one.request_medians() for one in figures.lists]
    gains = listed(f"{one.uncached / one.hit:.1f}" for one in medians)
    losses = listed(f"{one.miss / one.uncached:.1f}" for one in medians)
    return (
        f"A hit takes {_round_trips(trips)}. With {_sizes(figures)} products, reading the list without "
        f"a cache takes {gains} times as long as a hit, and "
        f"a miss takes {losses} times as long as that reading."
    )


def _invalidations(figures: Figures) -> str:
    times = listed(number(one.request_medians().invalidation) for one in figures.lists)
    most = max(traffic.round_trips for traffic in figures.writes.values())
    return (
        f"With {_sizes(figures)} products, an invalidation takes {times} microseconds; it adds at most "
        f"{_round_trips(most)} to any of the transactions below."
    )


def _live_entry(figures: Figures) -> str:
    slower = [_ratio(one.compression_medians(), lambda form: form.hit) for one in figures.lists]
    told = (
        f"With {_sizes(figures)} products, the fetch of a hit would take "
        f"{listed(f'{ratio:.1f}' for ratio in slower)} times as long from an entry compressed at level 1"
    )
    if min(slower) > 1:
        speeds = [_pays_below(one.compression_medians()) for one in figures.lists]
        return (
            f"{told}: the live entry is better left as it is, with Redis this near. Over a network of "
            f"less than {_range(speeds, ',.0f')} Mbit/s compressing it would make hits faster."
        )
    if max(slower) <= 1:
        return f"{told}: compressing the live entry would pay."
    return f"{told}: whether compressing the live entry pays depends on the length of the list."


def _stale_copy(figures: Figures) -> str:
    forms = [one.compression_medians() for one in figures.lists]
    sizes = [one[1].size_bytes / one[AS_IS].size_bytes for one in forms]
    shares = [
        form[1].compress / one.request_medians().miss
        for form, one in zip(forms, figures.lists, strict=True)
    ]
    smaller = [one[6].size_bytes / one[1].size_bytes for one in forms]
    longer = [one[6].compress / one[1].compress for one in forms]
    return (
        "The stale copy is written at each miss and read only while the database is down. Compressed at "
        f"level 1 it has {_range(sizes, '.0%')} of the list's bytes, for {_range(shares, '.0%')} of the "
        f"time of a miss. Level 6 would leave {_range(smaller, '.0%')} of level 1's bytes, for "
        f"{_range(longer, '.1f')} times its time."
    )


def _pays_below(forms: dict[int, CompressionTimes]) -> float:
    return forms[1].pays_below_mbit_a_second(forms[AS_IS]) or 0.0


def _ratio(
    forms: dict[int, CompressionTimes], figure: Callable[[CompressionTimes], float]
) -> float:
    return figure(forms[1]) / figure(forms[AS_IS])


def _sizes(figures: Figures) -> str:
    return listed(f"{one.products:,}" for one in figures.lists)


def listed(items: Iterable[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def _range(values: list[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _round_trips(count: int) -> str:
    return "1 round trip" if count == 1 else f"{count} round trips"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
