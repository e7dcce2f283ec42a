"""A wrong variable stops the start with one line that names it."""

import os
import re
import socket
import subprocess

import pytest
from django.db import connection
from environs import EnvError

from simple_django_redis.environment import (
    OTHER_NAMES_OF_MYSQL,
    OTHER_NAMES_OF_REDIS,
    parse_port,
    refuse_other_names,
)
from simple_django_redis.redis_url import redis_url
from simple_django_redis.replica_hosts import primary_host
from tests import preloaded
from tests.processes import clean_environment

WRONG = [
    ("CACHE_TTL", "-1"),
    ("CACHE_TTL", "soon"),
    ("CACHE_TTL", ""),
    ("CACHE_TTL", "99999999999999999999"),
    ("CACHE_STALE_IF_ERROR", "-1"),
    ("CACHE_BUDGET_SECONDS", "0"),
    ("EVENTS_MAX_CLIENTS", "-1"),
    ("EVENTS_MAX_CLIENTS", "all"),
    ("EVENTS_MAX_PER_ADDRESS", "0"),
    ("LIST_MAX_ROWS", "0"),
    ("STRATEGIES", "perhaps"),
    ("METRICS_ALLOW", "everybody"),
    ("METRICS_TOKEN", "short"),
    ("MYSQL_PORT", "many"),
    ("MYSQL_PORT", "70000"),
    ("PORT", "0"),
    ("MYSQL_REPLICA_HOST", "mysql://db2"),
    ("MYSQL_REPLICA_HOST", "db2,,db3"),
    ("MYSQL_REPLICA_HOST", "db2:70000"),
    ("MYSQL_REPLICA_HOST", "db2"),  # Of which primary?
    ("MYSQL_REPLICA_MAX_LAG", "0"),
    ("MYSQL_REPLICA_MAX_LAG", "some"),
    ("REDIS_MAX_CONNECTIONS", "0"),
    ("REDIS_URL", "http://localhost"),
    ("REDIS_URL", "redis://"),
    ("REDIS_URL", "redis://localhost:99999"),
    ("REDIS_URL", "unix://"),
    ("REDIS_URL", "redis://localhost/abc"),
    ("REDIS_URL", "redis://localhost/0?socket_timeout=x"),
    ("REDIS_URL", "rediss://localhost?ssl_cert_reqs=foo"),
    ("REDIS_URL", "redis://[::1"),
    ("REDIS_URL", "redis+sentinel://h1,h2,h3"),
    ("REDIS_URL", "redis+sentinel:///primary/0"),
    ("REDIS_URL", "redis+sentinel://h1,,h3/primary"),
    ("REDIS_URL", "redis+sentinel://h1:0/primary"),
    ("REDIS_URL", "redis+sentinel://h1:port/primary"),
    ("REDIS_URL", "redis+sentinel://h1/primary/abc"),
    ("REDIS_URL", "redis+sentinel://h1/primary?socket_timeout=x"),
    ("REDIS_URL", "rediss+sentinel://h1/primary?ssl_cert_reqs=foo"),
    ("REDIS_URL", "redis+cluster://"),
    ("REDIS_URL", "redis+cluster://a:7000,b:70000/0"),
    ("REDIS_URL", "redis+cluster://a:7000,b:7001/1"),
    ("QUEUE_REDIS_URL", "redis+cluster://a:7000,b:7001/0"),
    ("QUEUE_REDIS_URL", "http://localhost"),
    ("QUEUE_REDIS_URL", "redis://localhost/abc"),
    ("SESSION_COOKIE_AGE", "0"),
    ("SESSION_COOKIE_AGE", "long"),
    ("THROTTLE_LOGIN", "10"),
    ("THROTTLE_LOGIN", "10/fortnight"),
    ("THROTTLE_LOGIN", ""),
    ("THROTTLE_WRITES", "0/min"),
    ("THROTTLE_WRITES", "many/min"),
    ("MAX_BODY_BYTES", "0"),
    ("PROJECT_NAME", "with space"),
    ("DEBUG", "maybe"),
    ("SECURE_SSL_REDIRECT", "perhaps"),
    ("TRUST_PROXY", "2"),
    ("CSRF_TRUSTED_ORIGINS", "store.example"),
    ("ALLOWED_HOSTS", "https://store.example"),
    ("BIND_ADDRESS", "nonsense"),
    ("PORT", "http"),
    ("WEB_CONCURRENCY", "0"),
    ("IMPORT_MAX_BYTES", "0"),
    ("CACHE_WARM_ON_WRITE", "often"),
    ("RUN_WORKER", "some"),
    ("LOG_LEVEL", "LOUD"),
]


