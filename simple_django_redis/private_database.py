"""The embedded default's database is its user's alone: sessions and hashes of passwords are in it."""

import os
import sqlite3
from pathlib import Path
from typing import Any


class PrivateDatabase(sqlite3.Connection):
    """A connection to a database whose file, which SQLite makes for everybody, has mode 0600.

    SQLite's own files beside it get the mode that it has.
    """

    def __init__(self, database: str | os.PathLike[str], *arguments: Any, **options: Any) -> None:
        if not options.get("uri") or not str(database).startswith("file:"):
            _make_private(Path(database))
        super().__init__(database, *arguments, **options)


def _make_private(file: Path) -> None:
    if str(file) == ":memory:" or not file.parent.is_dir():
        return
    try:
        file.touch(mode=0o600)
        for one in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm"))):
            if one.exists() and one.stat().st_mode & 0o077:
                one.chmod(0o600)
    except PermissionError:
        pass  # It is somebody else's, or cannot be written; SQLite says so where it matters.
