"""redis.conf and redis-queue.conf, started as compose.yaml starts them: the store's user can do its work.

The tests marked `smoke` are run once more as that user.
"""

import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from django.core.management import call_command
from mirakuru import TCPExecutor
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from tests.preloaded import ROOT
from tests.processes import clean_environment
from tests.servers import START_TIMEOUT_SECONDS, free_port, redis_binary, temporary_folder
from tests.test_settings import manage

PASSWORD = "p@ss/w&rd '\"$\\ ü"
PREFIX = "test-*"  # What PROJECT_NAME is in the suite; a `*` means the same in an ACL.
SERVICES = ["redis", "redis-queue"]
CACHE_ALONE = ["lists", "freshness", "cache_hygiene", "check_cache", "orm_caching"]


class Server:
    """A server of compose.yaml, without the container around it."""

    def __init__(self, service: str) -> None:
        compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][service]
        folder, self.port = temporary_folder(), free_port()
        (mounted,) = [one for one in compose["volumes"] if one.endswith(":/etc/redis.conf:ro")]
        self._executor = TCPExecutor(
            ["sh", "-c", self._command(compose["command"][-1], mounted.split(":")[0], folder)],
            host="127.0.0.1",
            port=self.port,
            timeout=START_TIMEOUT_SECONDS,
            envvars={"REDISCLI_AUTH": PASSWORD, "PROJECT_NAME": PREFIX},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.start, self.stop = self._executor.start, self._executor.stop
        self.url = f"redis://store@127.0.0.1:{self.port}/0"

    def _command(self, command: str, mounted: str, folder: Path) -> str:
        for inside, here in {
            "$$": "$",
            "/tmp/redis.conf": f"{folder}/redis.conf",
            "/etc/redis.conf": f"{ROOT}/{mounted}",
            "docker-entrypoint.sh redis-server": redis_binary(),
        }.items():
            assert inside in command
            command = command.replace(inside, here)
        return f"{command} --port {self.port} --bind 127.0.0.1 --dir {folder}"

    def client(self, password: str = PASSWORD) -> Redis:
        return Redis.from_url(self.url.replace("store@", f"store:{quote(password, safe='')}@"))


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    started = {service: Server(service) for service in SERVICES}
    for server in started.values():
        server.start()
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture(params=SERVICES)
def server(request, servers) -> Server:
    return servers[request.param]


def test_nobody_gets_in_without_the_name_or_with_another_password(server):
    for password in (None, PASSWORD):
        with pytest.raises(AuthenticationError):
            Redis(port=server.port, password=password, retry=None).ping()
    with pytest.raises(AuthenticationError):
        server.client("another").ping()
    assert server.client().ping()


REFUSED: list[list[Any]] = [
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["SWAPDB", 0, 1],
    ["KEYS", "*"],
    ["CONFIG", "GET", "*"],
    ["CONFIG", "SET", "maxmemory", 1],
    ["SHUTDOWN"],
    ["MONITOR"],
    ["REPLICAOF", "NO", "ONE"],
    ["ACL", "SETUSER", "store", "+@all"],
    ["CLIENT", "KILL", "TYPE", "normal"],
    ["SCRIPT", "FLUSH"],
    ["SLOWLOG", "RESET"],
    ["SORT", "test-1:list"],
    ["GET", "another:1:product"],
    ["SET", "another:1:product", 1],
    ["MGET", "test-1:1:product", "another:1:product"],
    ["RENAME", "test-1:1:product", "another:1:product"],
    ["PUBLISH", "another:events", "x"],
]


@pytest.mark.parametrize("command", REFUSED, ids=lambda command: " ".join(map(str, command)))
def test_what_the_store_does_not_need_is_refused(server, command):
    with pytest.raises(NoPermissionError):
        server.client().execute_command(*command)


@pytest.mark.parametrize(
    "script", ["return redis.call('FLUSHALL')", "return redis.call('GET', 'another:1:product')"]
)
def test_a_script_may_do_no_more_than_its_caller(server, script):
    with pytest.raises(ResponseError):
        server.client().eval(script, 0)


def test_the_cache_evicts_and_keeps_nothing_on_disk_and_the_queue_the_other_way_round(servers):
    cache, queue = (servers[service].client().info() for service in SERVICES)
    assert (cache["maxmemory_policy"], cache["aof_enabled"]) == ("allkeys-lru", 0)
    assert (queue["maxmemory_policy"], queue["aof_enabled"]) == ("noeviction", 1)
    assert cache["maxmemory"] > 0
    assert queue["maxmemory"] > 0


def test_after_a_restart_the_queue_has_what_it_had_and_the_cache_nothing(server, servers):
    server.client().set("test-1:1:kept", "yes")
    server.stop()
    server.start()
    assert server.client().exists("test-1:1:kept") == (server is servers["redis-queue"])


def test_the_queue_has_the_keys_and_channels_of_jobs_and_events(servers):
    queue, cache = servers["redis-queue"].client(), servers["redis"].client()
    queue.lpush("rq:queue:default", "job")
    assert queue.blpop(["rq:queue:default"], timeout=1) == (b"rq:queue:default", b"job")
    queue.xadd("test-1:events", {"a": "b"}, maxlen=10)
    with queue.pubsub() as subscriber:
        subscriber.subscribe("test-1:events", "rq:pubsub:worker")
        assert queue.publish("test-1:events", "x") == 1
    with pytest.raises(NoPermissionError):
        cache.lpush("rq:queue:default", "job")


@pytest.mark.parametrize(
    ("service", "files", "variables"),
    [
        ("redis-queue", ["tests"], {}),  # as one server for all would be
        ("redis", [f"tests/test_{name}.py" for name in CACHE_ALONE], {"ORM_CACHE": "on"}),
    ],
)
def test_the_smoke_part_of_the_suite_passes_as_the_stores_user(servers, service, files, variables):
    environment = clean_environment(
        REDIS_URL=servers[service].url,
        REDIS_PASSWORD=PASSWORD,
        SECRET_KEY="x" * 50,
        **variables,
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "smoke"]
    done = subprocess.run(
        [*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_report_works_as_the_stores_user(servers):
    cache, queue = (servers[service] for service in SERVICES)
    done = manage(
        "redis_report",
        PROJECT_NAME="test-report",
        REDIS_URL=cache.url,
        QUEUE_REDIS_URL=queue.url,
        REDIS_PASSWORD=PASSWORD,
        SECRET_KEY="x" * 50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "allkeys-lru" in done.stdout
    assert "noeviction" in done.stdout
    assert "not permitted" not in done.stdout
    assert PASSWORD not in done.stdout


@pytest.mark.smoke
@pytest.mark.engines
@pytest.mark.django_db(transaction=True)
def test_the_commands_for_operators_do_their_work(client, books):
    client.get("/store/cached/")
    said = StringIO()
    call_command("redis_report", stdout=said)
    call_command("check_cache", stdout=said)
    call_command("clear_cache", "--all", stdout=said)
    assert "product" in said.getvalue()
    assert "Compared 1 cached lists" in said.getvalue()
    assert "Deleted 2 cached entries" in said.getvalue()
