"""Connections to Redis are few and nobody else's, and what Redis throws out is missed by nobody."""

import itertools
import threading
from collections.abc import Iterator

import psutil
import pytest
from django.conf import settings
from mirakuru import TCPExecutor
from redis import Redis

from tests.preloaded import ROOT
from tests.processes import Answer, StoreProcess
from tests.servers import PATIENT_BUDGET_SECONDS, free_port, start_redis
from tests.visitors import ask_at_once, complaints, cookies, is_hit, prices
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

WORKERS, THREADS = 2, 4
BOOKS = [1000, 2000, None]


@pytest.fixture
def server() -> Iterator[TCPExecutor]:
    executor = start_redis(free_port())
    yield executor
    executor.kill()


def open_on(open_store, server: TCPExecutor, *arguments: str, **variables: str) -> StoreProcess:
    arguments += ("--workers", str(WORKERS), "--threads", str(THREADS))
    variables |= {"REDIS_URL": f"redis://127.0.0.1:{server.port}/0"}
    # Patience, as only those tests here are about outages that end or begin them.
    variables.setdefault("CACHE_BUDGET_SECONDS", PATIENT_BUDGET_SECONDS)
    return open_store(*arguments, SECRET_KEY=settings.SECRET_KEY, **variables)


def at_most(max_connections: int) -> int:
    """The formula: a process has one connection a thread, and one more while it recovers."""
    return min(max_connections, THREADS + 1)


def clients(redis: Redis) -> list[str]:
    """Return the addresses of all clients of a server but this one."""
    own = redis.client_info()["addr"]
    return [one["addr"] for one in redis.client_list() if one["addr"] != own]


def visit(store: StoreProcess, editor) -> None:
    """Ask for everything that uses Redis, lists and sessions, with all threads at once."""
    readers = [threading.Thread(target=ask_at_once, args=(store,)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(5):
        assert store.get("/admin/", cookies(editor)).status == 200
    for reader in readers:
        reader.join()


@pytest.mark.parametrize("max_connections", [50, 2])
def test_a_process_has_no_more_connections_than_the_formula_says(
    max_connections, open_store, server, editor, books
):
    store = open_on(open_store, server, REDIS_MAX_CONNECTIONS=str(max_connections))
    with Redis(port=server.port, single_connection_client=True) as redis:
        for _ in range(5):
            redis.delete(f"{settings.PROJECT_NAME}:1:product")
            visit(store, editor)
        wait_for(lambda: visit(store, editor) or len(store.sockets(server.port)) == WORKERS)
        by_process = store.sockets(server.port)
        assert max(by_process.values()) <= at_most(max_connections)
        assert WORKERS <= len(clients(redis)) <= WORKERS * at_most(max_connections)
    assert complaints(store.log) == []


def test_restarts_and_failovers_of_redis_leak_no_connection(open_store, server, editor, books):
    store = open_on(open_store, server)
    wait_for(lambda: all(map(is_hit, ask_at_once(store))))
    server.kill()
    ask_at_once(store)
    server.start()
    wait_for(lambda: all(map(is_hit, ask_at_once(store))))
    with Redis(port=server.port, single_connection_client=True) as redis:
        for _ in range(5):
            visit(store, editor)
            redis.client_kill_filter(_type="normal", skipme=True)
        visit(store, editor)
        wait_for(lambda: all(map(is_hit, ask_at_once(store))))
        assert max(store.sockets(server.port).values()) <= at_most(50)
        assert len(clients(redis)) <= WORKERS * at_most(50)


# --- gunicorn --preload ---------------------------------------------------------------------------

PRELOADING = """
exec(compile(open({original!r}).read(), {original!r}, "exec"))
preload_app = True

def when_ready(server):
    from django.db import connection
    from store.catalogue import ProductQuery, list_products_cached
    list_products_cached(ProductQuery())
    connection.close()
"""


@pytest.fixture
def open_preloaded(open_store, server, tmp_path):
    """Open a store whose master has used the cache before it forks its workers."""
    config = tmp_path / "preloading.conf.py"
    config.write_text(PRELOADING.format(original=str(ROOT / "gunicorn.conf.py")))
    return lambda: open_on(open_store, server, "--config", str(config))


def test_processes_forked_from_one_that_uses_redis_share_no_connection(
    open_preloaded, server, books
):
    store = open_preloaded()
    answers = [answer for _ in range(10) for answer in ask_at_once(store)]
    # A worker that stalls leaves all of them to the other.
    wait_for(lambda: ask_at_once(store) and len(store.sockets(server.port)) == 1 + WORKERS)
    assert [prices(answer) for answer in answers] == [BOOKS] * len(answers)
    assert all(map(is_hit, answers))  # The master has filled the entry.
    master = psutil.Process(store.process.pid)
    local_ports = {
        process.pid: {
            one.laddr.port
            for one in process.net_connections("tcp")
            if one.raddr and one.raddr.port == server.port
        }
        for process in [master, *master.children()]
    }
    assert len(local_ports) == 1 + WORKERS
    assert all(local_ports.values())
    assert len(set.union(*local_ports.values())) == sum(map(len, local_ports.values()))
    assert complaints(store.log) == []


def test_processes_forked_during_an_outage_find_redis_again(open_preloaded, server, books):
    server.kill()
    store = open_preloaded()
    assert {answer.status for answer in ask_at_once(store)} == {200}
    server.start()
    wait_for(lambda: all(map(is_hit, ask_at_once(store))))


# --- Eviction -------------------------------------------------------------------------------------


def test_a_flood_of_other_keys_makes_no_answer_wrong_and_logs_nobody_out(
    open_store, editor, demo_books
):
    server = start_redis(free_port(), "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru")
    try:
        store = open_on(open_store, server)
        whole = store.get("/store/").json["results"]
        assert len(whole) == demo_books
        with Redis(port=server.port) as redis:
            flooded = threading.Event()
            wrong: list[Answer] = []

            def read() -> None:
                while not flooded.is_set():
                    cached = store.get("/store/cached/")
                    if cached.status not in (200, 201) or cached.json["results"] != whole:
                        wrong.append(cached)
                    page = store.get("/admin/", cookies(editor))
                    if page.status != 200:
                        wrong.append(page)

            reader = threading.Thread(target=read)
            reader.start()
            try:
                for first in range(0, 40_000, 500):
                    redis.mset({f"flood:{first + n}": "x" * 1000 for n in range(500)})
            finally:
                flooded.set()
                reader.join()
            assert wrong == []
            assert redis.info("stats")["evicted_keys"] > 10_000
            rounds = itertools.count()

            def is_flooded_out() -> bool:
                """Flood on, now that nobody keeps the store's keys recently used."""
                number = next(rounds)
                redis.mset({f"again:{number}:{n}": "x" * 1000 for n in range(500)})
                return not list(redis.scan_iter(f"{settings.PROJECT_NAME}:*"))

            # Redis evicts the oldest of some keys that it picks at random, not the oldest of all.
            wait_for(is_flooded_out)
        assert store.get("/admin/", cookies(editor)).status == 200
        for answer in ask_at_once(store):
            assert answer.status in (200, 201)
            assert answer.json["results"] == whole
    finally:
        server.kill()
