import pytest
from rich.console import Console

from bench import compare
from tests.servers import free_port


def test_compare_prints_medians_tails_and_the_ratio(open_store, demo_books):
    store = open_store()
    console = Console(record=True, width=100, quiet=False)
    console.print(compare.table(compare.measure(f"http://127.0.0.1:{store.port}", 5)))
    text = console.export_text()
    assert "5 requests to each list" in text
    for row in ("response_time, median", "response_time, p99", "whole request, p95"):
        assert row in text


def test_compare_says_when_no_store_is_open():
    with pytest.raises(compare.CompareError, match="open it with: make run"):
        compare.measure(f"http://127.0.0.1:{free_port()}", 2)


def test_quantiles_are_median_p95_and_p99():
    assert compare.quantiles([float(value) for value in range(1, 102)]) == (51.0, 96.0, 100.0)
