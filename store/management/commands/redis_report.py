import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import filesizeformat
from redis.exceptions import RedisError
from rich import box
from rich.console import Console
from rich.table import Table

from freshcache.circuit_breaker import Unavailable
from store import redis_survey, view_counts
from store.redis_survey import NOT_PERMITTED, Family, Server


class Command(BaseCommand):
    requires_system_checks = ()  # Some checks of newer Djangos need the database, and this does not.
    help = (
        "Show what Redis is doing and what it holds, by key family. Of lookups it counts all of any "
        "client; the cache's own hit ratio is in /metrics."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self._console = Console(file=self.stdout, highlight=False)  # type: ignore[arg-type]
        down = []
        for server in redis_survey.servers():
            try:
                self._report(server)
            except RedisError as error:
                down.append(f"Redis for the {server.name} cannot be reached: {error}")
        if down:
            raise CommandError(" ".join(down))
        with suppress(Unavailable):
            visitors = view_counts.visitors(datetime.now(UTC))
            self._console.print(f"Visitors who looked at products today: about {visitors:,}")

    def _report(self, server: Server) -> None:
        with redis_survey.connect(server.url) as redis:
            redis.ping()  # Before anything is printed.
            title = f"Redis for the {server.name}, {server.address}"
            self._show_server(title, redis_survey.info(redis))
            self._show_families(redis_survey.families(redis))
            self._show_slow_commands(redis_survey.slow_commands(redis))

    def _show_server(self, title: str, info: dict[str, Any] | None) -> None:
        table = _table(title, show_header=False)
        for name, value in _facts(info) if info else [("INFO", NOT_PERMITTED)]:
            table.add_row(name, value)
        self._console.print(table)

    def _show_families(self, families: dict[str, Family] | None) -> None:
        if not families:
            self._console.print(f"Keys: {NOT_PERMITTED if families is None else 'none'}.\n")
            return
        table = _table("Keys by family", "family")
        for column in ("keys", "memory"):
            table.add_column(column, justify="right")
        for column in ("type", "time left"):
            table.add_column(column, overflow="fold")
        for name, family in families.items():
            memory = "" if name == redis_survey.OTHERS else _memory(family)
            types = ", ".join(sorted(family.types))
            table.add_row(name, f"{family.keys:,}", memory, types, _time_left(family))
        self._console.print(table)
        if any(family.bytes is not None and family.is_estimate for family in families.values()):
            self._console.print(f"~ estimated from {redis_survey.MEASURED_KEYS:,} of the keys\n")

    def _show_slow_commands(self, slow: list[redis_survey.SlowCommand] | None) -> None:
        if not slow:
            self._console.print(f"Slow log: {NOT_PERMITTED if slow is None else 'empty'}.\n")
            return
        table = _table("Slow log, latest first", "took", "when (UTC)", "command", "of")
        for one in slow:
            when = time.strftime("%m-%d %H:%M:%S", time.gmtime(one.began))
            took = f"{one.microseconds / 1000:,.1f} ms"
            table.add_row(took, when, one.command, ", ".join(one.families))
        self._console.print(table)


def _facts(info: dict[str, Any]) -> list[tuple[str, str]]:
    name = "Valkey" if "valkey_version" in info else "Redis"
    hits, misses = info["keyspace_hits"], info["keyspace_misses"]
    ratio = f"{hits / (hits + misses):.1%} of {hits + misses:,}" if hits + misses else "no lookups"
    limit = _size(info["maxmemory"]) if info["maxmemory"] else "no limit"
    return [
        ("version", f"{name} {info.get('valkey_version') or info['redis_version']}"),
        ("up for", str(timedelta(seconds=info["uptime_in_seconds"]))),
        ("memory used", f"{_size(info['used_memory'])} of {limit}"),
        ("eviction policy", info["maxmemory_policy"]),
        ("append-only file", "on" if info["aof_enabled"] else "off"),
        ("lookups that found a key", ratio),
        ("keys evicted, expired", f"{info['evicted_keys']:,}, {info['expired_keys']:,}"),
        ("clients, blocked ones", f"{info['connected_clients']}, {info['blocked_clients']}"),
    ]


def _table(title: str, *columns: str, show_header: bool = True) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=show_header)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _memory(family: Family) -> str:
    if family.bytes is None:
        return NOT_PERMITTED
    return f"{'~' if family.is_estimate else ''}{_size(family.bytes)}"


def _time_left(family: Family) -> str:
    """Return how long the keys still live, from the first to the last to go."""
    ends = [
        _duration(timedelta(seconds=milliseconds // 1000))
        for milliseconds in (family.shortest_ms, family.longest_ms)
        if milliseconds is not None
    ]
    if family.has_lasting:
        ends = [*ends[:1], "no end"]
    return " to ".join(dict.fromkeys(ends))


def _duration(time: timedelta) -> str:
    return f"{time.days} days" if time.days > 1 else str(time)


def _size(number_of_bytes: int) -> str:
    """Return a size in Redis' own units, of 1024."""
    return filesizeformat(number_of_bytes).replace("\xa0", " ")
