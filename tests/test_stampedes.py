"""One fill: of all who want a missing entry one reads the database, the others wait for it."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import psutil
import pytest
from django.conf import settings
from redis import Redis

from store.models import Product
from tests.processes import Answer, StoreProcess
from tests.relay import Relay
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.mysql]

PRODUCT_QUERY = b"FROM `store_product`"
NOISE_SECONDS = 2  # what a busy machine may add to any promise


@pytest.fixture
def relay():
    """Relays in front of MySQL; `relay(hold)` makes one."""
    relays = []

    def make(hold=lambda number: None) -> Relay:
        relays.append(Relay(settings.MYSQL_PORT, PRODUCT_QUERY, hold))
        return relays[-1]

    yield make
    for one in relays:
        one.close()


def get_at_once(store: StoreProcess, count: int) -> list[Answer]:
    with ThreadPoolExecutor(count) as pool:
        barrier = threading.Barrier(count)

        def get(_: int) -> Answer:
            barrier.wait()
            return store.get("/store/cached/")

        return list(pool.map(get, range(count)))


def kinds(answers: list[Answer]) -> Counter:
    return Counter((answer.status, answer.json["from_cache"]) for answer in answers)


@pytest.mark.parametrize("state", ["cold", "expired", "just invalidated"])
def test_200_requests_at_once_cause_exactly_one_product_query(
    state, open_store, relay, demo_books, redis: Redis
):
    counted = relay(lambda number: time.sleep(0.3))  # Long enough for all to come meanwhile.
    variables = {"MYSQL_PORT": str(counted.port), "CACHE_WAIT_SECONDS": "20"}
    variables |= {"MYSQL_TIMEOUT_SECONDS": "20", "CACHE_LEASE_SECONDS": "20"}
    store = open_store("--workers", "2", "--threads", "8", **variables)
    if state != "cold":
        assert store.get("/store/cached/").status == 201
    if state == "expired":
        redis.pexpire(f"{settings.PROJECT_NAME}:1:product", 1)
        wait_for(lambda: not redis.exists(f"{settings.PROJECT_NAME}:1:product"))
    if state == "just invalidated":
        Product.objects.filter(name="Book A").update(price=1)
    counted.count = 0

    answers = get_at_once(store, 200)

    assert counted.count == 1
    assert kinds(answers) == {(201, False): 1, (200, True): 199}
    assert {len(answer.json["results"]) for answer in answers} == {234}
    assert len({answer.headers["ETag"] for answer in answers}) == 1


def test_who_gives_up_waiting_shares_one_read_for_each_process_and_says_so(
    open_store, relay, demo_books
):
    released = threading.Event()
    held = relay(lambda number: released.wait(30) if number == 1 else None)
    variables = {"MYSQL_PORT": str(held.port), "CACHE_WAIT_SECONDS": "2"}
    # The filler is held for longer than they wait, and has not been given up for lost then.
    variables |= {"MYSQL_TIMEOUT_SECONDS": "30", "CACHE_LEASE_SECONDS": "30"}
    store = open_store("--workers", "2", "--threads", "8", **variables)
    with ThreadPoolExecutor(1) as pool:
        filler = pool.submit(store.get, "/store/cached/")
        wait_for(lambda: held.count == 1)
        try:
            others = get_at_once(store, 12)
        finally:
            released.set()
        filled = filler.result()

    assert kinds(others) == {(200, False): 12}
    assert {len(answer.json["results"]) for answer in others} == {234}
    assert all("detail=wait-timeout" in answer.headers["Cache-Status"] for answer in others)
    # Each process reads once, or again for those who come a moment later; without sharing, 13 would.
    assert held.count <= 1 + 2 * 3
    assert filled.status == 201
    assert store.get("/store/cached/").json["from_cache"] is True


def test_a_filler_that_is_killed_delays_the_next_by_no_more_than_the_lease(
    open_store, relay, demo_books
):
    held = relay(lambda number: time.sleep(60) if number == 1 else None)
    lease_seconds = 2.0
    store = open_store(
        "--workers",
        "2",
        MYSQL_PORT=str(held.port),
        CACHE_LEASE_SECONDS=str(lease_seconds),
        CACHE_WAIT_SECONDS="20",
        MYSQL_TIMEOUT_SECONDS="60",
    )
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(store.get, "/store/cached/")
        wait_for(lambda: held.count == 1)
        started = time.monotonic()
        for worker in psutil.Process(store.process.pid).children():
            worker.kill()
        store.wait_until_open()  # New workers have to start.
        opened = time.monotonic()
        answer = store.get("/store/cached/")
        seconds = time.monotonic() - opened
        with pytest.raises((ConnectionError, HTTPException)):
            lost.result()

    assert answer.status == 201
    assert seconds < max(0, started + lease_seconds - opened) + NOISE_SECONDS


def test_under_constant_load_no_request_waits_for_an_expiry(open_store, redis, demo_books):
    store = open_store("--workers", "2", CACHE_TTL="600")
    assert store.get("/store/cached/").status == 201
    key, ended = f"{settings.PROJECT_NAME}:1:product", threading.Event()

    def read(_: int) -> list[Answer]:
        answers = []
        while not ended.wait(0.01):
            answers.append(store.get("/store/cached/"))
        return answers

    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(read, number) for number in range(4)]
        try:
            for _ in range(3):
                redis.pexpire(key, 50_000)  # The last part of its 600 s has begun.
                wait_for(lambda: redis.pttl(key) > 500_000)
        finally:
            ended.set()
        answers = [answer for one in reading for answer in one.result()]

    states = Counter(answer.headers["Cache-Status"].split("ttl")[0] for answer in answers)
    assert states.keys() == {"store; hit; ", "store; fwd=stale; stored; "}
    assert (
        3 <= states["store; fwd=stale; stored; "] <= 6
    )  # Who came at the same time may do it again.
    assert {answer.status for answer in answers} == {200}
