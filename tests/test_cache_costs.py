import re

import pytest

from bench.cache_costs.__main__ import parse_arguments
from tests import preloaded
from tests.preloaded import ROOT
from tests.processes import clean_environment

pytestmark = pytest.mark.engines


def tables_of(text):
    """Return the rows of each table, as lists of cells, by the heading that it stands under."""
    found = {}
    for section in text.split("\n## ")[1:]:
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
        found[section.splitlines()[0]] = rows[2:]
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    output = tmp_path_factory.mktemp("costs") / "costs.md"
    options = ["--rounds", "1", "--products", "10", "--rows", "20", "--output", str(output)]
    finished = preloaded.run(["-m", "bench.cache_costs", *options], clean_environment())
    assert finished.returncode == 0, finished.stderr
    return output.read_text()


def test_the_report_is_complete(report):
    for name in ("Processor", "Kernel", "Python", "Django", "redis-py", "Cache", "Database"):
        assert re.search(rf"^- {name}: \S", report, re.MULTILINE)
    tables = tables_of(report)
    assert {title: len(rows) for title, rows in tables.items()} == {
        "What follows": 0,
        "Time of a request, in microseconds": 1,
        "Round trips and commands of a request": 5,
        "What invalidation adds to a transaction": 5,
        "Memory of an entry, in bytes": 1,
        "Whether compression pays, in microseconds": 3,
    }
    cells = [cell for rows in tables.values() for row in rows for cell in row[:-1]]
    assert all(cell.strip() for cell in cells)


def test_a_hit_is_one_round_trip_and_an_invalidation_two_at_most(report):
    rows = tables_of(report)["Round trips and commands of a request"]
    round_trips = {request: int(count) for request, _, _, count in rows}
    assert round_trips["a hit"] == 1
    assert round_trips["an invalidation"] <= 2


def test_invalidation_adds_at_most_two_round_trips_to_a_transaction(report):
    rows = tables_of(report)["What invalidation adds to a transaction"]
    round_trips = {transaction: int(count) for transaction, _, count in rows}
    assert max(round_trips.values()) <= 2
    assert round_trips["20 rows, a loop of save(), rolled back"] == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--rounds", "0"), '"0" is not a whole number from 1 up'),
        (("--products", "10,many"), '"many" is not a whole number from 1 up'),
        (("--products", "10,10"), '"10,10" names a length twice'),
        (("--rows", "1"), "--rows must be at least 2, not 1"),
        (("--output", "tests"), "is a folder; name a file"),
        (("--output", "Makefile/costs.md"), "Makefile is not a folder"),
    ],
)
def test_a_wrong_option_is_explained(options, problem, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["bench.cache_costs", *options])
    with pytest.raises(SystemExit, match="2"):
        parse_arguments()
    assert problem in capsys.readouterr().err