def run(command: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = clean_environment(**{"VAR_DIR": os.environ["VAR_DIR"], **variables})
    return preloaded.run(command, environment)


def manage(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return run(["manage.py", *arguments], **variables)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_stops_manage_py_with_one_line_that_names_it(name, value):
    stopped = manage("check", SECRET_KEY="x" * 50, **{name: value})
    assert stopped.returncode == 1
    assert stopped.stdout == ""
    assert stopped.stderr.startswith("Cannot start: ")
    assert stopped.stderr.count("\n") == 1
    assert name in stopped.stderr


@pytest.mark.parametrize(("name", "value"), [("CACHE_TTL", "-1"), ("REDIS_URL", "http://x")])
def test_a_wrong_value_stops_gunicorn_with_one_line_that_names_it(name, value):
    command = ["-m", "gunicorn", "simple_django_redis.wsgi"]
    stopped = run(command, SECRET_KEY="x" * 50, **{name: value})
    assert stopped.returncode == 1
    assert stopped.stderr.count("\n") == 1
    assert name in stopped.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MYSQL_REPLICA_HOST", "store:hunter2@db2"),
        ("MYSQL_REPLICA_HOST", "db2:hunter2"),
        ("REDIS_URL", "redis://:hunter2"),
        ("REDIS_URL", "redis://store:hunter2/0"),
        ("REDIS_URL", "redis://store:6379/hunter2@h1/0"),
        ("REDIS_URL", "redis://[hunter2]@h1"),
        ("REDIS_URL", "hunter2:6379"),
        ("REDIS_URL", "redis+sentinel://:hunter2,h1,h2/primary/0"),
        ("REDIS_URL", "redis+sentinel://store:hunter2,h1,h2/primary/0"),
        ("REDIS_URL", "redis+sentinel://[hunter2],h1,h2/primary/0"),
        ("REDIS_URL", "redis+sentinel://store:a/hunter2/b@h1,h2/primary/0"),
        ("REDIS_URL", "redis+cluster://:hunter2,h1,h2/0"),
        ("REDIS_URL", "redis+cluster://h1:hunter2,h2/0"),
        ("REDIS_URL", "redis+cluster://store:6379/hunter2@h1,h2/0"),
    ],
)
def test_a_wrong_value_is_not_repeated_where_it_may_be_a_password(name, value):
    stopped = manage("check", SECRET_KEY="x" * 50, MYSQL_HOST="db", **{name: value})
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"Cannot start: {name}")
    assert stopped.stderr.count("\n") == 1
    assert "hunter2" not in stopped.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("MYSQL_HOST", "db"), ("REDIS_URL", "redis://cache:6379/0")]
)
def test_the_secret_key_is_required_with_servers_of_ones_own(name, value):
    stopped = manage("check", **{name: value})
    assert stopped.returncode == 1
    assert "SECRET_KEY is required" in stopped.stderr


@pytest.mark.parametrize(("timeout", "connecting"), [("2", 1), ("6", 3), ("600", 10)])
def test_a_connection_to_mysql_may_take_half_as_long_as_an_answer_and_ten_seconds(
    timeout, connecting
):
    ask = (
        "from simple_django_redis import settings; print(settings.DATABASES['default']['OPTIONS'])"
    )
    variables = {
        "MYSQL_HOST": "127.0.0.1",
        "SECRET_KEY": "x" * 50,
        "MYSQL_TIMEOUT_SECONDS": timeout,
    }
    asked = run(["-c", ask], **variables)
    assert f"'connect_timeout': {connecting}, 'read_timeout': {timeout}," in asked.stdout


