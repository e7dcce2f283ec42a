"""Breaks of promises, each with the tests that have to notice it; `make mutate` tries them all.

Each module here has a list `BREAKS`. A break is found by its text, wherever the code moves to.
"""

import importlib
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_BROKEN = ("tests/", "bench/")  # What is only there to find faults.


@dataclass(frozen=True)
class Break:
    """A change of the code that takes a promise away."""

    name: str  # what the code no longer does, or does instead
    promise_area: str
    old: str | re.Pattern[str]  # matches exactly once in all Python files of the project
    new: str  # for a pattern as re.sub takes it
    tests: list[str]  # "tests/test_x.py" or "tests/test_x.py::test_y"; one of them has to fail


class ListIsWrongError(Exception):
    """A break does not fit the code any more; the message says which one."""


def load() -> list[Break]:
    """Return all breaks of all lists."""
    modules = [one.name for one in pkgutil.iter_modules(__path__) if one.name != "runner"]
    found = [importlib.import_module(f"{__name__}.{name}") for name in modules]
    return [one for module in found for one in module.BREAKS]


def files(root: Path = ROOT) -> list[str]:
    """Return the names of all files of the project, whether committed yet or not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


@cache
def sources() -> dict[str, str]:
    """Return the Python files that can be broken, by name."""
    names = [name for name in files() if name.endswith(".py") and not name.startswith(NOT_BROKEN)]
    return {name: (ROOT / name).read_text() for name in names}


def apply(one: Break, code: dict[str, str]) -> tuple[str, str]:
    """Return which file a break changes, and its text then; raises ListIsWrongError."""
    literal = isinstance(one.old, str)
    pattern = re.compile(re.escape(one.old)) if literal else one.old
    places = [
        (name, found)
        for name, text in code.items()
        if not literal or one.old in text  # quicker
        for found in pattern.finditer(text)
    ]
    if len(places) != 1:
        where = ", ".join(name for name, _ in places) or "nowhere"
        raise ListIsWrongError(f"{one.name}: has to match once, but matches {where}")
    name, found = places[0]
    new = one.new if literal else found.expand(one.new)
    text = code[name][: found.start()] + new + code[name][found.end() :]
    try:
        compile(text, name, "exec")
    except SyntaxError as error:
        raise ListIsWrongError(f"{one.name}: {error}") from error
    return name, text


def faults(breaks: list[Break]) -> Iterator[str]:
    """Say what is wrong with a list, without running a test."""
    code, names = sources(), set()
    for one in breaks:
        if one.name in names:
            yield f"{one.name}: another break has this name"
        names.add(one.name)
        try:
            name, text = apply(one, code)
        except ListIsWrongError as error:
            yield str(error)
        else:
            if text == code[name]:
                yield f"{one.name}: changes nothing"
        for test in one.tests:
            path, _, function = test.partition("::")
            there = (ROOT / path).is_file()
            wanted = f"def {function.partition('[')[0]}(" if function else "def "
            if not there or wanted not in (ROOT / path).read_text():
                yield f"{one.name}: there is no test {test}"
        if not one.tests:
            yield f"{one.name}: no test is named"
