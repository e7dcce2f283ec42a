"""`make soak`: it judges rightly, writes what it found, and leaves nothing behind."""

import re
import subprocess
import sys

import pytest

from bench.soak.faults import DATABASE, PROCESS, REDIS, Episode
from bench.soak.growth import MEASURES, has_grown
from bench.soak.report import bars
from bench.soak.run import excuse, judged
from tests.processes import ROOT, clean_environment
from tests.scale import network
from tests.scale.load import Ask, Failure
from tests.witnesses import Read, Write, late_reads

LIST, BASKET = Ask("GET", "/store/cached/"), Ask("PUT", "/store/basket/1/")


@pytest.mark.parametrize(
    ("ask", "why", "broken", "is_excused"),
    [
        (LIST, "status 503", DATABASE, True),
        (LIST, "status 500", DATABASE, False),
        (LIST, "status 503", REDIS, False),
        (BASKET, "status 503", REDIS, True),
        (LIST, "status 503", None, False),
        (LIST, "status 502", PROCESS, True),
        (LIST, "RemoteDisconnected()", PROCESS, True),
        (LIST, "status 502", None, False),
        (LIST, "status 503", PROCESS, False),
    ],
)
def test_a_failure_is_excused_only_by_what_may_cause_it(ask, why, broken, is_excused):
    episodes = [Episode("", broken, began_at=10, ended_at=20)]
    assert bool(excuse(Failure(ask, why, 19, 21), episodes)) == is_excused
    assert excuse(Failure(ask, why, 21, 22), episodes) is None
    assert excuse(Failure(ask, why, 8, 9), episodes) is None


def test_a_read_is_as_late_as_the_first_write_that_it_lacks():
    writes = [Write(1.0, 10), Write(2.0, 11), Write(3.0, 12)]
    assert late_reads([Read(2.5, [11]), Read(2.5, [12]), Read(0.5, [1])], writes) == []
    late = late_reads([Read(3.5, [10]), Read(3.5, [11])], writes)
    assert [one.late_seconds for one in late] == [1.5, 0.5]
    assert late_reads([one.read for one in late], writes, 1.0) == late[:1]


def test_reads_are_judged_while_every_process_could_reach_redis():
    episodes = [Episode("", REDIS, 10, 20), Episode("", DATABASE, 30, 40)]
    before, meanwhile, later = Read(9, [1]), Read(15, [1]), Read(35, [1])
    assert judged([before, meanwhile, later], episodes) == [before, later]


def test_what_rises_all_the_time_has_grown_and_what_rises_first_has_not():
    memory = MEASURES[0]
    assert has_grown(memory, [100.0 + 2 * number for number in range(60)])
    assert not has_grown(memory, [50.0] * 10 + [100.0] * 50)
    assert not has_grown(memory, [100.0 + number % 10 for number in range(60)])


def test_a_line_of_bars_begins_at_nothing_and_ends_at_the_highest_value():
    assert bars([0, 4, 8]) == "▁▅█"
    assert len(bars([1.0] * 500)) <= 60


def bridges() -> set[str]:
    command = ["ip", "-brief", "link", "show", "type", "bridge"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in found.splitlines()}


def test_a_short_run_writes_what_it_found_and_leaves_nothing_behind(tmp_path):
    if missing := network.missing():
        pytest.skip(missing)
    output, before = tmp_path / "soak.md", bridges()
    command = [sys.executable, "-m", "bench.soak", "--minutes", "0.3", "--seed", "1"]
    done = subprocess.run(
        [*command, "--output", str(output)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    text = output.read_text()
    assert re.search(r"\| errors that no promise allows \| 0 \|", text), done.stdout
    assert {measure.name for measure in MEASURES} <= set(re.findall(r"^\| (.+?) \|", text, re.M))
    assert bridges() <= before


def test_a_run_of_no_time_is_refused():
    command = [sys.executable, "-m", "bench.soak", "--minutes", "0"]
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--minutes is 0; it has to be more than 0" in done.stderr
