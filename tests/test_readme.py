"""What the README and the documentation say exists."""

import re

import pytest
from django.core.management import get_commands
from django.urls import resolve

from tests.preloaded import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [ROOT / "SECURITY.md", ROOT / "freshcache/README.md"]
TEXTS = "\n".join(path.read_text() for path in PAGES)


def test_every_make_target_that_readme_and_contributing_name_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", TEXTS, re.MULTILINE))
    assert {"run", "test", "lint", "compare", "help"} <= named
    assert named <= targets


def test_every_management_command_that_the_readme_names_exists():
    named = set(re.findall(r"manage\.py ([a-z_]+)", TEXTS))
    assert named
    assert named <= get_commands().keys()


def test_every_endpoint_that_the_readme_names_is_served():
    table = (ROOT / "docs/api.md").read_text()
    paths = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    named = [path for cell in paths for path in re.findall(r"`(?:GET )?(/[^`]*)`", cell)]
    assert "/store/cached/" in named
    for path in named:
        if path in ("/healthz", "/readyz", "/metrics"):  # Answered before the URLs are looked at.
            continue
        if path == "/store/strategies/NAME/":  # Off here; see test_strategies.py.
            continue
        resolve(path.replace("ID", "1"))


def test_every_test_that_the_readme_names_exists():
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_[a-z0-9_]+)`", TEXTS)
    assert named
    assert [name for name in named if f"def {name}(" not in source] == []


@pytest.mark.parametrize(
    "path",
    sorted(
        set(
            re.findall(
                r"`((?:freshcache|store|bin|tests|bench|pages|deploy|docs)/[\w./-]*)`", TEXTS
            )
        )
    ),
)
def test_every_file_that_the_readme_names_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 140
    assert len(README.split()) <= 900


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    assert [name for name in pages if f"]({name})" not in index] == []


def test_every_test_file_that_the_matrix_names_exists():
    files = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    named = re.findall(r"\btest_[a-z_]+", (ROOT / "bin/test-matrix").read_text())
    assert len(named) > 10
    assert [name for name in named if not any(file.startswith(name) for file in files)] == []
