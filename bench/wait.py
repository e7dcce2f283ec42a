"""Measure what an invalidation costs that WAITs until replicas have it (docs/scale/sentinel.md).

It starts a Redis with two replicas of its own, all on this machine, and forgets a generation again and
again, as the cache does: by DEL alone, and with WAIT in the same round trip. The last row has both
replicas hang, as WAIT is sent for the moments when something is wrong.
"""

import argparse
import datetime
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from redis import Redis
from rich.console import Console

from bench import servers
from bench.cache_costs.report import Table
from tests.scale.servers import Sentinels, stopped

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "bench" / "wait.md"
TIMEOUT_MS = 100
HUNG_ROUNDS = 20


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.wait", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000, help="of each kind (%(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="Markdown file to write")
    arguments = parser.parse_args()
    started = Sentinels(replicas=2, sentinels=0)
    try:
        with started.client(next(iter(started.servers))) as redis:
            table = measure(started, redis, arguments.rounds)
            machine = "\n".join(
                f"- {name}: {value}" for name, value in servers.describe_for_redis(redis)
            )
    finally:
        started.close()
    Console().print(table.for_terminal())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    arguments.output.write_text(
        f"# What WAIT costs\n\n{table.as_markdown().partition(chr(10))[2].strip()}\n\n"
        f"Measured on {today} with `python -m bench.wait`.\n\n{machine}\n"
    )
    print(f"Written to {arguments.output}")


def measure(started: Sentinels, redis: Redis, rounds: int) -> Table:
    rows = [row("DEL alone", redis, 0, rounds)]
    rows += [row(f"DEL, WAIT {replicas}", redis, replicas, rounds) for replicas in (1, 2)]
    with ExitStack() as hung:
        for port in list(started.servers)[1:]:
            hung.enter_context(stopped(started.servers[port]))
        rows.append(row("DEL, WAIT 1, the replicas hang", redis, 1, HUNG_ROUNDS))
    return Table(
        title="An invalidation with and without WAIT",
        note=f"Milliseconds, as the writer waits; WAIT gives up after {TIMEOUT_MS} ms at the earliest.",
        headings=("commands", "median", "p99"),
        rows=rows,
    )


def row(name: str, redis: Redis, replicas: int, rounds: int) -> tuple[str, str, str]:
    taken = []
    for _ in range(rounds):
        redis.set("generation", "0" * 32)
        began = time.perf_counter()
        with redis.pipeline(transaction=False) as pipeline:
            pipeline.delete("generation")
            if replicas:
                pipeline.wait(replicas, TIMEOUT_MS)
            pipeline.execute()
        taken.append((time.perf_counter() - began) * 1000)
    return name, f"{statistics.median(taken):.2f}", f"{statistics.quantiles(taken, n=100)[98]:.2f}"


if __name__ == "__main__":
    main()
