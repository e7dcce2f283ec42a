"""The files that deploy the store agree with each other, with the settings and with the README."""

import ast
import json
import os
import re
import subprocess
import sys
import threading
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path, PurePosixPath
from string import Template
from urllib.parse import urlsplit

import pytest
import yaml
from django.conf import settings as django_settings

ROOT = Path(__file__).resolve().parent.parent
MANAGED_SERVICES = {
    "mysql_deployment.yml": {"MYSQL_PASSWORD"},
    "redis_deployment.yml": {"REDIS_PASSWORD"},
}
SECRETS = {"SECRET_KEY", "MYSQL_PASSWORD", "REDIS_PASSWORD", "QUEUE_REDIS_PASSWORD"}
# Variables of Python and of the shell, which are none of the store's.
NOT_OURS = re.compile(r"PATH|PYTHON\w+")

ONLY_FOR_THE_WEB = {
    "ALLOWED_HOSTS",
    "BIND_ADDRESS",
    "CSRF_TRUSTED_ORIGINS",
    "PORT",
    "SECURE_SSL_REDIRECT",
    "TRUST_PROXY",
}

MUST_NOT_LEAK = [
    ".env",
    ".env.production",
    ".envrc",
    "local.env",
    "local.env.bak",
    "config/prod.env",
    "store/.env",
    "store/.env.local",
    "tls/store.pem",
    "tls/store.key",
    "backup.sql",
    "backups/store.sql.gz",
    "gunicorn.log",
    ".netrc",
    ".git/config",
    ".venv/bin/python",
    ".venv/lib/python3.11/site-packages/django/__init__.py",
    "var/db.sqlite3",
    "var/redis.sock",
    "var/secret_key",
    "db.sqlite3",
    "db.sqlite3-wal",
    "store/db.sqlite3",
    "dump.rdb",
    "static/admin/css/base.css",
    "node_modules/left-pad/index.js",
    "__pycache__/manage.cpython-311.pyc",
    "store/__pycache__/models.cpython-311.pyc",
    "store/management/commands/__pycache__/prepare.cpython-311.pyc",
    ".mypy_cache/3.11/cache.db",
    ".pytest_cache/v/cache/lastfailed",
    ".ruff_cache/0.17.5/1",
    ".hypothesis/examples/a",
    ".coverage",
    ".coverage.host.1234",
    "htmlcov/index.html",
    "deploy/k8s/overlays/example/secrets.env",
]
MUST_BE_SENT = [
    "Dockerfile",
    "gunicorn.conf.py",
    "manage.py",
    "bin/install",
    "requirements.lock",
    "requirements.txt",
    "simple_django_redis/settings.py",
    "store/management/commands/prepare.py",
    "store/migrations/0001_initial.py",
    "store/models.py",
]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def variables_read_by_settings() -> dict[str, ast.Call]:
    """Return each `env.<type>("NAME", ...)` of settings.py by its name."""
    return {
        node.args[0].value: node
        for node in ast.walk(ast.parse(read("simple_django_redis/settings.py")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "env"
        and node.func.attr != "parser_for"
        and isinstance(node.args[0], ast.Constant)
    }


def fandogh() -> dict:
    return yaml.safe_load(read("fandogh.yml"))


def worker() -> dict:
    return yaml.safe_load(read("worker_deployment.yml"))


def fandogh_env() -> dict[str, dict]:
    return {entry["name"]: entry for entry in fandogh()["spec"]["env"]}


def managed_service(name: str) -> dict:
    parameters = dict.fromkeys(MANAGED_SERVICES[name], "passed-with-p")
    return yaml.safe_load(Template(read(name)).substitute(parameters))


def compose_services() -> dict[str, dict]:
    return yaml.safe_load(read("compose.yaml"))["services"]


def env_example(*, commented_out: bool) -> dict[str, str]:
    prefix = "(?:# )?" if commented_out else ""
    return dict(re.findall(rf"^{prefix}([A-Z][A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))


def dockerfile_stages() -> list[list[tuple[str, str]]]:
    """Return each stage's instructions, continued lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[tuple[str, str]]] = []
    for line in filter(None, text.splitlines()):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            stages.append([])
        stages[-1].append((instruction, rest.strip()))
    return stages


def last_stage(instruction: str) -> str:
    return "\n".join(rest for name, rest in dockerfile_stages()[-1] if name == instruction)


def variables_set_by_dockerfile() -> set[str]:
    instructions = [pair for stage in dockerfile_stages() for pair in stage]
    text = " ".join(rest for name, rest in instructions if name in {"ENV", "ARG"})
    text += " ".join(rest for name, rest in instructions if name == "RUN" and "manage.py" in rest)
    return {name for name in re.findall(r"\b([A-Z_]+)=", text) if not NOT_OURS.fullmatch(name)}


def patterns(name: str) -> list[str]:
    lines = [line.strip() for line in read(name).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def fandogh_leaves_out(path: str) -> bool:
    """Match as the fandogh client does: with fnmatch, each pattern alone and with `/*` behind it."""
    if path == "Dockerfile":
        return False
    return any(
        fnmatch(path, pattern) or fnmatch(path, f"{pattern}/*")
        for pattern in [*patterns(".fandoghignore"), ".git"]
    )


def docker_leaves_out(path: str) -> bool:
    """Match as Docker does: `*` stops at a slash, `**/` is any folders, folders go as a whole."""
    as_regex = [
        re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        for pattern in patterns(".dockerignore")
    ]
    parts = PurePosixPath(path).parts
    folders = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(re.fullmatch(regex, folder) for regex in as_regex for folder in folders)


# --- Fandogh -------------------------------------------------------------------------------------
def test_fandogh_reaches_the_managed_services_by_their_names():
    env = fandogh_env()
    mysql = managed_service("mysql_deployment.yml")
    redis = managed_service("redis_deployment.yml")
    assert env["MYSQL_HOST"]["value"] == mysql["name"]
    assert urlsplit(env["REDIS_URL"]["value"]).hostname == redis["name"]


def test_fandogh_connects_to_mysql_as_the_user_that_root_has_made():
    made = yaml.safe_load(read("mysql_user_deployment.yml"))["spec"]
    by_name = {entry["name"]: entry for entry in made["env"]}
    (user,) = re.findall(r"database_user (\w+) --apply", made["command"][-1])
    assert by_name["MYSQL_USER"]["value"] == "root"
    root, users = by_name["MYSQL_PASSWORD"]["secret"], by_name["STORE_PASSWORD"]["secret"]
    for manifest in (fandogh(), worker()):
        env = {entry["name"]: entry for entry in manifest["spec"]["env"]}
        assert (env["MYSQL_USER"]["value"], env["MYSQL_PASSWORD"]["secret"]) == (user, users)
        assert root not in str(manifest)
        assert env["MYSQL_HOST"] == by_name["MYSQL_HOST"]
    assert worker()["spec"]["image"] == made["image"]


def test_fandogh_names_are_ones_that_the_platform_takes():
    user = yaml.safe_load(read("mysql_user_deployment.yml"))
    manifests = [fandogh(), worker(), user, *map(managed_service, MANAGED_SERVICES)]
    for manifest in manifests:
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", manifest["name"])
    assert [manifest["kind"] for manifest in manifests] == [
        "ExternalService",
        "InternalService",
        "InternalService",
        "ManagedService",
        "ManagedService",
    ]


def test_fandogh_serves_a_wsgi_module_that_imports():
    module = import_module(fandogh()["spec"]["source"]["wsgi"])
    assert callable(module.application)
    assert fandogh()["spec"]["source"]["wsgi"] in " ".join(fandogh()["spec"]["command"])


def test_fandogh_collects_static_files_where_the_store_looks_for_them():
    expected = Path(django_settings.STATIC_ROOT).relative_to(ROOT).as_posix()
    assert fandogh()["spec"]["source"]["static_path"] == expected


def test_fandogh_gets_its_python_version_as_a_string():
    version = fandogh()["spec"]["source"]["python_version"]
    assert isinstance(version, str)
    assert version in {"3.11", "3.12", "3.13"}


def test_a_plain_source_run_needs_no_parameter():
    # The client sends fandogh.yml as it stands, so that a placeholder would stay literal.
    assert "$" not in read("fandogh.yml")


@pytest.mark.parametrize(("name", "parameters"), MANAGED_SERVICES.items())
def test_a_managed_service_takes_its_password_alone_as_a_parameter(name, parameters):
    assert set(Template(read(name)).get_identifiers()) == parameters


@pytest.mark.parametrize("name", MANAGED_SERVICES)
def test_only_mysql_keeps_its_data_and_parameters_are_text(name):
    parameters = {
        entry["name"]: entry["value"] for entry in managed_service(name)["spec"]["parameters"]
    }
    # A cache that comes back with what was true before a crash would serve it.
    assert ("volume_name" in parameters) == (name == "mysql_deployment.yml")
    assert all(isinstance(value, str) for value in parameters.values())
    assert isinstance(managed_service(name)["spec"]["version"], str)


def test_fandogh_passes_every_value_as_text():
    assert all(isinstance(entry.get("value", ""), str) for entry in fandogh_env().values())


def test_fandogh_probes_the_port_that_the_store_opens():
    spec = fandogh()["spec"]
    probes = [spec["liveness_probe"]["http_get"], spec["readiness_probe"]["http_get"]]
    assert {probe["port"] for probe in probes} == {spec["port"]}
    assert fandogh_env()["PORT"]["value"] == str(spec["port"])
    assert [probe["path"] for probe in probes] == ["/healthz", "/readyz"]


def test_every_probed_path_is_one_that_the_store_answers():
    deployment = "".join(read(name) for name in ["Dockerfile", "compose.yaml", "fandogh.yml"])
    probed = set(re.findall(r"/\w+z\b", deployment))
    tree = ast.parse(read("store/health.py"))
    answered = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert probed == {"/healthz", "/readyz"}
    assert probed <= answered


def test_a_probe_is_answered_whatever_its_host_and_without_a_redirect(client, settings):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/store/").status_code == 301
    assert client.get("/healthz", headers={"host": "10.244.3.7:80"}).status_code == 200


# --- Variables -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("fandogh.yml", set(fandogh_env())),
        ("compose.yaml", set(compose_services()["web"]["environment"])),
        ("Dockerfile", variables_set_by_dockerfile()),
        (".env.example", set(env_example(commented_out=True))),
        ("the managed services", set().union(*MANAGED_SERVICES.values())),
        ("compose.yaml, from .env", set(re.findall(r"(?<!\$)\$\{(\w+)", read("compose.yaml")))),
    ],
)
def test_every_variable_that_is_set_is_one_that_the_settings_read(where, names):
    assert names
    assert names <= set(variables_read_by_settings()), where


def test_every_variable_that_the_settings_read_is_in_the_example():
    assert set(env_example(commented_out=True)) == set(variables_read_by_settings())


def test_every_variable_that_the_settings_read_is_in_the_readme():
    documented = re.findall(r"^\| `([A-Z_]+)`", read("docs/settings.md"), re.MULTILINE)
    assert set(variables_read_by_settings()) <= set(documented)


def test_no_secret_has_a_default_or_a_value_in_the_repository():
    read_by_settings = variables_read_by_settings()
    assert {name for name in read_by_settings if re.search("PASSWORD|SECRET", name)} == SECRETS
    for name in SECRETS:
        default = read_by_settings[name].args[1]
        assert isinstance(default, ast.Constant)
        assert default.value == ""
        assert env_example(commented_out=False)[name] == ""
        if name != "QUEUE_REDIS_PASSWORD":  # It has one Redis there.
            assert set(fandogh_env()[name]) == {"name", "secret"}
    assert set(env_example(commented_out=False)) == SECRETS
    assert not re.search("SECRET|PASSWORD", last_stage("ENV"))


def test_compose_stops_with_a_message_where_a_secret_is_missing():
    text = read("compose.yaml")
    references = re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", text)
    secrets = [(name, rest) for name, rest in references if name in SECRETS]
    assert {name for name, _ in secrets} == SECRETS
    assert all(re.fullmatch(rf":\?.*{name}.*", rest) for name, rest in secrets)
    for service in compose_services().values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|AUTH", name) and name != "MYSQL_RANDOM_ROOT_PASSWORD":
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name


# --- compose.yaml --------------------------------------------------------------------------------
def test_compose_checks_the_health_of_every_service_and_starts_the_store_last():
    services = compose_services()
    assert all("healthcheck" in service for service in services.values())
    healthy = {"condition": "service_healthy"}
    servers = dict.fromkeys(services.keys() - {"balancer", "web", "worker"}, healthy)
    assert services["web"]["depends_on"] == servers
    assert services["worker"]["depends_on"] == {"web": healthy}  # which has prepared the database
    assert services["balancer"]["depends_on"] == {"web": healthy}


def test_compose_passes_every_variable_of_the_example_on():
    environment = compose_services()["web"]["environment"]
    assert list(environment) == list(env_example(commented_out=True))


@pytest.mark.parametrize("name", compose_services())
def test_no_container_may_write_to_its_image_or_gain_a_right(name):
    service = compose_services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    if "build" not in service and name != "balancer":  # Those images have a user that is not root.
        assert service["user"] in ("mysql", "redis")  # These begin as root, unless they are told.


def test_compose_gives_each_server_a_password_of_its_own_and_the_store_no_root():
    services = compose_services()
    passwords = [
        services["mysql"]["environment"]["STORE_PASSWORD"],
        *(services[name]["environment"]["REDISCLI_AUTH"] for name in ("redis", "redis-queue")),
    ]
    assert len(set(passwords)) == 3
    assert services["web"]["environment"]["MYSQL_USER"] == "store"
    assert "root" not in services["web"]["environment"].values()
    assert set(passwords) <= set(services["web"]["environment"].values())


def test_no_variable_is_left_to_a_platform_that_names_its_own_after_services():
    """A service called `mysql` sets MYSQL_PORT=tcp://..., MYSQL_SERVICE_HOST and so on."""
    ours = set(variables_read_by_settings())
    names = [
        fandogh()["name"],
        worker()["name"],
        *(managed_service(one)["name"] for one in MANAGED_SERVICES),
    ]
    prefixes = [name.upper().replace("-", "_") for name in names]
    taken = {
        name for name in ours for prefix in prefixes if re.match(rf"{prefix}_(PORT|SERVICE)", name)
    }
    assert taken == {"MYSQL_PORT"}
    for manifest in (fandogh(), worker()):
        values = {entry["name"]: entry.get("value") for entry in manifest["spec"]["env"]}
        assert values["MYSQL_PORT"] == "3306"


def test_a_worker_has_the_settings_of_the_store():
    services = compose_services()
    assert services["worker"]["environment"] == services["web"]["environment"]
    assert services["worker"]["command"] == ["python", "manage.py", "rqworker"]
    assert worker()["spec"]["command"][-1].endswith("exec python manage.py rqworker")
    own = {entry["name"]: entry for entry in worker()["spec"]["env"]}
    assert own.items() <= fandogh_env().items()
    assert set(fandogh_env()) - set(own) == ONLY_FOR_THE_WEB


def test_compose_reaches_its_services_by_their_names():
    services = compose_services()
    env = services["web"]["environment"]
    assert env["MYSQL_HOST"] in services
    assert urlsplit(env["REDIS_URL"]).hostname == "redis"
    assert urlsplit(env["QUEUE_REDIS_URL"]).hostname == "redis-queue"
    assert {"redis", "redis-queue"} <= services.keys()


def test_compose_asks_redis_for_its_health_as_the_stores_user():
    for service in ("redis", "redis-queue"):
        asked = compose_services()[service]
        assert "redis-cli --user store ping" in asked["healthcheck"]["test"][1]
        assert "REDISCLI_AUTH" in asked["environment"]


def test_compose_publishes_the_balancer_on_this_machine_only():
    published = [
        port for service in compose_services().values() for port in service.get("ports", [])
    ]
    inside = compose_services()["web"]["environment"]["PORT"]
    assert published == [f"127.0.0.1:${{PORT:-8000}}:{inside}"]


def test_the_balancer_looks_for_the_web_hosts_where_compose_has_them():
    services = compose_services()
    configuration = read("deploy/haproxy.cfg")
    inside = services["web"]["environment"]["PORT"]
    assert set(re.findall(r"server-template \w+ \d+ (\S+)", configuration)) == {f"web:{inside}"}
    assert "container_name" not in services["web"]  # or it could not be scaled
    assert "ports" not in services["web"]
    assert re.findall(r"^\s+bind :(\d+)$", configuration, re.MULTILINE) == ["8000"]
    (mounted,) = services["balancer"]["volumes"]
    assert mounted.startswith("./deploy/haproxy.cfg:")
    assert services["web"]["environment"]["TRUST_PROXY"] == "on"


def test_the_balancer_notices_before_a_web_host_stops():
    configuration = read("deploy/haproxy.cfg")
    checks = set(re.findall(r"check inter (\d+)s fastinter (\d+)ms fall (\d+)", configuration))
    ((inter, fast, fall),) = checks
    noticed_seconds = int(inter) + (int(fall) - 1) * int(fast) / 1000
    web = compose_services()["web"]
    drain_seconds = float(web["environment"]["DRAIN_SECONDS"])
    assert noticed_seconds < drain_seconds
    graceful_seconds = int(
        re.search(r"^graceful_timeout = (\d+)$", read("gunicorn.conf.py"), re.M)[1]
    )
    assert drain_seconds + graceful_seconds < int(web["stop_grace_period"].removesuffix("s"))


# --- Dockerfile ----------------------------------------------------------------------------------
def test_the_image_has_no_compiler_and_does_not_run_as_root():
    assert len(dockerfile_stages()) > 1
    installed = last_stage("RUN")
    assert "libmariadb3" in installed
    assert not re.search(r"\bgcc\b|\bg\+\+|build-essential|pkg-config|-dev\b", installed)
    assert last_stage("USER") not in {"", "root", "0"}
    assert "--create-home" in installed  # gunicorn and others write to their user's home


def test_the_image_holds_only_what_the_dockerfile_names():
    instructions = [pair for stage in dockerfile_stages() for pair in stage]
    sources = {
        source
        for name, rest in instructions
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    files = {"requirements.lock", "manage.py", "gunicorn.conf.py", "docs/bench/results.json"}
    assert sources == files | {"bin/install"} | {
        "simple_django_redis",
        "freshcache",
        "store",
        "pages",
    }
    assert "ADD" not in {name for name, _ in instructions}


def test_the_image_holds_nothing_that_only_the_tests_or_the_installation_need():
    script = next(rest for name, rest in dockerfile_stages()[0] if "python -m venv" in rest)
    assert "bin/install /opt/venv/bin/python requirements.lock" in script
    assert "pip uninstall -q -y setuptools pip" in script
    assert not re.search("^(pytest|mirakuru|psutil)", read("requirements.lock"), re.MULTILINE)
    tests = read("requirements.txt").partition("\n# Tests\n")[2]
    assert "pytest" in tests  # bin/lock leaves out what stands there.
    assert "'/^# Tests$/,$d' requirements.txt" in read("bin/lock")


def test_the_image_and_fandogh_start_the_store_with_the_same_command():
    assert json.loads(last_stage("CMD")) == fandogh()["spec"]["command"]


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_the_health_check_of_the_image_follows_the_answer(status, exit_code):
    asked = []

    class Probed(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    command = json.loads(last_stage("HEALTHCHECK").partition("CMD ")[2])
    with HTTPServer(("127.0.0.1", 0), Probed) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        env = {**os.environ, "PORT": str(server.server_port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run(
            [sys.executable, *command[1:]], env=env, capture_output=True, check=False, timeout=30
        )
        server.shutdown()
        serving.join()
    assert command[0] == "python"
    assert done.returncode == exit_code
    assert asked == ["/healthz"]


# --- What leaves the machine ---------------------------------------------------------------------
@pytest.mark.parametrize("path", MUST_NOT_LEAK)
def test_private_and_made_files_stay_here(path):
    assert fandogh_leaves_out(path)
    assert docker_leaves_out(path)


@pytest.mark.parametrize("path", MUST_BE_SENT)
def test_what_the_store_is_built_from_is_sent(path):
    assert (ROOT / path).is_file()
    assert not fandogh_leaves_out(path)
    assert not docker_leaves_out(path)


def test_the_fandogh_ignore_file_uses_only_what_its_client_understands():
    for pattern in patterns(".fandoghignore"):
        assert not pattern.endswith("/")
        assert not pattern.startswith(("!", "/"))
        assert "**" not in pattern
