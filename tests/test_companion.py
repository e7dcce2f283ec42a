"""One command for the whole store: gunicorn with a worker beside it, as `make run` starts it."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from simple_django_redis.companion import Companion
from simple_django_redis.embedded import answers, socket_path
from tests.servers import free_port, temporary_folder
from tests.test_embedded import start
from tests.test_settings import manage
from tests.waiting import wait_for

Gunicorn = subprocess.Popen[bytes]


@pytest.fixture
def open_all():
    """Start gunicorn with its worker, on an embedded default of its own."""
    opened: list[Gunicorn] = []

    def open_one(var_dir: Path) -> Gunicorn:
        assert manage("prepare", VAR_DIR=str(var_dir)).returncode == 0
        variables = {"PORT": str(free_port()), "RUN_WORKER": "on"}
        opened.append(start(var_dir, "-m", "gunicorn", "simple_django_redis.wsgi", **variables))
        return opened[-1]

    yield open_one
    for gunicorn in opened:
        if gunicorn.returncode is None:
            gunicorn.send_signal(signal.SIGTERM)
            gunicorn.communicate(timeout=30)


def workers_of(gunicorn: Gunicorn) -> list[psutil.Process]:
    children = psutil.Process(gunicorn.pid).children()
    return [child for child in children if "rqworker" in command_of(child)]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # It has just ended.
        return []


def has_scheduler(gunicorn: Gunicorn) -> bool:
    return any(worker.children() for worker in workers_of(gunicorn))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_store_and_its_worker_share_the_embedded_server_and_end_together(open_all, signum):
    var_dir = temporary_folder()
    gunicorn = open_all(var_dir)
    wait_for(lambda: has_scheduler(gunicorn))
    code = "from store import queues; queues.enqueue('store.jobs.clear_sessions', job_id='one')"
    assert manage("shell", "-c", code, VAR_DIR=str(var_dir)).returncode == 0
    started = psutil.Process(gunicorn.pid).children(recursive=True)
    code = "from store import queues; print(queues.find('one').get_status().value)"
    wait_for(
        lambda: manage("shell", "-v0", "-c", code, VAR_DIR=str(var_dir)).stdout == "finished\n"
    )

    gunicorn.send_signal(signum)
    output, _ = gunicorn.communicate(timeout=30)

    assert gunicorn.returncode == 0, output.decode()
    assert b"/django-rq/" in output
    assert b"Traceback" not in output
    assert not [process for process in started if process.is_running()]
    assert not answers(socket_path(var_dir))


def test_a_worker_that_is_killed_is_started_again_and_the_server_stays(open_all):
    gunicorn = open_all(temporary_folder())
    wait_for(lambda: workers_of(gunicorn))
    (first,) = workers_of(gunicorn)
    servers = [child for child in psutil.Process(gunicorn.pid).children() if child != first]
    first.kill()
    wait_for(lambda: workers_of(gunicorn) and first not in workers_of(gunicorn))
    assert all(server.is_running() for server in servers)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a child to its parent")
def test_a_store_that_is_killed_takes_its_worker_along(open_all):
    gunicorn = open_all(temporary_folder())
    wait_for(lambda: has_scheduler(gunicorn))
    started = psutil.Process(gunicorn.pid).children(recursive=True)
    gunicorn.kill()
    gunicorn.communicate(timeout=30)
    wait_for(lambda: not any(process.is_running() for process in started))


def test_a_process_that_does_not_stop_is_ended_by_force(monkeypatch, tmp_path):
    monkeypatch.setattr("simple_django_redis.companion.STOP_SECONDS", 0.2)
    monkeypatch.setattr("simple_django_redis.companion.PAUSE_SECONDS", 0.01)
    sign = tmp_path / "deaf"
    code = "import os, pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    code += f"pathlib.Path({str(sign)!r}).write_text(str(os.getpid())); signal.pause()"
    deaf = Companion([sys.executable, "-c", code])
    deaf.start({})
    wait_for(lambda: sign.exists() and sign.read_text())
    deaf.stop()
    assert not psutil.pid_exists(int(sign.read_text()))
