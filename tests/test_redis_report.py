"""redis_report shows each server's state, its keys by family and its slow log, in whatever width."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from mirakuru import TCPExecutor
from redis import Redis

from store import keys, redis_survey
from store.redis_survey import OTHERS, family_of
from tests.servers import free_port, start_redis
from tests.test_settings import manage

SESSION_KEY = "secretsecretsecretsecretsecret12"


@pytest.fixture(scope="module")
def server() -> Iterator[TCPExecutor]:
    """A server of these tests' own, which finds every command slow."""
    options = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]
    executor = start_redis(free_port(), *options, "--slowlog-log-slower-than", "0")
    yield executor
    executor.stop()


@pytest.fixture
def own(server, settings) -> Iterator[Redis]:
    settings.REDIS_URL = settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
    with Redis(port=server.port) as client:
        client.flushall()
        client.slowlog_reset()
        yield client


def report() -> str:
    output = StringIO()
    call_command("redis_report", stdout=output)
    return output.getvalue()


def row(said: str, name: str) -> str:
    (found,) = re.findall(rf"^  {re.escape(name)}  +(.*?) *$", said, re.MULTILINE)
    return found


@pytest.fixture
def prefix(settings) -> str:
    return settings.PROJECT_NAME


def test_it_shows_keys_and_memory_of_each_family(own, prefix):
    for number in range(1200):
        own.hset(f"{prefix}:basket:user:{number}", "1", "2")
    own.set(f"{prefix}:1:product", "x" * 40_000)
    own.set(f"{prefix}:0:product:generation", "x")
    own.set(f"{prefix}:session:1:django.contrib.sessions.cached_dbabc", "{}")
    own.lpush("rq:queue:default", "job")
    own.set("another:1:product", "x")
    said = report()
    assert re.fullmatch(r"1,200 +~\d+\.\d KB +hash +no end", row(said, "basket"))
    assert re.fullmatch(r"2 +(39|4\d)\.\d KB +string +no end", row(said, "product"))
    assert re.fullmatch(r"1 +\d+ bytes +string +no end", row(said, "session"))
    assert re.fullmatch(r"1 +\d+ bytes +list +no end", row(said, "rq"))
    assert row(said, OTHERS) == "1"
    assert "~ estimated from 1,000 of the keys" in said


def test_it_shows_what_types_the_keys_of_a_family_have_and_how_long_they_live(own, prefix):
    own.set(f"{prefix}:1:product", "x", px=599_999)
    own.set(f"{prefix}:1:product:stale", "x", px=4_199_999)
    own.zadd(keys.ranking_key(), {"1": 1}, nx=True)
    own.expire(keys.ranking_key(), 60)
    own.hset(f"{prefix}:throttle:a", "1", "2")
    own.set(f"{prefix}:throttle:b", "x", px=30_999)
    said = report()
    assert re.search(r"string +0:09:5\d to 1:09:5\d$", row(said, "product"))
    assert re.search(r"zset +0:00:5\d$", row(said, "ranking"))
    assert re.search(r"hash, string +0:00:(30|2\d) to no end$", row(said, "throttle"))


def test_it_says_how_many_visitors_there_were_today(own):
    own.pfadd(keys.visitors_key(datetime.now(UTC)), "ann", "bob")
    assert "Visitors who looked at products today: about 2" in report()


def test_what_is_estimated_is_in_proportion_to_what_was_measured(own, prefix):
    for number in range(40):
        own.set(f"{prefix}:basket:user:{number + 10}", "x" * 100)
    family = redis_survey.families(own, measured_keys=10)["basket"]
    assert (family.keys, family.measured) == (40, 10)
    assert family.is_estimate
    assert family.bytes == family.measured_bytes * 4


