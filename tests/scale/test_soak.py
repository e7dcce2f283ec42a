"""`make soak`: it judges rightly, writes what it found, and leaves nothing behind."""

import itertools
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import pytest
from django.test import Client

from bench.soak.faults import DATABASE, PROCESS, REDIS, Episode
from bench.soak.growth import Measure, has_grown
from bench.soak.report import Run, bars
from bench.soak.run import excuse, judged, sorted_out
from bench.soak.visitors import Clerk
from tests.preloaded import ROOT
from tests.processes import Server, clean_environment
from tests.scale import network
from tests.scale.load import Ask, Load, Visitor
from tests.waiting import wait_for
from tests.witnesses import PATH, Failure, Read, Readers, Write, late_reads

FILTERED, BASKET = f"{PATH}?limit=20", "/store/basket/1/"


def failed(path: str, why: str, began_at: float = 19, ended_at: float = 21) -> Failure:
    is_cut_off = why == "RemoteDisconnected()"
    return Failure("GET", path, why, began_at, ended_at, is_cut_off)


@pytest.mark.parametrize(
    ("path", "why", "broken", "is_excused"),
    [
        (FILTERED, "status 503", {DATABASE}, True),
        (FILTERED, "status 500", {DATABASE}, False),
        (FILTERED, "status 503", {REDIS}, False),
        (FILTERED, "status 503", set(), False),
        (PATH, "status 503", {REDIS}, False),
        (PATH, "status 503", {DATABASE}, True),
        (PATH, "status 503", {DATABASE, REDIS}, True),
        (BASKET, "status 503", {REDIS}, True),
        (PATH, "status 502", {PROCESS}, True),
        (PATH, "RemoteDisconnected()", {PROCESS}, True),
        (PATH, "no list of products: b'null'", {PROCESS}, False),
        (PATH, "no list of products: b'null'", {DATABASE, REDIS}, False),
        (PATH, "KeyError('price')", {PROCESS}, False),
        (PATH, "status 502", set(), False),
        (PATH, "status 503", {PROCESS}, False),
    ],
)
def test_a_failure_is_excused_only_by_what_may_cause_it(path, why, broken, is_excused):
    episodes = [Episode("", one, began_at=10, ended_at=20) for one in broken]
    assert bool(excuse(failed(path, why), episodes, [])) == is_excused
    excused, errors = sorted_out([failed(path, why)], episodes, [])
    assert (excused.total(), len(errors)) == (is_excused, not is_excused)
    assert excuse(failed(path, why, 21, 22), episodes, []) is None
    assert excuse(failed(path, why, 8, 9), episodes, []) is None


@pytest.mark.parametrize(
    ("path", "read_at", "failed_at", "is_excused"),
    [
        (PATH, 13, 14, False),
        (PATH, 11, 14, True),  # A write may have been told of since.
        (PATH, 15, 14, True),
        (PATH, 13, 17, True),  # The database is back, and may have been written to.
        (FILTERED, 13, 14, True),  # It may not have been cached.
    ],
)
def test_a_cached_list_is_not_lost_while_the_database_is_away_and_nobody_can_write(
    path, read_at, failed_at, is_excused
):
    away = Episode("", DATABASE, 10, 20, unwritten_from=12, unwritten_until=16)
    failure = failed(path, "status 503", failed_at, failed_at + 0.1)
    reads = [Read(read_at, [1])]
    assert bool(excuse(failure, [away], reads)) == is_excused
    assert excuse(failure, [away, Episode("", REDIS, 10, 20)], reads)


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


MEMORY = Measure("memory", lambda: 0.0, tolerance=4)


def test_what_rises_all_the_time_has_grown_and_what_rises_first_has_not():
    assert has_grown(MEMORY, [100.0 + number / 2 for number in range(60)])
    assert not has_grown(MEMORY, [50.0] * 10 + [100.0] * 50)
    assert not has_grown(MEMORY, [100.0 + number % 10 for number in range(60)])


