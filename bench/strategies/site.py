"""The databases of a run, one for each number of products, and a place for each server."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.test import Client

from bench.strategies.processes import ROOT, Place
from store import demo
from tests.servers import temporary_folder


class Site:
    """Makes databases as they are asked for, and hands out Redis databases that nobody else uses.

    `cleanup` ends what runs on it.
    """

    def __init__(self, cleanup: ExitStack, redis_databases: int) -> None:
        self.cleanup = cleanup
        self.redis_databases = redis_databases
        self._folder = temporary_folder()
        self._taken = 0
        self._made: dict[int, dict[str, str]] = {}

    def place(self, products: int, redis_url: str | None = None, **variables: str) -> Place:
        """Return a place with so many products, on the settings' Redis unless another one is named."""
        variables |= self.database(products)
        self._taken += 1
        server = (redis_url or settings.REDIS_URL).rpartition("/")[0]
        url = f"{server}/{self._taken % self.redis_databases}"
        return Place(url, variables, self._folder / f"{products}.json")

    def database(self, products: int) -> dict[str, str]:
        """Return the variables that name the database with so many products; open it here as well."""
        if products not in self._made:
            self._made[products] = self._variables(products)
            self._fill(products)
            self._open(products)
            answer = Client().get("/store/", headers={"host": "localhost"})
            (self._folder / f"{products}.json").write_bytes(answer.content)
        self._open(products)
        return self._made[products]

    def _variables(self, products: int) -> dict[str, str]:
        if settings.MYSQL_HOST:
            return {"MYSQL_NAME": f"products_{products}"}
        folder = self._folder / f"{products}"
        folder.mkdir()
        return {"VAR_DIR": str(folder)}

    def _open(self, products: int) -> None:
        connection.close()
        variables = self._made[products]
        name = variables.get("MYSQL_NAME") or Path(variables["VAR_DIR"]) / "db.sqlite3"
        connection.settings_dict["NAME"] = name

    def _fill(self, products: int) -> None:
        """Fill it with as many books: the demo's own, or as many varied ones."""
        self._manage(products, "prepare")
        if products != demo.DEFAULT_COUNT:
            self._manage(products, "seed_products", "--replace", "--count", str(products))

    def _manage(self, products: int, *command: str) -> None:
        environment = os.environ | self._made[products]
        full = [sys.executable, "manage.py", *command]
        subprocess.run(full, cwd=ROOT, env=environment, check=True, capture_output=True)
