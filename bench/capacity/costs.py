"""What one of everything costs: from `make bench`, with HTTP around it, and the rest from measure.py."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "bench" / "results.json"
MEASURED = ROOT / "docs" / "scale" / "costs.json"
PAGE = 100  # products of a page, as `make bench` measures pages


class CostsError(Exception):
    """A file with costs cannot be used; the message says why, and which command writes it."""


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU that one of something takes, and bytes that Redis sends for it."""

    web_us: float
    redis_us: float
    database_us: float
    redis_bytes: float


@dataclass(frozen=True)
class Rate:
    """Requests a second, round by round, of a store without copies as it runs by default, over HTTP."""

    workers: int
    hit_ratio: float
    rounds: list[float]
    web_us: float  # of CPU for each request, of the store's processes
    client_us: float  # the same, of who asks
    others_cores: float  # that something else on the machine kept busy


@dataclass(frozen=True)
class Measured:
    """What measure.py finds out, for pages of PAGE products; hits are of Redis, costs without HTTP."""

    hit: Cost
    fill: Cost
    write: Cost
    listening: Cost  # of a process that keeps copies, a second
    hearing: Cost  # of the same for each fill of another process
    entry_bytes: int  # of Redis' memory, the stale copy included
    page_bytes: int
    redis_connections: int  # of a process, at most
    database_connections: int
    copies_bytes: int  # LOCAL_CACHE_MAX_BYTES
    variants: int  # CACHE_MAX_VARIANTS
    ttl_seconds: int
    cores: int  # of the machine on which `rates` were measured
    rates: list[Rate]


@dataclass(frozen=True)
class Costs:
    """What the model needs to know."""

    copy_hit: Cost
    redis_hit: Cost
    fill: Cost
    write: Cost
    listening: Cost
    hearing: Cost
    offset_row_us: float  # of the database, for each row that a page lies behind
    entry_bytes: int
    page_bytes: int
    gzip_bytes: float  # of a page, compressed, as only hits of copies are sent
    process_bytes: float  # of memory, without copies
    redis_connections: int
    database_connections: int
    copies_bytes: int
    variants: int
    ttl_seconds: int


def read(results: Path = RESULTS, measured: Path = MEASURED) -> Costs:
    """Put both files together; raises CostsError.

    A hit on a copy costs what `make bench` says of a page, and what threads add. A hit of Redis and a
    fill cost what they took one process over HTTP, and a write as much more than a hit as in process.
    """
    bench = read_results(results)
    found = read_measured(measured)
    try:
        threads_us = 1000 * max(0.0, _cpu_of_threads(bench) - _cpu_ms(_scaled(bench, "2 sync")))
        copy_us = 1000 * _cpu_ms(_row(bench["paged"], "store", "offset 0")) + threads_us
        pages = bench["page_costs"]
        behind = pages[-1]["offset"] - pages[0]["offset"]
        offset_ms = pages[-1]["by_offset_ms"] - pages[0]["by_offset_ms"]
        gzip, plain = (
            _medians(_row(bench["compressed"], "store", label), "body_bytes")
            for label in ("gzip", "as it is")
        )
        memory_mb = _medians(_scaled(bench, "2 with 4 threads"), "pss_mb")
    except (KeyError, IndexError) as error:
        raise CostsError(f"{results} lacks {error}; `make bench` writes all of it") from error

    hit_us, fill_us = (_of_one_worker(found.rates, hit_ratio) for hit_ratio in (1.0, 0.0))
    write_us = hit_us + max(0.0, found.write.web_us - found.hit.web_us)
    return Costs(
        copy_hit=Cost(copy_us, 0, 0, 0),
        redis_hit=replace(found.hit, web_us=hit_us),
        fill=replace(found.fill, web_us=fill_us),
        write=replace(found.write, web_us=write_us),
        listening=found.listening,
        hearing=found.hearing,
        offset_row_us=max(0.0, offset_ms * 1000 / max(1, behind)),
        entry_bytes=found.entry_bytes,
        page_bytes=found.page_bytes,
        gzip_bytes=found.page_bytes * gzip / plain,
        process_bytes=memory_mb * 1e6,
        redis_connections=found.redis_connections,
        database_connections=found.database_connections,
        copies_bytes=found.copies_bytes,
        variants=found.variants,
        ttl_seconds=found.ttl_seconds,
    )


def read_results(path: Path = RESULTS) -> dict[str, Any]:
    """Return what `make bench` has written; raises CostsError."""
    return _json(path, "make bench")


def read_measured(path: Path = MEASURED) -> Measured:
    """Return what measure.py has found out; raises CostsError."""
    command = "make bench-capacity"
    found = _json(path, command)
    try:
        kinds = ("hit", "fill", "write", "listening", "hearing")
        costs = {name: Cost(**found[name]) for name in kinds}
        rates = [Rate(**one) for one in found["rates"]]
        others = Measured.__dataclass_fields__.keys() - costs.keys() - {"rates"}
        return Measured(**costs, rates=rates, **{name: found[name] for name in others})
    except (KeyError, TypeError) as error:
        raise CostsError(f"{path} lacks {error}; `{command}` writes all of it") from error


def _of_one_worker(rates: list[Rate], hit_ratio: float) -> float:
    for one in rates:
        if (one.workers, one.hit_ratio) == (1, hit_ratio):
            return one.web_us
    raise CostsError(f"no rate of one worker with a hit ratio of {hit_ratio} has been measured")


def _json(path: Path, command: str) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CostsError(f"{path}: {error}; `{command}` writes it") from error


def _row(rows: list[dict[str, Any]], name: str, label: str = "") -> dict[str, Any]:
    for row in rows:
        if row["row"]["name"] == name and row["label"] == label:
            return row
    raise KeyError(f"{name} {label}".strip())


def _scaled(bench: dict[str, Any], label: str) -> dict[str, Any]:
    return _row(bench["scaled"], "store", label)


def _cpu_of_threads(bench: dict[str, Any]) -> float:
    return _cpu_ms(_scaled(bench, "2 with 4 threads"))


def _cpu_ms(row: dict[str, Any]) -> float:
    return _medians(row, "cpu_ms")


def _medians(row: dict[str, Any], name: str) -> float:
    return median(turn[name] for turn in row["turns"])
