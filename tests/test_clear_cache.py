"""clear_cache deletes this project's cache entries, nothing else, and never blocks Redis."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.test import Client
from mirakuru import TCPExecutor
from redis import Redis

from tests import depth
from tests.configuration import configure
from tests.preloaded import ROOT
from tests.servers import free_port, start_redis

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

KEYS = 1_000_000 if depth.IS_FULL else 200_000
BLOCKED_MICROSECONDS = 50_000
ENTRIES = [
    "product",
    "product:stale",
    "product:slot:0",
    "product:slot:495",
    "product:slot:495:stale",
]
# Below this project's prefix and version, but no entries.
NO_ENTRIES = [
    "product:lock",
    "product:slot:3:lock",
    "product:generation",
    "product:events",
    "product:ranking:today",
    "products",
    "product_count",
    "productive:slot:1",
    "basket:7",
    "ranking",
    "queue:product",
    "",
]
FOREIGN = [
    "product",
    "1:product",
    "other:1:product",
    "rq:queue:default",
    "{project}-2:1:product",
    "{project}x:1:product",
    "x{project}:1:product",
    "{project}:0:product:generation",
    "{project}:2:product",
    "{project}:10:product",
    "{project}:product",
    "{project}:session:1:product",
    "{project}:session:1:django.contrib.sessions.cached_dbabc",
]


@pytest.fixture(scope="module")
def server() -> Iterator[TCPExecutor]:
    """A Redis server of these tests' own: others would see what belongs to other projects."""
    server = start_redis(free_port())
    yield server
    server.stop()


@pytest.fixture
def own(server, settings) -> Iterator[Redis]:
    """A connection to the empty server of one's own, which the caches use as well."""
    settings.CACHES = {
        name: {**cache, "LOCATION": url_of(server)} for name, cache in settings.CACHES.items()
    }
    with Redis(port=server.port) as client:
        client.flushall()
        yield client
    caches["default"].close()


def url_of(server: TCPExecutor) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def others(own, settings) -> list[str]:
    """Keys that are none of clear_cache's business, and are there."""
    project = settings.PROJECT_NAME
    found = [f"{project}:1:{name}" for name in NO_ENTRIES]
    found += [name.format(project=project) for name in FOREIGN]
    for key in found:
        own.set(key, "kept")
    own.hset(f"{project}:1:basket:8", "1", "2")
    own.zadd(f"{project}:1:ranking:week", {"1": 2})
    own.xadd(f"{project}:1:events", {"a": "b"})
    own.rpush("rq:queue:low", "job")
    return all_keys(own)


@pytest.fixture
def entries(own, settings) -> list[str]:
    found = [f"{settings.PROJECT_NAME}:1:{name}" for name in ENTRIES]
    for key in found:
        own.set(key, "an entry")
    return found


def all_keys(own: Redis) -> list[str]:
    return sorted(key.decode() for key in own.scan_iter(count=1000))


def clear(*arguments: str) -> str:
    output = StringIO()
    call_command("clear_cache", *arguments, stdout=output)
    return output.getvalue().strip()


