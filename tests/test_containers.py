"""The containers of deploy/k8s/ with all that their manifests take from them: they work all the same."""

import base64
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings

from tests import container
from tests.manifests import BASE, EXAMPLE, pods, variables
from tests.servers import PATIENT_BUDGET_SECONDS, free_port
from tests.test_database import missing_database  # noqa: F401

REASON_NOT_TO = container.reason_not_to()
pytestmark = [
    pytest.mark.mysql,
    pytest.mark.skipif(REASON_NOT_TO is not None, reason=str(REASON_NOT_TO)),
]
PATIENCE_SECONDS = 60
# Together more than Django keeps in memory (FILE_UPLOAD_MAX_MEMORY_SIZE, 2.5 MB).
ROWS, DESCRIPTION, LINE_END = 800, "x" * 4000, "\n"
LOOK_AROUND = """
import os
for path in ("/app", "/app/var", "/usr", "/etc", "/dev", "/tmp", "/dev/shm"):
    try:
        open(f"{path}/new", "w")
        print(path)
    except OSError:
        pass
print(os.getuid(), os.getgid(), os.getgroups(), open("/proc/self/status").read())
"""
AS_THE_INGRESS = {
    "Host": variables(EXAMPLE / "settings.env")["ALLOWED_HOSTS"],
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "203.0.113.9",
}


@dataclass(frozen=True)
class Running:
    """A container, and what it prints."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        return self.log.read_text()

    def runs(self) -> bool:
        return self.process.poll() is None

    def code(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        self.process.terminate()
        return self.code()


class Pods:
    """Containers of the manifests on the suite's database server and a Redis of their own."""

    def __init__(self, folder: Path, database: str, redis_port: int) -> None:
        self._folder = folder
        self._started: list[Running] = []
        self._port = free_port()
        self._password = secrets.token_urlsafe(20)
        redis_url = f"redis://127.0.0.1:{redis_port}/0"
        self._variables = {
            **variables(BASE / "settings.env"),
            **variables(EXAMPLE / "settings.env"),
            "MYSQL_HOST": settings.MYSQL_HOST,
            "MYSQL_PORT": str(settings.MYSQL_PORT),
            "MYSQL_NAME": database,
            "MYSQL_USER": settings.MYSQL_USER,
            "MYSQL_PASSWORD": settings.MYSQL_PASSWORD,
            "REDIS_URL": redis_url,
            "QUEUE_REDIS_URL": redis_url,
            "PORT": str(self._port),
            "SECRET_KEY": secrets.token_urlsafe(50),
            "METRICS_ALLOW": "127.0.0.1",
            # A machine that stalls must not count as an outage.
            "CACHE_BUDGET_SECONDS": PATIENT_BUDGET_SECONDS,
            "DJANGO_SUPERUSER_PASSWORD": self._password,
        }

    def lose_database(self) -> None:
        """Start containers from now on where no database answers."""
        self._variables["MYSQL_PORT"] = str(free_port())

    def start(self, pod: str, name: str, *command: str) -> Running:
        """Start a container, or `command` in its place."""
        log = self._folder / f"{name}-{len(self._started)}.log"
        process = container.start(pod, name, self._variables, log, list(command) or None)
        self._started.append(Running(process, log))
        return self._started[-1]

    def finish(self, pod: str, name: str, *command: str) -> str:
        """Run a container to its end and return what it said."""
        one = self.start(pod, name, *command)
        assert one.code() == 0, one.said()
        return one.said()

    def ask(self, path: str, headers: dict[str, str], **upload: Any) -> requests.Response:
        """Ask the web; with `upload`, send it something."""
        url = f"http://127.0.0.1:{self._port}{path}"
        with requests.Session() as session:
            session.trust_env = False
            method = "POST" if upload else "GET"
            return session.request(method, url, headers=headers, timeout=PATIENCE_SECONDS, **upload)

    def ask_as_staff(self, path: str, **upload: Any) -> requests.Response:
        credentials = base64.b64encode(f"staff:{self._password}".encode()).decode()
        headers = {**AS_THE_INGRESS, "Authorization": f"Basic {credentials}"}
        return self.ask(path, headers, **upload)

    def answers(self, path: str) -> bool:
        """Say whether the web answers the kubelet or Prometheus, who know its address alone."""
        try:
            return self.ask(path, {"Host": "10.244.3.7:8000"}).status_code == 200
        except requests.ConnectionError:
            return False

    def close(self) -> None:
        for one in filter(Running.runs, self._started):
            one.stop()


