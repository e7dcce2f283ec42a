"""`make bench`: what it writes is complete, what it counts is right, and nothing is left running."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from bench.strategies import documents, proxy, races
from bench.strategies.__main__ import parse_arguments
from bench.strategies.crowds import Asked
from bench.strategies.processes import Answer
from tests.preloaded import ROOT
from tests.processes import clean_environment
from tests.waiting import wait_for

COMMAND = [sys.executable, "-m", "bench.strategies"]
CHARACTER_PIXELS = 8.0  # at most, on average, of the chart's font
QUICK = (
    *("--only", "store,gunicorn", "--products", "10", "--pages", "0", "--workers", "1"),
    # Not shorter than a machine stalls: a load has to be answered, a change to be seen.
    *("--seconds", "1", "--rounds", "1", "--ttl", "5"),
)


@pytest.fixture
def has_wrk():
    if not shutil.which("wrk") and os.environ.get("CI") != "true":
        pytest.skip("no wrk on the PATH; `make test` installs it where it may")


@pytest.mark.second_look
def test_a_quick_run_writes_tables_results_a_chart_and_the_readmes_part(tmp_path, has_wrk):
    readme = tmp_path / "PROJECT.md"
    readme.write_text(f"before\n{documents.MARK}\nformer figures\n{documents.MARK}\nafter\n")
    command = [*COMMAND, *QUICK, "--output", str(tmp_path), "--readme", str(readme)]
    finished = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    has_every_cell((tmp_path / "README.md").read_text())
    has_figures_of_the_store(json.loads((tmp_path / "results.json").read_text()))
    is_an_image_with_a_description(tmp_path / "chart.svg")
    is_written_anew_between_its_marks_only(readme.read_text())


def has_every_cell(report: str) -> None:
    rows = {
        "Requests a second": ["`store`", "`gunicorn`"],
        "What happens": ["`store`"],
        "While products change": ["`store`"] * 2,
        "Compressed answers": ["`store`"] * 2,
        "More workers": ["`store`", "`store`", "`gunicorn`", "`gunicorn`"]
        + ["`store`"] * (2 + proxy.is_installed()),
    }
    for title, names in rows.items():
        cells = cells_of(report, title)
        assert [row[0] for row in cells] == names
        assert all(cell for row in cells for cell in row), title
    assert "- Database: " in report


def cells_of(text: str, title: str) -> list[list[str]]:
    section = text.split(f"# {title}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def has_figures_of_the_store(results: Any) -> None:
    assert results["circumstances"]["date"]
    assert results["strategies"][0]["row"]["name"] == "store"
    (turn,) = results["strategies"][0]["turns"]
    assert turn["requests_a_second"] > 0
    assert turn["body_bytes"] > 1000
    (seen,) = results["behaviours"]
    # SQLite counts no queries, and who starves for CPU may ask more than once.
    assert seen["queries_of_a_crowd"] is None or seen["queries_of_a_crowd"] >= 1
    assert None not in (seen["seen_after_seconds"]["save"], seen["seen_after_seconds"]["update"])
    assert seen["reads"] > 0
    assert seen["broken"] == 0
    assert list(seen["refused"]["statuses"]) == list(seen["hung"]["statuses"]) == ["200"]
    assert seen["is_pickled"] is False


def is_an_image_with_a_description(path: Path) -> None:
    chart = ElementTree.parse(path).getroot()
    texts = {element.tag.rpartition("}")[2]: element.text for element in chart.iter()}
    assert texts["title"]
    assert "store " in texts["desc"]
    labels = [element for element in chart.iter() if element.tag.endswith("}text")]
    assert {"store", "gunicorn"} <= {label.text for label in labels}
    for label in labels:
        length = len(label.text) * CHARACTER_PIXELS
        x, is_right = float(label.get("x")), label.get("text-anchor") == "end"
        assert (x - length if is_right else x) >= 0, label.text
        assert (x if is_right else x + length) <= float(chart.get("width")), label.text


def is_written_anew_between_its_marks_only(readme: str) -> None:
    before, short, after = readme.split(documents.MARK)
    assert (before, after) == ("before\n", "\nafter\n")
    assert "| `store` |" in short
    assert "former figures" not in short


def test_sigterm_ends_all_that_was_started(tmp_path, has_wrk):
    log = tmp_path / "log"
    # It is still at its first load when it has been seen, and would go on for long.
    command = [*COMMAND, *QUICK, "--seconds", "60", "--output", str(tmp_path)]
    started: list[psutil.Process] = []

    def serves() -> bool:
        assert process.poll() is None, log.read_text()
        started[:] = process.children(recursive=True)
        return any("bench.strategies.constant_wsgi" in command_of(one) for one in started)

    with (
        log.open("w") as output,
        psutil.Popen(
            command, cwd=ROOT, env=clean_environment(), stdout=output, stderr=output
        ) as process,
    ):
        wait_for(serves, seconds=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM, log.read_text()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # It has ended.


def test_without_wrk_it_says_how_to_install_it():
    environment = clean_environment() | {"PATH": "/nowhere"}
    stopped = subprocess.run(
        COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("wrk is missing; install it with: apt-get install wrk")
    assert stopped.stderr.count("\n") == 1


def asked(began: float, price: int | None) -> Asked:
    body = b"broken" if price is None else json.dumps({"results": [{"id": 1, "price": price}]})
    return Asked(began, began + 1, Answer(200, body if isinstance(body, bytes) else body.encode()))


def prices(one: Asked) -> dict[int, int]:
    try:
        return one.answer.prices()
    except ValueError:
        return {}


def test_a_read_is_stale_if_it_lacks_what_was_acknowledged_before_it():
    writes = [(1, 101, 10.0), (1, 102, 20.0), (1, 103, 30.0)]
    reads = [asked(9.0, 100), asked(15.0, 101), asked(15.0, 102), asked(30.5, 103)]
    assert races.judge(reads, writes, prices).stale == 0
    verdict = races.judge([asked(30.5, 101), asked(20.25, 101), asked(31.0, None)], writes, prices)
    assert verdict == races.Verdict(reads=3, broken=1, stale=2, stalest_ms=10_500.0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--products", "10,many"), '"many" is not a whole number from 1 up'),
        (("--products", "10,10"), '"10,10" names a number twice'),
        (("--only", "store,fastest"), '"fastest" is none of uncached, '),
        (("--seconds", "0"), '"0" is not a number of seconds from 0.1 to 3600'),
        (("--seconds", "nan"), '"nan" is not a number of seconds from 0.1 to 3600'),
        (("--rounds", "0"), '"0" is not a whole number from 1 up'),
        (("--workers", "two"), '"two" is not a whole number from 1 up'),
        (("--pages", "-1"), '"-1" is not a whole number'),
        (("--output", "Makefile"), "--output Makefile is not a folder"),
        (("--readme", "nowhere.md"), "--readme nowhere.md is not a file"),
    ],
)
def test_a_wrong_option_is_explained(options, problem, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["bench.strategies", *options])
    with pytest.raises(SystemExit, match="2"):
        parse_arguments()
    assert problem in capsys.readouterr().err


@pytest.mark.second_look
def test_the_lag_of_copies_is_measured(tmp_path):
    output = tmp_path / "lag.md"
    options = ["--reads", "400", "--writes", "5", "--output", str(output)]
    command = [sys.executable, "-m", "bench.lag", *options]
    finished = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    said = output.read_text()
    counts = [int(n.replace(",", "")) for n in re.findall(r"^\| .* \| ([\d,]+) \|$", said, re.M)]
    assert sum(counts) == 400
    assert "| more than 100 ms | 0 |" in said
    assert len(re.findall(r"^\| .* \| \d of 5 \| 0 of 5 \|$", said, re.M)) == 2


@pytest.mark.second_look
@pytest.mark.mysql
def test_what_readers_wait_for_beside_writes_is_measured():
    command = [sys.executable, "-m", "bench.refresh", "--seconds", "0.5"]
    finished = subprocess.run(
        [*command, "--lists", "1", "--writes", "20"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    (found,) = re.findall(r"^\| 1 \| 20 \| (\d+) \| (\d+)% \| ", finished.stdout, re.MULTILINE)
    assert int(found[0]) > 0