def test_it_shows_how_the_server_is_doing(own, prefix):
    own.set(f"{prefix}:1:product", "x")
    own.config_resetstat()
    for _ in range(3):
        own.get(f"{prefix}:1:product")
    own.get(f"{prefix}:1:missing")
    said = report()
    assert re.match(r"(Redis|Valkey) \d+\.\d+\.\d+", row(said, "version"))
    assert row(said, "memory used").endswith("B of 64.0 MB")
    assert row(said, "eviction policy") == "allkeys-lru"
    assert row(said, "lookups that found a key") == "75.0% of 4"
    assert row(said, "keys evicted, expired") == "0, 0"
    assert re.fullmatch(r"\d+, 0", row(said, "clients, blocked ones"))


def test_the_slow_log_names_commands_and_families_and_no_arguments(own, prefix):
    own.get(f"{prefix}:session:1:django.contrib.sessions.cached_db{SESSION_KEY}")
    own.set("another", "s3cret")
    said = report()
    assert re.search(r" ms .* GET +session *$", said, re.MULTILINE)
    assert re.search(r" ms .* SET *$", said, re.MULTILINE)
    assert SESSION_KEY not in said
    assert "s3cret" not in said


def test_an_empty_server_is_said_to_be_empty(own, server):
    own.config_set("slowlog-log-slower-than", 10_000_000)
    own.slowlog_reset()
    said = report()
    own.config_set("slowlog-log-slower-than", 0)
    assert "Keys: none." in said
    assert "Slow log: empty." in said


@pytest.mark.parametrize("columns", [40, 80])
def test_it_is_as_wide_as_the_terminal(own, prefix, monkeypatch, columns):
    own.set(f"{prefix}:1:product", "x")
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, report().splitlines())) <= columns


def test_what_the_acl_refuses_is_said_to_be_not_permitted(own, prefix, server, settings):
    own.set(f"{prefix}:1:product", "x")
    own.acl_setuser("narrow", enabled=True, nopass=True, keys="*", commands=["+ping", "+scan"])
    settings.REDIS_URL = settings.QUEUE_REDIS_URL = f"redis://narrow:x@127.0.0.1:{server.port}/0"
    said = report()
    assert row(said, "INFO") == "not permitted"
    assert re.fullmatch(r"1 +not permitted", row(said, "product"))
    assert "Slow log: not permitted." in said
    own.execute_command("ACL SETUSER", "narrow", "-scan")
    assert "Keys: not permitted." in report()


def test_a_command_that_a_managed_redis_has_taken_away_is_not_permitted_either(settings):
    server = start_redis(free_port(), "--rename-command", "SLOWLOG", "")
    settings.REDIS_URL = settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
    assert "Slow log: not permitted." in report()
    server.stop()


def test_a_second_server_is_reported_too_and_its_outage_hides_nothing(own, settings):
    second = start_redis(free_port())
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{second.port}/0"
    said = report()
    assert (
        f"Redis for the cache, 127.0.0.1:{own.connection_pool.connection_kwargs['port']}/0" in said
    )
    assert f"Redis for the queue, 127.0.0.1:{second.port}/0" in said
    second.kill()
    output = StringIO()
    with pytest.raises(CommandError, match=r"Redis for the queue cannot be reached: .*refused"):
        call_command("redis_report", stdout=output)
    assert "Redis for the cache" in output.getvalue()


def test_redis_down_is_one_line_and_exit_code_1():
    url = f"redis://:s3cret@127.0.0.1:{free_port()}/0"
    done = manage("redis_report", REDIS_URL=url, SECRET_KEY="x" * 50)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"CommandError: Redis for .* cannot be reached: .*\n", done.stderr)
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("P:1:product:slot:17:stale", "product"),
        ("P:lock:import", "lock"),
        ("rq:job:1", "rq"),
        ("rq", "rq"),
        ("P", OTHERS),
        ("P:1", OTHERS),
        ("another:1:product", OTHERS),
        ("", OTHERS),
    ],
)
def test_a_family_is_what_comes_after_the_projects_name(key, family, prefix):
    assert family_of(re.sub("^P", prefix, key)) == family