def run_manage(url: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "REDIS_URL": url, "SECRET_KEY": "x" * 50}
    command = [sys.executable, "manage.py", "clear_cache", *arguments]
    options = {"capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, **options)


def test_all_deletes_every_entry_and_nothing_else(own, others, entries):
    assert clear("--all") == "Deleted 5 cached entries."
    assert all_keys(own) == others


def test_a_dry_run_counts_and_deletes_nothing(own, others, entries):
    assert clear("--all", "--dry-run") == "Would delete 5 cached entries."
    assert all_keys(own) == sorted(others + entries)


@pytest.mark.parametrize(
    ("pattern", "deleted"),
    [
        ("product", ["product"]),
        ("product*", ENTRIES),
        ("*", ENTRIES),
        ("product:slot:*", ["product:slot:0", "product:slot:495", "product:slot:495:stale"]),
        ("*:stale", ["product:stale", "product:slot:495:stale"]),
        ("product:slot:?", ["product:slot:0"]),
    ],
)
def test_a_pattern_deletes_what_it_matches(own, others, entries, settings, pattern, deleted):
    for arguments in (["--dry-run"], []):
        said = clear("--pattern", pattern, *arguments)
        noun = "entry" if len(deleted) == 1 else "entries"
        assert said.endswith(f"elete{'' if arguments else 'd'} {len(deleted)} cached {noun}.")
    prefix = f"{settings.PROJECT_NAME}:1:"
    kept = [key for key in entries if key.removeprefix(prefix) not in deleted]
    assert all_keys(own) == sorted(others + kept)


@pytest.mark.parametrize(
    "pattern", ["prodct*", "session*", "*lock", "basket*", "ranking*", "*:1:product", "PRODUCT", ""]
)
def test_a_pattern_that_matches_nothing_says_so(own, others, entries, pattern):
    for arguments in (["--dry-run"], []):
        assert clear("--pattern", pattern, *arguments) == f"No cached entry matches {pattern}."
    assert all_keys(own) == sorted(others + entries)


def test_an_empty_cache_says_so(own):
    assert clear("--all") == "No cached entry matches *."


def test_clearing_makes_lists_be_read_again_and_keeps_people_signed_in(
    own, editor: Client, books, settings
):
    editor.get("/admin/")  # Whose session, once it has been read, is in this server too.
    for query in ("", "?limit=1"):
        assert editor.get(f"/store/cached/{query}").status_code == 201
    assert clear("--all") == "Deleted 4 cached entries."
    for query in ("", "?limit=1"):
        assert editor.get(f"/store/cached/{query}").status_code == 201
        assert editor.get(f"/store/cached/{query}").status_code == 200
    assert [key for key in all_keys(own) if ":session:" in key]
    assert editor.post("/store/products/", {"name": "new"}, "application/json").status_code == 201


def test_what_to_clear_has_to_be_said():
    for arguments in ([], ["--dry-run"], ["--all", "--pattern", "product"]):
        with pytest.raises(CommandError):
            clear(*arguments)


def test_redis_down_is_one_clear_error():
    finished = run_manage(f"redis://127.0.0.1:{free_port()}/0", "--all")
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("CommandError: Redis cannot be reached: ")
    assert finished.stderr.count("\n") == 1


def test_a_hung_redis_is_one_clear_error_soon(own, entries, server, settings):
    configure(settings, READ_SECONDS=0.5)
    # django-redis keeps one pool of connections a URL, so this is another URL.
    impatient = {**settings.CACHES["default"], "LOCATION": f"{url_of(server)}#impatient"}
    settings.CACHES = {**settings.CACHES, "default": impatient}
    server.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(CommandError, match="Redis cannot be reached"):
            clear("--all")
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert time.monotonic() - started < 5


def test_a_terminal_sees_how_far_it_is(own, others, entries, server, settings):
    terminal, output = pty.openpty()
    finished = run_manage(
        url_of(server), "--all", stdout=output, stderr=output, capture_output=False
    )
    os.close(output)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert finished.returncode == 0
    assert "Deleting" in shown
    assert "5 entries" in shown
    assert "Deleted 5 cached entries." in shown
    assert all_keys(own) == others


def test_on_many_keys_redis_never_blocks_for_long(own, settings):
    fill = own.register_script(
        """
        for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
          redis.call('SET', ARGV[1] .. number, 'value')
        end
        """
    )
    half = KEYS // 2
    step = 100_000
    for prefix in (f"{settings.PROJECT_NAME}:1:product:slot:", "other:1:product:slot:"):
        for first in range(0, half, step):
            fill(args=[prefix, first, first + step - 1])
    assert own.dbsize() == KEYS
    own.config_set("slowlog-log-slower-than", BLOCKED_MICROSECONDS)
    own.slowlog_reset()

    own.config_resetstat()
    assert clear("--all", "--dry-run") == f"Would delete {half:,} cached entries."
    assert clear("--all") == f"Deleted {half:,} cached entries."

    commands = own.info("commandstats")
    assert {"cmdstat_scan", "cmdstat_unlink"} <= commands.keys()
    # Of thousands of commands a busy machine may hold up some; one that blocks would do so each time.
    assert all(one["usec_per_call"] < BLOCKED_MICROSECONDS / 10 for one in commands.values())
    assert len(own.slowlog_get(100)) <= 0.01 * sum(one["calls"] for one in commands.values())
    assert not {"cmdstat_keys", "cmdstat_flushdb"} & commands.keys()
    assert own.dbsize() == half
    # So what is asserted above would have been seen.
    own.slowlog_reset()
    own.eval("local x = 0; for i = 1, 30000000 do x = x + i end; return x", 0)
    assert len(own.slowlog_get()) == 1
