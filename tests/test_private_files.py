"""What the embedded default keeps under var/ is for its user alone."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from simple_django_redis import embedded, secret
from simple_django_redis.private_database import PrivateDatabase
from store import database


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path) -> sqlite3.Connection:
    opened = sqlite3.connect(path, factory=PrivateDatabase)
    opened.executescript("PRAGMA journal_mode = WAL; CREATE TABLE a (b); INSERT INTO a VALUES (1);")
    return opened


def test_a_database_and_the_files_beside_it_are_its_users_alone(tmp_path):
    opened = write(tmp_path / "db.sqlite3")
    assert {one.name: mode(one) for one in tmp_path.iterdir()} == {
        "db.sqlite3": 0o600,
        "db.sqlite3-wal": 0o600,
        "db.sqlite3-shm": 0o600,
    }
    opened.close()


def test_a_database_that_was_made_for_everybody_is_not_any_more(tmp_path):
    (tmp_path / "db.sqlite3").touch(mode=0o644)
    write(tmp_path / "db.sqlite3").close()
    assert mode(tmp_path / "db.sqlite3") == 0o600


def test_a_database_in_memory_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sqlite3.connect(":memory:", factory=PrivateDatabase).close()
    sqlite3.connect("file:x?mode=memory", uri=True, factory=PrivateDatabase).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(settings.MYSQL_HOST), reason="the store is not on SQLite")
@pytest.mark.django_db
def test_the_store_uses_it():
    connection.ensure_connection()
    assert isinstance(connection.connection, PrivateDatabase)


def test_the_folder_is_its_users_alone_whoever_makes_it(tmp_path, monkeypatch, settings):
    secret.read_or_make(tmp_path / "one" / "secret_key")
    assert mode(tmp_path / "one" / "secret_key") == 0o600
    monkeypatch.setattr(embedded, "answers", lambda _path: True)
    embedded.ensure_running(tmp_path / "two")
    settings.MYSQL_HOST, settings.VAR_DIR = "", tmp_path / "three"
    with database.one_at_a_time():
        pass
    assert [mode(tmp_path / name) for name in ("one", "two", "three")] == [0o700] * 3


def test_a_folder_that_was_made_for_everybody_is_not_any_more(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "answers", lambda _path: True)
    for name, held in (("empty", ()), ("used", ("db.sqlite3-wal", "secret_key", "redis.log"))):
        folder = tmp_path / name
        folder.mkdir(mode=0o755)
        for one in held:
            (folder / one).touch()
        embedded.ensure_running(folder)
        assert mode(folder) == 0o700


@pytest.mark.parametrize("held", ["mail", "redis", ".profile"])
def test_a_folder_that_holds_something_else_is_left_as_it_is(tmp_path, held):
    folder = tmp_path / "home"
    (folder / "db.sqlite3").mkdir(parents=True)
    (folder / held).touch()
    folder.chmod(0o755)
    secret.read_or_make(folder / "secret_key")
    assert mode(folder) == 0o755
