"""/strategies/: the benchmark's figures for people."""

import json

import pytest

from pages import bench_results
from tests.preloaded import ROOT


def test_the_figures_are_those_of_the_benchmark():
    found = json.loads((ROOT / bench_results.RESULTS).read_text())
    results = bench_results.read()
    assert [one.name for one in results.strategies] == [
        one["row"]["name"] for one in found["strategies"]
    ]
    report = (ROOT / "docs/bench/README.md").read_text()
    for one in results.strategies:
        row = next(line for line in report.splitlines() if line.startswith(f"| `{one.name}` |"))
        assert f"| {one.requests_a_second:,.0f} (" in row
        assert f"| {one.times_usual:.2f} |" in row
        assert f"| {one.p99_ms:.2f} |" in row


@pytest.mark.django_db
def test_every_strategy_is_on_the_page_with_what_it_does(client):
    text = client.get("/strategies/").content.decode()
    results = bench_results.read()
    for one in results.strategies:
        assert text.count(f"<code>{one.name}</code>") >= (3 if one.behaviour else 2), one.name
    assert results.date in text


@pytest.mark.parametrize("content", [None, "", "{}", '{"strategies": [{}]}', "[1]"])
@pytest.mark.django_db
def test_without_figures_the_page_says_how_to_get_them(client, settings, tmp_path, content):
    settings.BASE_DIR = tmp_path
    if content is not None:
        file = tmp_path / bench_results.RESULTS
        file.parent.mkdir(parents=True)
        file.write_text(content)
    answer = client.get("/strategies/")
    assert answer.status_code == 200
    assert "make bench" in answer.content.decode()
