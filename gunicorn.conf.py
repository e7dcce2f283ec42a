"""How gunicorn serves the store; `gunicorn simple_django_redis.wsgi` in this folder reads it."""

import errno
import logging
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simple_django_redis.settings")


from simple_django_redis import metric_files

# Before anything imports prometheus_client: where the workers put what they count.
# A reload (SIGHUP) reads this file again in the same master, which goes on counting in the same files.
if os.environ.get("METRICS_MASTER") != str(os.getpid()):
    os.environ["METRICS_MASTER"] = str(os.getpid())
    metric_files.make_folder()
slot_of_this_process: dict[str, int | str] = {"slot": "master"}

from django.conf import settings

from simple_django_redis import companion, demo_token, draining, embedded
from simple_django_redis.startup import start_embedded_redis

metric_files.use(lambda: slot_of_this_process["slot"])

if not demo_token.value:  # A reload reads this file again, too.
    demo_token.make()

# Wrong settings end the start here, with one line, instead of in every worker for ever.
start_embedded_redis()

is_ipv6 = ":" in settings.BIND_ADDRESS
bind = f"{f'[{settings.BIND_ADDRESS}]' if is_ipv6 else settings.BIND_ADDRESS}:{settings.PORT}"
workers = settings.WEB_CONCURRENCY
# Threads, as each open stream of /store/events/ waits in one, and the rest of the store, database drivers
# included, waits as well: an asynchronous worker would need all of that rewritten. A stream costs a
# thread's stack, and four threads are left for requests however many clients listen. In the same run
# (docs/bench/README.md, hits a second, two cores): two sync workers 8,205, two with 4 threads 9,867, two
# with 8 threads 9,678; without keep-alive 5,429, behind nginx 5,953. Threads cost a hit 0.01 ms of CPU.
worker_class = "simple_django_redis.web_worker.Worker"
threads = 4 + settings.EVENTS_MAX_CLIENTS
timeout = 30
graceful_timeout = 10
# Behind a proxy longer than it keeps idle connections (HAProxy here 30 s, nginx 60), or a request might
# come on one that is just being closed.
keepalive = 75 if settings.TRUST_PROXY else 5
loglevel = settings.LOG_LEVEL.lower()
# What is no HTTP is answered 400, and its client's to know: a log that anybody can fill helps nobody.
logging.getLogger("gunicorn.error").addFilter(
    lambda record: "Invalid request" not in str(record.msg)
)
# Heartbeat files on a disk can block a worker; /dev/shm is memory.
worker_tmp_dir = next((path for path in ["/dev/shm"] if Path(path).is_dir()), None)  # noqa: S108
# Its path is shared by all instances of a user, and nothing here uses it.
control_socket_disable = True
# Django decides whom to believe (TRUST_PROXY), not gunicorn, which trusts loopback by default.
forwarded_allow_ips = ""


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the lowest free slot, so that restarts go on counting in the same files."""
    taken = {other.metrics_slot for other in server.WORKERS.values()}
    worker.metrics_slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)


def post_fork(_server: Any, worker: Any) -> None:
    slot_of_this_process["slot"] = worker.metrics_slot
    metric_files.see_to_folder()


def post_worker_init(worker: Any) -> None:
    """Let open streams see that their worker is to end, or it would wait for them; let /readyz say so."""
    from store import health, server_sent_events  # Django has been set up by now.

    server_sent_events.process_is_ending = lambda: not worker.alive
    health.process_is_ending = lambda: draining.is_draining() or not worker.alive


def child_exit(_server: Any, worker: Any) -> None:
    metric_files.forget_process(worker.metrics_slot)  # A gauge of a dead worker says nothing.


def on_starting(_server: Any) -> None:
    """End the start with one line if somebody else listens on the port already."""
    if "GUNICORN_FD" in os.environ:
        return  # An upgrade in place inherits the sockets.
    try:
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        with socket.create_server((settings.BIND_ADDRESS, settings.PORT), family=family):
            pass
    except OSError as error:
        hint = " Another port is chosen with PORT=8001." if error.errno == errno.EADDRINUSE else ""
        sys.exit(f"Cannot start: {bind}: {os.strerror(error.errno or 0)}.{hint}")


def when_ready(_server: Any) -> None:
    if settings.DRAIN_SECONDS:
        draining.before_end(settings.DRAIN_SECONDS)
    if settings.EMBEDDED_REDIS:
        threading.Thread(target=embedded.keep_running, args=[settings.VAR_DIR], daemon=True).start()
    if settings.RUN_WORKER:
        # What it counts is not for the files of the web server's workers.
        metrics = ("METRICS_MASTER", metric_files.VARIABLE)
        companion.worker.start(
            {name: os.environ[name] for name in os.environ if name not in metrics}
        )
    if settings.BIND_ADDRESS != "127.0.0.1" and not settings.DEMO:
        return  # Not where people open it: a proxy or a container's published port is.
    url = f"http://{bind}"
    secret = (
        f"demo/{demo_token.value}/   opens all of it to you, and to who else has this address\n  "
    )
    opened = f"{secret}{url}/" if settings.DEMO else ""
    print(
        f"""
The store is open (Ctrl-C closes it):
  {url}/{opened}                watch the cache work
  {url}/store/          products, read from the database every time
  {url}/store/cached/   the same, from the cache
  {url}/store/products/ one by one, to read and change
  {url}/admin/          sign in; make a user: .venv/bin/python manage.py createsuperuser
  {url}/django-rq/      background jobs, for superusers
  {url}/readyz          health of database and cache
""",
        flush=True,
    )


def on_exit(_server: Any) -> None:
    companion.worker.stop()