GOOD = Run(
    seed=1,
    minutes=1,
    requests=Counter(GET=1_000),
    rates=[100.0],
    episodes=[],
    excused=Counter(),
    errors=[],
    transfers=10,
    unfinished=[],
    acknowledged=100,
    reads=1_000,
    late_seconds=[],
    ended=[],
    seen={MEMORY: [100.0] * 60},
)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"errors": ["GET /: status 500 after 0.10 s"]}, "status 500"),
        ({"unfinished": ["/store/jobs/import-1/: failed"]}, "not done: /store/jobs/import-1/"),
        ({"late_seconds": [0.5]}, "0.500 s late"),
        ({"ended": ["web process 1"]}, "web process 1 has ended"),
        ({"seen": {MEMORY: [float(number) for number in range(60)]}}, "memory has grown"),
        ({"seen": {MEMORY: []}}, "memory: never looked at"),
        ({"requests": Counter(GET=10)}, "10 requests: at least 300"),
        ({"reads": 0}, "0 reads: at least"),
        ({"acknowledged": 0}, "0 writes: at least"),
        ({"transfers": 0}, "0 imports and exports: at least"),
    ],
)
def test_a_run_is_good_only_if_nothing_is_wrong_and_there_was_enough_of_everything(bad, complaint):
    assert GOOD.complaints == []
    (found,) = replace(GOOD, **bad).complaints
    assert complaint in found


class Answering(BaseHTTPRequestHandler):
    """Answers as the test tells it to."""

    answer: bytes

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.send_header("Cache-Status", "store; hit")
        self.send_header("Server-Timing", "cache;dur=1.0, ")
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


class Answerer(Server):
    """A server that gives the same answer to everybody."""

    def __init__(self, answer: bytes) -> None:
        handler = type("Handler", (Answering,), {"answer": answer})
        self._server = ThreadingHTTPServer((self.address, 0), handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize(
    "answer",
    [b'{"results": null}', b'{"results": {"a": 1}}', b'{"results": [{"price": 1}]}', b"[]", b"no"],
)
def test_an_answer_that_is_no_list_of_enough_products_is_a_failure_and_ends_no_reader(answer):
    asks = itertools.repeat(Ask("GET", PATH, least=2))
    with Answerer(answer) as store:
        readers = Readers(store, count=1, products=2)
        with readers, Load([visitor := Visitor(store, asks, {})]):
            wait_for(lambda: len(readers.failures) > 3 and len(visitor.failures) > 3)
    assert readers.reads == []
    assert {one.why for one in readers.failures} == {one.why for one in visitor.failures}
    assert not any(one.is_cut_off for one in readers.failures + visitor.failures)


def test_whatever_a_reader_does_not_expect_is_a_failure_and_ends_no_reader():
    with Answerer(b'{"results": [{"name": "no price"}]}') as store, Readers(store) as readers:
        wait_for(lambda: len(readers.failures) > 3)
    assert {one.why for one in readers.failures} == {"KeyError('price')"}


def test_a_line_of_bars_begins_at_nothing_and_ends_at_the_highest_value():
    assert bars([0, 4, 8]) == "▁▅█"
    assert len(bars([1.0] * 500)) <= 60


@pytest.mark.parametrize(("state", "left"), [("failed", 60), ("waiting", 60), ("done", 0)])
def test_each_import_and_export_that_was_accepted_is_looked_at_however_many(state, left):
    editor = Client()
    editor.cookies["sessionid"] = "somebody's"
    with Answerer(json.dumps({"state": state, "error": None}).encode()) as store:
        clerk = Clerk(store, editor)
        clerk.accepted = [f"/store/jobs/export-{number}/" for number in range(60)]
        found = clerk.unfinished(patience_seconds=0.1)
    assert len(found) == left
    assert all(state in one for one in found)


def bridges() -> set[str]:
    command = ["ip", "-brief", "link", "show", "type", "bridge"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in found.splitlines()}


def test_a_short_run_writes_what_it_found_and_leaves_nothing_behind(tmp_path):
    if missing := network.missing():
        pytest.skip(missing)
    output, before = tmp_path / "soak.md", bridges()
    command = [sys.executable, "-m", "bench.soak", "--minutes", "0.5", "--seed", "1"]
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
    for measure in ("web process 1, MB", "of worker", "left alone to Redis", "without a lifetime"):
        assert re.search(rf"^\|.*{measure}.*\| [\d,]+ \| [\d,]+ \|", text, re.MULTILINE), measure
    not_yet = re.compile("has grown|at least")  # The run is too short for that.
    complaints = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    assert [line for line in complaints if not not_yet.search(line)] == []
    assert bridges() <= before


def test_a_run_of_no_time_is_refused():
    command = [sys.executable, "-m", "bench.soak", "--minutes", "0"]
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--minutes is 0; it has to be more than 0" in done.stderr