def test_a_mysql_server_that_says_nothing_is_not_waited_for_longer_than_that():
    pytest.importorskip("MySQLdb", reason="mysqlclient is not installed: `make mysql`")
    connect = (
        "import time, django; django.setup(); from django.db import OperationalError, connection\n"
        "began = time.monotonic()\n"
        "try: connection.ensure_connection()\n"
        "except OperationalError: print(time.monotonic() - began)"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = run(
            ["-c", connect],
            DJANGO_SETTINGS_MODULE="simple_django_redis.settings",
            MYSQL_HOST="127.0.0.1",
            MYSQL_PORT=str(silent.getsockname()[1]),
            MYSQL_TIMEOUT_SECONDS="20",
            SECRET_KEY="x" * 50,
        )
    assert 9 < float(asked.stdout) < 20, asked.stderr


def test_what_knows_one_server_only_is_refused_with_sentinels():
    url = "redis+sentinel://h1,h2,h3/primary"
    stopped = manage("check", SECRET_KEY="x" * 50, REDIS_URL=url, STRATEGIES="on")
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("Cannot start: STRATEGIES")
    assert manage("check", SECRET_KEY="x" * 50, REDIS_URL=url, ORM_CACHE="on").returncode == 0


@pytest.mark.parametrize(
    "variables",
    [
        {"QUEUE_REDIS_URL": ""},
        {"QUEUE_REDIS_URL": "redis://queue/0", "ORM_CACHE": "on"},
        {"QUEUE_REDIS_URL": "redis://queue/0", "STRATEGIES": "on"},
    ],
    ids=lambda variables: list(variables)[-1],
)
def test_what_needs_one_server_is_refused_with_a_cluster(variables):
    cluster = {"REDIS_URL": "redis+cluster://a:7000,b:7001/0", "SECRET_KEY": "x" * 50}
    stopped = manage("check", **cluster, **variables)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"Cannot start: {list(variables)[-1]}")
    assert stopped.stderr.count("\n") == 1


def test_the_embedded_default_makes_a_secret_key_that_only_its_owner_reads(tmp_path):
    code = "from django.conf import settings; print(settings.SECRET_KEY)"
    first, second = (
        manage("shell", "--no-imports", "-c", code, VAR_DIR=str(tmp_path)).stdout for _ in range(2)
    )
    assert len(first.strip()) >= 50
    assert first == second
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


@pytest.mark.mysql
def test_production_settings_pass_djangos_deployment_check(db):
    checked = manage(
        "check",
        "--deploy",
        "--fail-level=WARNING",
        # Newer Djangos connect for this check.
        **{name: value for name, value in os.environ.items() if name.startswith("MYSQL_")},
        MYSQL_NAME=connection.settings_dict["NAME"],
        REDIS_URL="redis://cache.example:6379/0",
        SECRET_KEY="a-long-and-random-key-0123456789-abcdefghijklmnopqrstuvwxyz",
        ALLOWED_HOSTS="store.example",
        SECURE_SSL_REDIRECT="on",
        TRUST_PROXY="on",
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("url", "password", "joined"),
    [
        ("", "secret", ""),
        ("redis://cache:6379/1", "", "redis://cache:6379/1"),
        ("redis://cache:6379/1", "p@ss/w", "redis://:p%40ss%2Fw@cache:6379/1"),
        ("redis+sentinel://a:1,[::1]/db/0", "x", "redis+sentinel://:x@a:1,[::1]/db/0"),
        ("rediss://user@cache/0", "secret", "rediss://user:secret@cache/0"),
        ("redis://:own@cache/0", "secret", "redis://:own@cache/0"),
        ("redis+cluster://a:7000, b/0", "p@ss", "redis+cluster://:p%40ss@a:7000,b/0"),
        ("rediss+cluster://me:own@a:7000,b/0", "secret", "rediss+cluster://me:own@a:7000,b/0"),
        ("unix:///run/redis.sock?db=2", "secret", "unix://:secret@/run/redis.sock?db=2"),
    ],
)
def test_the_password_joins_a_url_that_has_none(url, password, joined):
    assert redis_url(url, password) == joined


@pytest.mark.parametrize(
    "url",
    [
        "redis://store:57#hunter2@host:6379/0",
        "redis://store:57?hunter2@host:6379/0",
        "redis://store:57?hun=ter2@host:6379/0",
        "redis://store:57/hunter2@host:6379/0",
        "redis://host:6379/0?hunter2",
        "redis://host:6379/0?password=",
        "redis://host:6379/0#hunter2",
        "unix://store:57#hunter2@/run/redis.sock",
        "unix:///run/redis.sock?db=1&hunter2",
        "redis+sentinel://store:57#hunter2@h1,h2/primary/0",
        "redis+sentinel://h1,h2/primary/0?hunter2",
        "redis+cluster://store:57#hunter2@h1,h2/0",
        "redis+cluster://store:57?hunter2@h1,h2/0",
    ],
)
def test_a_redis_url_with_a_part_that_would_be_dropped_is_refused(url):
    with pytest.raises(ValueError, match=r"^REDIS_URL: ") as refused:
        redis_url(url, "")
    assert not re.search("hun|ter2", str(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        "redis://ho st:6379/0",
        "redis://h1,h2:6379/0",
        "redis://h1;h2/0",
        "redis+sentinel://h1,h 2/primary",
        "redis+sentinel://h1//0",
        "redis+cluster://a,b c/0",
        "unix://tmp/redis.sock",
        "redis://h/0?decode_responses=true",
        "redis://h/0?encoding=utf-16",
        "redis://h/0?max_connections=0",
        "redis://h/0?protocol=3",
        "redis://h/0?socket_timeout=0",
        "redis+sentinel://h1/primary?socket_connect_timeout=0.0",
    ],
)
def test_a_redis_url_that_could_never_work_is_refused(url):
    with pytest.raises(ValueError, match=r"^REDIS_URL: "):
        redis_url(url, "")


