"""A machine whose cores are all busy: the process' own lateness is taken for nobody's slowness."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from store.models import Product
from tests.processes import Answer, StoreProcess
from tests.waiting import wait_for

# Ends with the test, even if that is killed.
BUSY_LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
# What users have, in the place of what the suite's patience is.
AS_USERS_HAVE_IT = {"CACHE_BUDGET_SECONDS": "0.25", "MYSQL_TIMEOUT_SECONDS": "2"}
PRODUCT_QUERY = "%FROM `store_product`%"


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """Twice as many busy loops as cores."""
    command = [sys.executable, "-c", BUSY_LOOP]
    loops = [subprocess.Popen(command) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.fixture
def product_queries(transactional_db: None) -> Iterator[Callable[[], int]]:
    """Return how many product queries the database has been asked since it was last asked this."""

    def count() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SET GLOBAL general_log = OFF")
            cursor.execute(
                "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE %s", [PRODUCT_QUERY]
            )
            (found,) = cursor.fetchone()
            cursor.execute("TRUNCATE mysql.general_log")
            cursor.execute("SET GLOBAL general_log = ON")
        return int(found)

    with connection.cursor() as cursor:
        cursor.execute("SET GLOBAL log_output = 'TABLE'")
    count()
    yield count
    with connection.cursor() as cursor:
        cursor.execute("SET GLOBAL general_log = OFF")


def get_at_once(store: StoreProcess, count: int) -> list[Answer]:
    barrier = threading.Barrier(count)

    def get(_: int) -> Answer:
        barrier.wait()
        return store.get("/store/cached/")

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(get, range(count)))


@pytest.mark.mysql
@pytest.mark.alone  # It takes all cores, and counts all queries of the server.
@pytest.mark.parametrize(
    ("requests", "workers", "threads"),
    [
        (200, 4, 8),
        pytest.param(200, 2, 24, marks=pytest.mark.second_look),
        pytest.param(1000, 4, 8, marks=pytest.mark.second_look),
        pytest.param(1000, 2, 24, marks=pytest.mark.second_look),
    ],
)
def test_few_queries_for_all_who_ask_at_once_on_a_busy_machine(
    requests, workers, threads, open_store, demo_books, redis: Redis, product_queries, busy_cores
):
    arguments = ("--workers", str(workers), "--threads", str(threads))
    store = open_store(*arguments, **AS_USERS_HAVE_IT, LOCAL_CACHE="on")
    entry = f"{settings.PROJECT_NAME}:1:product"

    def expire() -> None:
        redis.pexpire(entry, 1)
        wait_for(lambda: not redis.exists(entry))

    makes_missing: dict[str, Callable[[], Any]] = {
        "cold": lambda: None,
        "invalidated": lambda: Product.objects.filter(name="Book A").update(price=1),
        "expired": expire,
    }
    seen = {}
    for state, make_missing in makes_missing.items():
        make_missing()
        product_queries()
        answers = get_at_once(store, requests)
        how = Counter((answer.status, answer.headers["Cache-Status"][:30]) for answer in answers)
        seen[state] = (product_queries(), how)
    # On an idle machine it is one (test_stampedes.py); starved, one in a process and moment.
    assert max(queries for queries, _ in seen.values()) <= 2 * workers, str(seen)
    assert {status for _, how in seen.values() for status, _ in how} == {200, 201}, seen
    assert "freshcache_circuit_open 0.0" in store.get("/metrics").body.decode()
