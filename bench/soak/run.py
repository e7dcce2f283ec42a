"""One run: the load, the faults and the looks at what must not grow, and who may be excused by what."""

import os
import platform
import time
from collections import Counter
from contextlib import ExitStack, closing

from bench.soak.faults import DATABASE, PROCESS, REDIS, Episode, Faults
from bench.soak.growth import EVERY_SECONDS, Watch, left_alone, measures
from bench.soak.report import Run
from bench.soak.visitors import NEEDS_REDIS, Clerk, crowd
from tests.scale.fleet import BOOK, Editor, Fleet
from tests.scale.load import Load
from tests.test_copies import LAG_SECONDS
from tests.witnesses import PATH, Failure, Read, Readers, Writers, late_reads

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
    # On the machine whose processes are not left alone: its connections are counted by its address.
    steady, worker = (fleet.start_worker(name, beside=1) for name in ("worker1", "worker2"))
    editor = Editor(fleet.balancer)
    load = Load(crowd(fleet.balancer, editor, seed))
    clerk = Clerk(fleet.balancer, editor)
    readers = Readers(fleet.balancer, pause_seconds=0.02)
    writers = Writers([fleet.balancer], editor, [BOOK])
    faults = Faults(fleet, worker, seed, VARIABLES)
    processes = left_alone(fleet, steady)
    watch = Watch(measures(fleet, processes))
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
    ended = [name for name, process in processes.items() if not process.is_running()]
    unfinished = clerk.unfinished(TRANSFERS_SECONDS)
    failures = [one for each in (load, readers, writers, clerk) for one in each.failures]
    excused, errors = sorted_out(failures, faults.episodes, readers.reads)
    late = late_reads(judged(readers.reads, faults.episodes), writers.writes, LAG_SECONDS)
    return Run(
        seed=seed,
        minutes=minutes,
        requests=load.done,
        rates=rates,
        episodes=faults.episodes,
        excused=excused,
        errors=errors,
        transfers=len(clerk.accepted),
        unfinished=unfinished,
        acknowledged=len(writers.writes),
        reads=len(readers.reads),
        late_seconds=[one.late_seconds for one in late],
        ended=ended,
        seen=watch.seen,
    )


def sorted_out(
    failures: list[Failure], episodes: list[Episode], reads: list[Read]
) -> tuple[Counter[str], list[str]]:
    """Return how many failures are excused by what, and those that nothing excuses."""
    excused: Counter[str] = Counter()
    errors = []
    for failure in failures:
        if why := excuse(failure, episodes, reads):
            excused[f"{failure.why}: {why}"] += 1
        else:
            during = [one.name for one in episodes if _may_have_met(failure, one)]
            errors.append(f"{failure} ({', '.join(during) or 'nothing was broken'})")
    return excused, errors


def excuse(failure: Failure, episodes: list[Episode], reads: list[Read]) -> str | None:
    """Return what excuses a failure, if anything does; `reads` are those of PATH that were good."""
    broken = [one for one in episodes if _may_have_met(failure, one)]
    met = {one.excuses for one in broken}
    if failure.why == "status 503" and DATABASE in met:
        if failure.path != PATH:
            return "the database was away"
        if REDIS in met:
            return "the database was away, and Redis, which had the list"
        if not any(_was_there(failure, one, reads) for one in broken):
            return "the database was away, and a write may just have made the list old"
    if failure.why == "status 503" and REDIS in met and failure.path.startswith(NEEDS_REDIS):
        return "Redis was away, which this needs"
    if PROCESS in met and (failure.why == "status 502" or failure.is_cut_off):
        return "the process that had begun with it was killed"
    return None


def _may_have_met(failure: Failure, episode: Episode) -> bool:
    return episode.covers(failure.began_at, failure.ended_at)


def _was_there(failure: Failure, episode: Episode, reads: list[Read]) -> bool:
    """Say whether the list had been cached and nobody could have made it old since."""
    if failure.began_at > episode.unwritten_until:
        return False
    return any(episode.unwritten_from < one.asked_at < failure.began_at for one in reads)


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
