"""Imports inside `store` point downward only: edge, then domain, then plumbing."""

import ast
import re
from pathlib import Path

import pytest

from tests.preloaded import ROOT

PLUMBING = {
    "basket_lines",
    "abandoned_statements",
    "connections",
    "database",
    "event_announcer",
    "event_feed",
    "event_stream",
    "keys",
    "locks",
    "metric_totals",
    "metrics",
    "queues",
    "redis_survey",
    "replicas",
    "replication",
    "throttling",
    "timetable",
    "view_counts",
    "warm_up",
}
DOMAIN = {
    "basket",
    "catalogue",
    "chunks",
    "comparison",
    "demo",
    "events",
    "exports",
    "imports",
    "job_status",
    "models",
    "orm_caching",
    "product_csv",
    "product_query",
    "product_rules",
    "ranking",
    "regions",
    "transfers",
}


def layer(module: str) -> int:
    name = module.removeprefix("store.").split(".")[0]
    return 0 if name in PLUMBING else 1 if name in DOMAIN else 2


def modules() -> list[Path]:
    return [path for path in (ROOT / "store").rglob("*.py") if "migrations" not in path.parts]


def imported_by(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "store":
            found |= {f"store.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("store."):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("store.")}
        assert not (isinstance(node, ast.ImportFrom) and node.level), "relative imports hide layers"
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_its_own_layer_or_below(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if module == "store.apps":
        pytest.skip("wires the layers together once Django has loaded them")
    above = {other for other in imported_by(path) if layer(other) > layer(module)}
    assert not above


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "freshcache").rglob("*.py")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_cache_imports_nothing_of_the_other_folders(path):
    others = "store|pages|simple_django_redis|bench|tests|example"
    assert not re.search(rf"^\s*(from|import) ({others})\b", path.read_text(), re.MULTILINE)


def test_the_store_does_not_know_its_pages():
    for path in modules():
        assert not re.search(r"^\s*(from|import) pages\b", path.read_text(), re.MULTILINE), path


def test_plumbing_knows_no_model():
    for name in PLUMBING:
        for path in [*(ROOT / "store").glob(f"{name}.py"), *(ROOT / "store" / name).glob("*.py")]:
            assert not {other for other in imported_by(path) if layer(other) == 1}, path


def test_only_the_settings_read_the_environment():
    readers = {
        path.relative_to(ROOT)
        for folder in ("store", "pages", "simple_django_redis")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(
            r"\bos\.environ\b(?!\.setdefault)|\bimport environ\b|\bgetenv\b", path.read_text()
        )
    }
    # prometheus_client has no other way to say where its files are, and wsgi.py's is Django's own.
    assert readers == {
        Path("store/metric_totals.py"),
        Path("simple_django_redis/metric_files.py"),
    }
