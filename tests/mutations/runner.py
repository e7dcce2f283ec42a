"""Breaks the project in one place after the other, and tells which breaks no test notices.

`make mutate`, or `python -m tests.mutations.runner --only PATTERN`. It works on copies in a temporary
folder, two at a time, which share a MariaDB (or MySQL) and a Redis.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree

from tests import mutations, servers
from tests.mutations import ROOT, Break

AT_ONCE = 2
# Of one break; the slowest named test takes a tenth of it on a quiet machine.
TIME_LIMIT_SECONDS = 180
END_SECONDS = 10  # to end in once that is over
PYTEST = ("-m", "pytest", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider")
# Loading the other plugins takes as long as the tests.
PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_django.plugin"}
NOTICED_BY = re.compile(r"^(?:FAILED|ERROR) (.*)$", re.MULTILINE)


class Result(Enum):
    NOTICED = "noticed"
    TIMEOUT = "noticed by timeout"
    UNNOTICED = "UNNOTICED"
    BROKEN = "BROKEN LIST"  # The tests did not run.


@dataclass
class Tried:
    one: Break
    result: Result
    seconds: float
    said: str


class Copy:
    """A copy of the project with a database of its own."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder / str(number)
        for name in mutations.files():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.folder / name)
        (self.folder / ".venv").symlink_to((ROOT / ".venv").resolve())
        self._environment = os.environ | PLUGINS | {"MYSQL_NAME": f"mutate_{number}"}
        self._database = "--create-db"
        self._process: subprocess.Popen[str] | None = None

    def run(self, tests: Iterable[str], *options: str, limit: float) -> tuple[int | None, str]:
        """Run tests; return pytest's exit code, None if they took too long, and what it said."""
        output = self.folder / "pytest.log"
        with output.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, *PYTEST, self._database, *options, *tests],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                code: int | None = self._process.wait(limit)
                self._database = "--reuse-db"
            except subprocess.TimeoutExpired:
                code = None
                self._database = "--create-db"  # Nobody has emptied its tables.
            finally:
                self.end()
        return code, output.read_text(errors="replace")

    def end(self) -> None:
        """End the tests that run, and what they have started."""
        if self._process is None:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)

    def try_out(self, one: Break) -> Tried:
        name, text = mutations.apply(one, mutations.sources())
        path = self.folder / name
        whole = shutil.copy2(path, self.folder / "whole")
        # Of what is broken no bytecode is kept: its file's time would be that of the next break.
        self._environment["PYTHONDONTWRITEBYTECODE"] = "1"
        started = time.monotonic()
        try:
            path.write_text(text)
            code, said = self.run(one.tests, "-x", limit=TIME_LIMIT_SECONDS)
        finally:
            shutil.move(whole, path)
        results = {0: Result.UNNOTICED, 1: Result.NOTICED, None: Result.TIMEOUT}
        result = results.get(code, Result.BROKEN)
        if result is Result.NOTICED:
            said = found[1] if (found := NOTICED_BY.search(said)) else said
        return Tried(one, result, time.monotonic() - started, said)

    def failures_of_whole(self, tests: list[str]) -> list[str]:
        """Return which tests fail, or do not run, where nothing is broken."""
        report = self.folder / "whole.xml"
        limit = TIME_LIMIT_SECONDS * (1 + len(tests))
        code, said = self.run(tests, f"--junitxml={report}", limit=limit)
        if code not in (0, 1):
            return [said]
        cases = ElementTree.parse(report).iter("testcase")
        return [
            f"{case.get('classname')}::{case.get('name')}: {case[0].tag} {case[0].get('message')}"
            for case in cases
            if any(case.find(tag) is not None for tag in ("failure", "error", "skipped"))
        ]


def main() -> int:
    arguments = parse(sys.argv[1:])
    chosen = [
        one
        for one in mutations.load()
        if re.search(arguments.only, one.name) and arguments.area in ("", one.promise_area)
    ]
    if wrong := list(mutations.faults(chosen)):
        print("The lists do not fit the code:", *wrong, sep="\n")
        return 1
    if arguments.list:
        for one in chosen:
            print(f"{one.promise_area}: {one.name}")
        return 0
    start_servers()
    folder = servers.temporary_folder()
    copies = [Copy(folder, number) for number in range(min(AT_ONCE, len(chosen)))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return try_all(chosen, copies, pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for copy in copies:
                copy.end()


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("make mutate", description=__doc__)
    parser.add_argument("--only", default="", metavar="PATTERN", help="breaks named like this")
    parser.add_argument("--area", default="", help="breaks of one promise area")
    parser.add_argument("--list", action="store_true", help="name the breaks, and try none")
    return parser.parse_args(arguments)


def start_servers() -> None:
    """Start what the environment does not name; all tests share it."""
    os.environ["CI"] = "true"  # Without a server no test would be run.
    servers.start_missing_servers()


def try_all(chosen: list[Break], copies: list[Copy], pool: ThreadPoolExecutor) -> int:
    print(f"Trying {len(chosen)} breaks; first their tests, with nothing broken.", flush=True)
    began = time.monotonic()
    tests = list(dict.fromkeys(test for one in chosen for test in one.tests))
    shares = [tests[number :: len(copies)] for number in range(len(copies))]
    wrong = [
        failure
        for failures in pool.map(Copy.failures_of_whole, copies, shares)
        for failure in failures
    ]
    if wrong:
        print("These do not pass with nothing broken:", *wrong, sep="\n")
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def try_one(one: Break) -> Tried:
        copy = free.get()
        try:
            return copy.try_out(one)
        finally:
            free.put(copy)

    tried = []
    for found in pool.map(try_one, chosen):
        tried.append(found)
        said = found.said if found.result in (Result.NOTICED, Result.BROKEN) else ""
        print(f"{found.result.value:>9} {found.seconds:5.1f} s  {found.one.name}  {said}".rstrip())
        sys.stdout.flush()
    return report(tried, time.monotonic() - began) or int(bool(wrong))


def report(tried: list[Tried], seconds: float) -> int:
    """Print a table; return 1 if anything went unnoticed."""
    areas = sorted({found.one.promise_area for found in tried})
    print("\n| Promise | Breaks | Noticed | By timeout | Unnoticed | Seconds |")
    print("| :-- | --: | --: | --: | --: | --: |")
    for area in areas:
        of_area = [found for found in tried if found.one.promise_area == area]
        results = [found.result for found in of_area]
        counts = [results.count(Result.NOTICED), results.count(Result.TIMEOUT)]
        counts.append(len(results) - sum(counts))
        spent = sum(found.seconds for found in of_area)
        print(f"| {area} | {len(of_area)} | {' | '.join(map(str, counts))} | {spent:.0f} |")
    bad = [found for found in tried if found.result in (Result.UNNOTICED, Result.BROKEN)]
    print(f"\n{len(tried)} breaks in {seconds:.0f} s; {len(bad)} went unnoticed.")
    for found in bad:
        print(f"{found.result.value}: {found.one.promise_area}: {found.one.name}")
    return int(bool(bad))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # As a shell says it.
