"""One run: the load, the faults and the looks at what must not grow, and who may be excused by what."""

import os
import platform
import time
from collections import Counter
from contextlib import ExitStack, closing

from bench.soak.faults import DATABASE, PROCESS, REDIS, Episode, Faults
from bench.soak.growth import EVERY_SECONDS, Watch
from bench.soak.report import Run
from bench.soak.visitors import NEEDS_REDIS, Clerk, crowd
from tests.scale.fleet import BOOK, Editor, Fleet
from tests.scale.load import Failure, Load
from tests.test_copies import LAG_SECONDS
from tests.witnesses import Read, Readers, Writers, late_reads

# Few variants, so that there are soon as many as there may be; and a stall of a busy machine must not
# count as an outage of Redis beside those that are made.
VARIABLES = {"CACHE_MAX_VARIANTS": "100", "CACHE_BUDGET_SECONDS": "2"}
# A job whose worker was killed is missed after a minute, and looked for once a minute.
TRANSFERS_SECONDS = 300


def soak(minutes: float, seed: int) -> tuple[Run, list[tuple[str, str]]]:
    """Return what was found, and on what."""
    print(f"Seed: {seed}", flush=True)
    fleet = Fleet()
    try:
        fleet.ensure(**VARIABLES)
        return _soak(fleet, minutes, seed), _machine(fleet)
    finally:
        fleet.close()


def _soak(fleet: Fleet, minutes: float, seed: int) -> Run:
    worker = fleet.start_worker()
    editor = Editor(fleet.balancer)
    load = Load(crowd(fleet.balancer, editor, seed))
    clerk = Clerk(fleet.balancer, editor)
    # What they are not answered is not judged: who reads everything else, above, is for that.
    readers = Readers(fleet.balancer, pause_seconds=0.02)
    writers = Writers([fleet.balancer], editor, [BOOK])
    faults = Faults(fleet, worker, seed, VARIABLES)
    watch = Watch(fleet)
    rates: list[float] = []
    with ExitStack() as stack:
        for one in (watch, load, clerk, readers, writers, faults):
            stack.enter_context(one)
        until = time.monotonic() + minutes * 60
        done = 0
        while time.monotonic() < until:
            time.sleep(EVERY_SECONDS)
            before, done = done, load.done.total()
            rates.append((done - before) / EVERY_SECONDS)
    excused: Counter[str] = Counter()
    errors = [f"not done: {left}" for left in clerk.unfinished(TRANSFERS_SECONDS)]
    for failure in load.failures:
        if why := excuse(failure, faults.episodes):
            excused[f"{failure.why}: {why}"] += 1
        else:
            errors.append(str(failure))
    late = late_reads(judged(readers.reads, faults.episodes), writers.writes)
    seconds_late = [one.late_seconds for one in late]
    errors += [f"{seconds:.3f} s late" for seconds in seconds_late if seconds >= LAG_SECONDS]
    return Run(
        seed=seed,
        minutes=minutes,
        requests=load.done,
        rates=rates,
        episodes=faults.episodes,
        excused=excused,
        errors=errors,
        transfers=Counter(clerk.accepted),
        acknowledged=len(writers.writes),
        reads=len(readers.reads),
        latest_seconds=max(seconds_late, default=0.0),
        seen=watch.seen,
    )


def excuse(failure: Failure, episodes: list[Episode]) -> str | None:
    """Return what excuses a failure, if anything does."""
    met = {one.excuses for one in episodes if one.covers(failure.began_at, failure.ended_at)}
    if failure.why == "status 503" and DATABASE in met:
        return "the database was away"
    if failure.why == "status 503" and REDIS in met and failure.ask.path.startswith(NEEDS_REDIS):
        return "Redis was away, which this needs"
    if PROCESS in met and (failure.why == "status 502" or not failure.why.startswith("status")):
        return "the process that had begun with it was killed"
    return None


def judged(reads: list[Read], episodes: list[Episode]) -> list[Read]:
    """Return the reads that have to be fresh: those while every process could reach Redis."""
    excused = [one for one in episodes if one.excuses == REDIS]
    return [
        read
        for read in reads
        if not any(one.covers(read.asked_at, read.asked_at) for one in excused)
    ]


def _machine(fleet: Fleet) -> list[tuple[str, str]]:
    with closing(fleet.redis) as redis:
        redis_version = redis.info("server")["redis_version"]
    with closing(fleet.database()) as database:
        mysql_version = database.get_server_info()
    return [
        ("Machine", f"{os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}"),
        ("Python", platform.python_version()),
        ("Redis", redis_version),
        ("Database", mysql_version),
    ]