@pytest.mark.parametrize(
    "value", ["db:3307", "mysql://db", "d b", "db,db2", "root:hunter2@db", "[::1]:3306", "db/store"]
)
def test_a_mysql_host_that_could_never_work_is_refused(value):
    with pytest.raises(EnvError, match=r"^MYSQL_HOST: .*MYSQL_PORT") as refused:
        primary_host(value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "host"),
    [(" db ", "db"), ("::1", "::1"), ("[::1]", "::1"), ("/run/mysql.sock", "/run/mysql.sock")],
)
def test_a_mysql_host_may_be_written_in_several_ways(value, host):
    assert primary_host(value) == host


@pytest.mark.parametrize("name", [*OTHER_NAMES_OF_MYSQL, *OTHER_NAMES_OF_REDIS])
def test_a_server_named_in_a_variable_of_other_programs_stops_the_start(name, monkeypatch):
    monkeypatch.setenv(name, "mysql://root:hunter2@db/store")
    with pytest.raises(ValueError, match=rf"^{name} is set.*(MYSQL_HOST|REDIS_URL)") as refused:
        refuse_other_names(mysql_host="", redis_url="")
    assert "hunter2" not in str(refused.value)
    refuse_other_names(mysql_host="db", redis_url="redis://cache")


def test_lists_may_have_spaces_after_their_commas():
    code = "from django.conf import settings as s; print(s.ALLOWED_HOSTS, s.CSRF_TRUSTED_ORIGINS)"
    variables = {"ALLOWED_HOSTS": "a, b", "CSRF_TRUSTED_ORIGINS": "https://a, https://b"}
    printed = manage("shell", "--no-imports", "-c", code, **variables).stdout
    assert printed == "['a', 'b'] ['https://a', 'https://b']\n"


@pytest.mark.parametrize(("trust", "status"), [("off", 301), ("on", 200)])
def test_forwarded_headers_are_believed_with_trust_proxy_only(open_store, trust, status):
    store = open_store("--workers", "1", SECURE_SSL_REDIRECT="on", TRUST_PROXY=trust)
    answer = store.get("/store/", headers={"X-Forwarded-Proto": "https"})
    assert answer.status == status


def test_with_trust_proxy_the_last_forwarded_address_is_the_clients(client, db, settings):
    settings.TRUST_PROXY = True
    response = client.get("/store/", headers={"x-forwarded-for": "6.6.6.6, 10.1.2.3"})
    assert response.wsgi_request.META["REMOTE_ADDR"] == "10.1.2.3"


@pytest.mark.parametrize(
    "value", ["tcp://10.0.0.1:3306", "udp://10.0.0.1:53", " tcp://[fd00::1]:1"]
)
def test_a_port_that_kubernetes_has_set_is_refused_with_its_cause(value):
    with pytest.raises(EnvError, match=r"Kubernetes .* MYSQL_PORT"):
        parse_port(value)


def test_the_queue_may_have_a_password_of_its_own():
    ask = "from simple_django_redis import settings as s; print(s.REDIS_URL, s.QUEUE_REDIS_URL)"
    urls = {"REDIS_URL": "redis://store@a/0", "QUEUE_REDIS_URL": "redis://store@b/0"}
    one, other = {"REDIS_PASSWORD": "x"}, {"REDIS_PASSWORD": "x", "QUEUE_REDIS_PASSWORD": "y"}
    for passwords, of_the_queue in ((one, "x"), (other, "y")):
        said = run(["-c", ask], SECRET_KEY="x" * 50, **urls, **passwords).stdout
        assert said == f"redis://store:x@a/0 redis://store:{of_the_queue}@b/0\n"
