"""The embedded default: nothing has to be started by hand, and nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from simple_django_redis import embedded
from simple_django_redis.embedded import answers, socket_path
from tests.preloaded import ROOT
from tests.processes import clean_environment
from tests.servers import free_port, temporary_folder
from tests.test_settings import manage
from tests.waiting import wait_for


def start(var_dir: Path, *command: str, **variables: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=clean_environment(VAR_DIR=str(var_dir), **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def owner_of(var_dir: Path) -> "subprocess.Popen[bytes]":
    """A process that has started the server of `var_dir` and waits for its input to end."""
    code = "import sys; from pathlib import Path; from simple_django_redis import embedded;"
    code += f"embedded.ensure_running(Path({str(var_dir)!r})); print('up', flush=True);"
    process = start(var_dir, "-c", code + "sys.stdin.read()")
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    return process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_gunicorn_ends_every_process_that_it_started(signum):
    var_dir = temporary_folder()
    gunicorn = start(var_dir, "-m", "gunicorn", "simple_django_redis.wsgi", PORT=str(free_port()))
    wait_for(lambda: answers(socket_path(var_dir)))
    wait_for(lambda: len(psutil.Process(gunicorn.pid).children()) == 3)  # two workers and Valkey
    started = psutil.Process(gunicorn.pid).children(recursive=True)

    gunicorn.send_signal(signum)
    output, _ = gunicorn.communicate(timeout=30)

    assert gunicorn.returncode == 0, output.decode()
    assert b"/store/cached/" in output
    assert not [process for process in started if process.is_running()]
    assert not answers(socket_path(var_dir))


def test_a_port_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        gunicorn = start(
            temporary_folder(), "-m", "gunicorn", "simple_django_redis.wsgi", PORT=port
        )
        output, _ = gunicorn.communicate(timeout=30)
    assert gunicorn.returncode == 1
    assert output.decode().splitlines()[-1].startswith(f"Cannot start: 127.0.0.1:{port}: Address")
    assert b"Traceback" not in output


def test_a_server_that_answers_is_shared_and_ended_by_its_owner_only():
    var_dir = temporary_folder()
    owner = owner_of(var_dir)
    try:
        code = "from django.core.cache import cache; cache.set('x', [1]); print(cache.get('x'))"
        second = manage("shell", "--no-imports", "-c", code, VAR_DIR=str(var_dir))
        assert second.stdout.strip() == "[1]", second.stderr
        assert answers(socket_path(var_dir))
    finally:
        owner.communicate(timeout=20)
    assert not answers(socket_path(var_dir))


def test_processes_that_start_together_start_one_server():
    var_dir = temporary_folder()
    code = "import sys; from pathlib import Path; from simple_django_redis import embedded;"
    code += f"embedded.ensure_running(Path({str(var_dir)!r})); print('up', flush=True); sys.stdin.read()"
    processes = [start(var_dir, "-c", code) for _ in range(4)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
    servers = [child for process in processes for child in psutil.Process(process.pid).children()]
    assert len(servers) == 1
    for process in processes:
        process.communicate(timeout=20)
    assert not servers[0].is_running()


def test_a_server_that_is_merely_slow_is_not_taken_over(monkeypatch):
    monkeypatch.setattr(embedded, "ANSWER_TIMEOUT_SECONDS", 0.2)
    var_dir = temporary_folder()
    owner = owner_of(var_dir)
    (server,) = psutil.Process(owner.pid).children()
    server.suspend()
    try:
        with pytest.raises(embedded.EmbeddedRedisError, match="does not answer"):
            embedded.ensure_running(var_dir)
    finally:
        server.resume()
    wait_for(lambda: answers(socket_path(var_dir)))
    owner.communicate(timeout=20)


def test_a_socket_that_something_removes_leaves_no_second_server_behind():
    var_dir = temporary_folder()
    embedded.ensure_running(var_dir)
    (first,) = [one for one in psutil.Process().children() if str(var_dir) in str(one.cmdline())]
    socket_path(var_dir).unlink()
    embedded.ensure_running(var_dir)
    assert answers(socket_path(var_dir))
    assert not first.is_running()


def test_a_store_that_shared_a_server_goes_on_when_its_owner_ends():
    var_dir = temporary_folder()
    owner = owner_of(var_dir)
    gunicorn = start(var_dir, "-m", "gunicorn", "simple_django_redis.wsgi", PORT=str(free_port()))
    wait_for(lambda: len(psutil.Process(gunicorn.pid).children()) == 2)
    assert gunicorn.stdout
    while b"/readyz" not in gunicorn.stdout.readline():
        pass
    owner.communicate(timeout=20)
    wait_for(lambda: answers(socket_path(var_dir)))
    gunicorn.send_signal(signal.SIGTERM)
    gunicorn.communicate(timeout=30)
    assert not answers(socket_path(var_dir))


@pytest.mark.parametrize("name", ["with space", "100%41", "a?b#c"])
def test_a_checkout_with_an_odd_path_works(name):
    var_dir = temporary_folder() / name
    code = "from store.health import cache_state; print(cache_state())"
    assert manage("shell", "--no-imports", "-c", code, VAR_DIR=str(var_dir)).stdout == "ok\n"


def test_a_folder_that_cannot_be_made_is_one_clear_line():
    stopped = manage("check", VAR_DIR="/proc/store")
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("Cannot start: ")
    assert stopped.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a child to its parent")
def test_an_owner_that_is_killed_takes_the_server_along():
    var_dir = temporary_folder()
    owner = owner_of(var_dir)
    owner.kill()
    owner.communicate(timeout=20)
    wait_for(lambda: not answers(socket_path(var_dir)))


def test_a_checkout_with_a_path_too_long_for_a_socket_works(tmp_path):
    var_dir = tmp_path / ("long" * 30) / "var"
    path = socket_path(var_dir)
    assert len(os.fsencode(path)) <= embedded.MAX_SOCKET_PATH_BYTES
    owner = owner_of(var_dir)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    owner.communicate(timeout=20)


def test_a_socket_folder_that_others_can_write_to_is_refused(tmp_path):
    var_dir = tmp_path / ("long" * 30) / "var"
    folder = socket_path(var_dir).parent
    folder.mkdir(mode=0o755)
    try:
        with pytest.raises(embedded.EmbeddedRedisError, match="not a private folder"):
            embedded.ensure_running(var_dir)
    finally:
        folder.rmdir()


def test_a_server_that_does_not_start_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "get_binary_path", lambda: Path("/bin/false"))
    with pytest.raises(embedded.EmbeddedRedisError, match="did not start; see"):
        embedded.ensure_running(tmp_path)


def test_a_forked_child_leaves_its_parents_server_alone():
    var_dir = temporary_folder()
    code = "import os, sys; from pathlib import Path; from simple_django_redis import embedded;"
    code += f"embedded.ensure_running(Path({str(var_dir)!r}));"
    code += "child = os.fork(); child or sys.exit(); os.waitpid(child, 0);"
    owner = start(var_dir, "-c", code + "print('child ended', flush=True); sys.stdin.read()")
    assert owner.stdout
    assert owner.stdout.readline() == b"child ended\n"
    assert answers(socket_path(var_dir))
    owner.communicate(timeout=20)


def test_a_child_forked_while_the_server_is_looked_after_does_not_keep_the_lock():
    var_dir = temporary_folder()
    owner = owner_of(var_dir)
    code = f"""
import os, sys
from pathlib import Path
from simple_django_redis import embedded

answers = embedded.answers

def fork_and_ask(path):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    return answers(path)

embedded.answers = fork_and_ask
embedded.ensure_running(Path({str(var_dir)!r}))
print("up", flush=True)
sys.stdin.read()
"""
    forking = start(var_dir, "-c", code)
    assert forking.stdout
    assert forking.stdout.readline() == b"up\n"
    third = manage("shell", "--no-imports", "-c", "print(1)", VAR_DIR=str(var_dir))
    assert third.stdout == "1\n", third.stderr
    for process in (forking, owner):
        process.communicate(timeout=20)


def test_something_that_is_no_redis_does_not_count_as_an_answer(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        assert not answers(path)
        thread.join()