@pytest.fixture
def cluster(tmp_path, missing_database, queue_server):  # noqa: F811
    found = Pods(tmp_path, missing_database, queue_server.port)
    yield found
    found.close()


def wait_until(holds: Callable[[], bool], by: Running) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert by.runs(), by.said()
        assert time.monotonic() < deadline, by.said()
        time.sleep(0.1)


def test_the_whole_store_runs_with_nothing_to_write_to_but_the_webs_empty_folders(cluster):
    waiting = cluster.start("web", "wait-for-prepare")
    assert "The store has 234 products." in cluster.finish("prepare", "prepare")
    assert waiting.code() == 0
    assert "The store has 234 products." not in cluster.finish("prepare", "prepare")
    staff = ["--noinput", "--username=staff", "--email=staff@store.example"]
    cluster.finish("prepare", "prepare", "python", "manage.py", "createsuperuser", *staff)

    web = cluster.start("web", "web")
    wait_until(lambda: cluster.answers("/readyz"), web)
    assert cluster.answers("/metrics")
    read = [cluster.ask("/store/cached/", AS_THE_INGRESS) for _ in range(2)]
    assert [one.json()["from_cache"] for one in read] == [False, True]

    worker = cluster.start("worker", "worker")
    products = "id,name,price,desc\n" + "".join(
        f"{n},Book {n},{n},{DESCRIPTION}{LINE_END}" for n in range(1, ROWS)
    )
    imported = cluster.ask_as_staff("/store/imports/", files={"file": ("all.csv", products)})
    exported = cluster.ask_as_staff("/store/exports/", json={})
    for asked in (imported, exported):
        assert asked.status_code == 202, asked.text
        job = asked.headers["Location"]
        wait_until(lambda job=job: cluster.ask_as_staff(job).json()["state"] == "done", worker)

    for one in (worker, web):
        assert one.stop() == 0
        assert "Traceback" not in one.said(), one.said()
    assert "all are right" in cluster.finish("check-cache", "check-cache")


def test_a_web_that_begins_anew_without_the_database_serves_what_is_cached(cluster):
    cluster.finish("prepare", "prepare")
    web = cluster.start("web", "web")
    wait_until(lambda: cluster.answers("/healthz"), web)
    assert cluster.ask("/store/cached/", AS_THE_INGRESS).status_code == 201
    assert web.stop() == 0
    cluster.lose_database()
    web = cluster.start("web", "web")
    (container,) = pods()["web"]["spec"]["containers"]
    started = container["startupProbe"]["httpGet"]["path"]  # Else the kubelet would end it.
    wait_until(lambda: cluster.answers(started), web)
    read = cluster.ask("/store/cached/", AS_THE_INGRESS)
    assert (read.status_code, read.json()["from_cache"]) == (200, True)
    assert web.stop() == 0


def test_who_waits_for_the_tables_goes_on_waiting_while_there_are_none(cluster):
    waiting = cluster.start("worker", "wait-for-prepare")
    wait_until(lambda: waiting.said().count("Unknown database") > 1, waiting)
    assert waiting.runs()


def test_the_surroundings_are_those_of_the_manifest(cluster):
    """Were they not, the tests above would show nothing."""
    said = cluster.finish("web", "web", "python", "-c", LOOK_AROUND)
    writable, _, status = said.partition("10001 10001 []")
    assert writable.split() == ["/tmp", "/dev/shm"]
    assert "NoNewPrivs:\t1" in status
    for rights in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{rights}:\t0000000000000000" in status
