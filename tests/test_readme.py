"""What the README says exists."""

import re

import pytest
from django.core.management import get_commands
from django.urls import resolve

from tests.preloaded import ROOT

README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_make_target_that_readme_and_contributing_name_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README + CONTRIBUTING, re.MULTILINE))
    assert {"run", "test", "lint", "compare", "help"} <= named
    assert named <= targets


def test_every_management_command_that_the_readme_names_exists():
    named = set(re.findall(r"manage\.py ([a-z_]+)", README))
    assert named
    assert named <= get_commands().keys()


def test_every_endpoint_that_the_readme_names_is_served():
    table = README.split("## Endpoints")[1].split("\n## ")[0]
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
    named = re.findall(r"`(test_[a-z0-9_]+)`", README)
    assert named
    assert [name for name in named if f"def {name}(" not in source] == []


@pytest.mark.parametrize("path", re.findall(r"`((?:store|bin|tests|bench)/[\w./-]*)`", README))
def test_every_file_that_the_readme_names_exists(path):
    assert (ROOT / path).exists()


def test_every_test_file_that_the_matrix_names_exists():
    files = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    named = re.findall(r"\btest_[a-z_]+", (ROOT / "bin/test-matrix").read_text())
    assert len(named) > 10
    assert [name for name in named if not any(file.startswith(name) for file in files)] == []
