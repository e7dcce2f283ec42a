"""`make bench-views` measures what docs/view-caching.md says."""

import subprocess
import sys

import pytest

from tests.preloaded import ROOT
from tests.processes import clean_environment


@pytest.mark.second_look
def test_the_table_is_complete_and_what_is_around_it_stays(tmp_path):
    output = tmp_path / "views.md"
    mark = "<!-- The table of `make bench-views` -->"
    output.write_text(f"before\n{mark}\nold\n{mark}\nafter\n")
    command = [sys.executable, "-m", "bench.views", "--rounds", "2", "--output", str(output)]
    finished = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    before, table, after = output.read_text().split(mark)
    assert (before, after) == ("before\n", "\nafter\n")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:1] == "|"][2:]
    found = {row[0]: row[3:] for row in rows}
    # Queries of a hit, of a crowd on a cold entry, whether update() is seen, and pickles.
    assert found["plain view"][0] == "2"
    assert found["cached_response"] == ["0", "2", "at once", "no"]
    assert found["cache_page"][0] == "0"
    assert found["cache_page"][2:] == ["when it expires", "yes"]
    assert found["template with {% cache %}"][2:] == ["when it expires", "yes"]
