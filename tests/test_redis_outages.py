"""Redis in trouble: every request is answered from the database, and hits come back by themselves."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from mirakuru import TCPExecutor
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from freshcache.keys import ENTRY_FORMAT_VERSION, UNVERSIONED
from freshcache.outage import Outage
from tests import preloaded
from tests.line import Line
from tests.processes import StoreProcess
from tests.servers import PATIENT_BUDGET_SECONDS, free_port, start_redis
from tests.visitors import (
    ask_at_once,
    cache_milliseconds,
    complaints,
    cookies,
    is_hit,
    prices,
    reprice,
    send,
)
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

WORKERS = 2
BACK_SECONDS = 2  # the promise: so long after Redis is back, hits are served again
NOISE_SECONDS = 2  # what a busy machine may add to any promise
BUDGET_SECONDS = 5  # of which a read may take 2 s: a shorter stall is no outage
LONGEST_TRY_SECONDS = 10  # until a store tries again: a second, and what a try takes of its budget
# A try of a dead line takes 0.4 s then: were each request to try, there would be more than one a second.
BRIEF_TRIES = {"CACHE_BUDGET_SECONDS": "1"}
BEFORE, AFTER = [1000, 2000, None], [77, 2000, None]


@pytest.fixture
def server() -> Iterator[TCPExecutor]:
    executor = start_redis(free_port())
    yield executor
    executor.kill()  # Even if it is stopped.


@pytest.fixture
def line(server) -> Iterator[Line]:
    """A line to `server`."""
    made = Line(server.port)
    yield made
    made.close()


@pytest.fixture
def open_on(open_store):
    """`open_on(port)` opens a store on the suite's database and the Redis at `port`."""

    def open_one(port: int, workers: int = WORKERS, **variables: str) -> StoreProcess:
        threads = ("--workers", str(workers), "--threads", "4")
        # With the default of 0.25 any stall of a busy machine would be one more outage.
        variables = {"CACHE_BUDGET_SECONDS": str(BUDGET_SECONDS)} | variables
        variables |= {"REDIS_URL": url(port), "SECRET_KEY": settings.SECRET_KEY}
        return open_store(*threads, **variables)

    return open_one


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


# --- Faults ---------------------------------------------------------------------------------------


@contextmanager
def refused(server):
    server.kill()
    yield
    server.start()


@contextmanager
def hung(server):
    os.kill(server.process.pid, signal.SIGSTOP)
    yield
    os.kill(server.process.pid, signal.SIGCONT)


@contextmanager
def full(server):
    with Redis(port=server.port) as redis:
        redis.config_set("maxmemory", "1")
        yield
        redis.config_set("maxmemory", "0")


@contextmanager
def replica(server):
    with Redis(port=server.port) as redis:
        redis.replicaof("127.0.0.1", str(free_port()))
        yield
        redis.replicaof("NO", "ONE")


@contextmanager
def without_replicas(server):
    with Redis(port=server.port) as redis:
        redis.config_set("min-replicas-to-write", "1")
        yield
        redis.config_set("min-replicas-to-write", "0")


@contextmanager
def wrong_password(server):
    with Redis(port=server.port, single_connection_client=True) as redis:
        redis.config_set("requirepass", "changed")
        redis.client_kill_filter(_type="normal", skipme=True)
        yield
        redis.config_set("requirepass", "")


UNREADABLE = [refused, hung, full, wrong_password]
# A worker that still reads from Redis cannot know that another one's invalidation was refused.
READABLE = [replica, without_replicas]


# --- Promises -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", UNREADABLE)
def test_without_redis_all_is_answered_at_no_cost_and_hits_come_back(
    fault, server, open_on, editor, books
):
    store = open_on(server.port)
    serve_hits(store, BEFORE)
    with fault(server):
        assert reprice(store, editor, books[0], 77) == 200
        wait_for(lambda: all_leave_redis_alone(store))
        answers = [answer for _ in range(3) for answer in ask_at_once(store)]
        assert_right(answers, [AFTER])
        assert all(answer.json["from_database"] for answer in answers)
        assert max(map(cache_milliseconds, answers)) < 1
    assert seconds_to_hits(store, AFTER, [AFTER]) < BACK_SECONDS + NOISE_SECONDS
    assert_one_line_a_change(store)


@pytest.mark.parametrize("fault", READABLE)
def test_a_write_that_a_read_only_redis_was_not_told_of_is_seen_by_all_afterwards(
    fault, server, open_on, editor, books
):
    store = open_on(server.port)
    serve_hits(store, BEFORE)
    with fault(server):
        assert_right(ask_at_once(store), [BEFORE])
        assert reprice(store, editor, books[0], 77) == 200
        assert_right([*ask_at_once(store), *ask_at_once(store)], [BEFORE, AFTER])
        # The worker that wrote goes past the cache; a crowd may have met the other one alone.
        wait_for(lambda: any(prices(answer) == AFTER for answer in ask_at_once(store)))
    assert seconds_to_hits(store, AFTER, [BEFORE, AFTER]) < BACK_SECONDS + NOISE_SECONDS
    assert_one_line_a_change(store)


def test_a_store_that_opens_without_redis_serves_and_finds_it_later(open_on, books):
    port = free_port()
    store = open_on(port)
    assert_right(ask_at_once(store), [BEFORE])
    server = start_redis(port)
    try:
        assert seconds_to_hits(store, BEFORE, [BEFORE]) < BACK_SECONDS + NOISE_SECONDS
    finally:
        server.kill()


def test_a_flush_is_a_miss_and_no_outage(server, open_on, books):
    store = open_on(server.port, CACHE_BUDGET_SECONDS=PATIENT_BUDGET_SECONDS)
    with Redis(port=server.port) as redis:
        for _ in range(5):
            serve_hits(store, BEFORE)
            redis.flushall()
    serve_hits(store, BEFORE)
    assert complaints(store.log) == []


def test_the_first_requests_that_meet_a_hung_redis_keep_to_their_budget(server, open_on, books):
    store = open_on(server.port)
    serve_hits(store, BEFORE)
    with hung(server):
        answers = ask_at_once(store)
        assert_right(answers, [BEFORE])
        assert max(map(cache_milliseconds, answers)) < 1000 * (BUDGET_SECONDS + NOISE_SECONDS)


def test_at_most_one_try_a_second_reaches_a_hung_redis(line, open_on, books):
    store = open_on(line.port, workers=1, **BRIEF_TRIES)
    serve_hits(store, BEFORE)
    line.go_dead()
    assert_right(ask_at_once(store), [BEFORE])
    assert_right([store.get("/store/cached/")], [BEFORE])
    assert_one_try_a_second(store, lambda: line.connections)


@pytest.mark.parametrize(("fault", "error"), [(full, "OOM"), (replica, "READONLY")])
def test_at_most_one_try_a_second_reaches_a_redis_that_refuses_writes(
    fault, error, server, open_on, books
):
    store = open_on(server.port, workers=1)
    with fault(server), Redis(port=server.port) as redis:
        assert_right(ask_at_once(store), [BEFORE])

        def errors() -> int:
            return redis.info("errorstats")[f"errorstat_{error}"]["count"]

        assert_one_try_a_second(store, errors)


def test_signed_in_requests_do_not_wait_for_a_hung_redis_again_and_again(
    line, open_on, editor, books
):
    store = open_on(line.port, workers=1, **BRIEF_TRIES)
    serve_hits(store, BEFORE)
    line.go_dead()
    assert_right([store.get("/store/cached/")], [BEFORE])
    began, before = time.monotonic(), line.connections
    for _ in range(15):
        assert store.get("/store/products/", cookies(editor)).status == 200
    assert line.connections - before <= time.monotonic() - began + 1


def test_a_logout_in_an_outage_is_not_undone_by_what_redis_still_holds(
    line, open_on, editor, books
):
    store = open_on(line.port, workers=1)
    assert store.get("/admin/", cookies(editor)).status == 200  # It is in Redis now.
    line.cut()
    kind = "application/x-www-form-urlencoded"
    assert send(store, editor, "POST", "/admin/logout/", "", kind) == 200
    line.mend()
    seconds_to_hits(store, BEFORE, [BEFORE])
    assert store.get("/admin/", cookies(editor)).status == 302


# --- Lost invalidations ---------------------------------------------------------------------------


@pytest.mark.parametrize("fail", [Line.cut, Line.go_dead], ids=["cut", "dead"])
def test_a_write_of_a_process_cut_off_from_redis_is_seen_by_all_once_it_is_back(
    fail, server, line, open_on, editor, books
):
    reader, writer = open_on(server.port), open_on(line.port, workers=1)
    serve_hits(reader, BEFORE)
    serve_hits(writer, BEFORE)
    fail(line)
    assert reprice(writer, editor, books[0], 77) == 200
    assert_right(ask_at_once(writer, 4), [AFTER])  # Who lost the invalidation is never wrong.
    assert_right(ask_at_once(reader), [BEFORE, AFTER])
    line.mend()
    assert seconds_to_hits(reader, AFTER, [BEFORE, AFTER]) < BACK_SECONDS + NOISE_SECONDS
    assert seconds_to_hits(writer, AFTER, [AFTER]) < BACK_SECONDS + NOISE_SECONDS


def test_a_process_that_ends_while_it_owes_an_invalidation_makes_up_for_it(
    server, line, open_on, editor, books
):
    patient = {"CACHE_BUDGET_SECONDS": PATIENT_BUDGET_SECONDS}
    reader, writer = open_on(server.port, **patient), open_on(line.port, workers=1, **patient)
    serve_hits(reader, BEFORE)
    serve_hits(writer, BEFORE)
    line.cut()
    assert reprice(writer, editor, books[0], 77) == 200
    line.mend()
    assert writer.close() == 0
    assert_right(ask_at_once(reader), [AFTER])


def test_a_job_that_ends_without_redis_says_that_a_write_was_not_announced(books):
    code = "from store.models import Product; Product.objects.update(price=77)"
    variables = {"REDIS_URL": url(free_port()), "SECRET_KEY": settings.SECRET_KEY}
    if settings.MYSQL_HOST:
        variables["MYSQL_NAME"] = settings.DATABASES["default"]["NAME"]
    command = ["manage.py", "shell", "--no-imports", "-c", code]
    job = preloaded.run(command, {**os.environ, **variables})
    assert job.returncode == 0
    assert "Ending with a write that Redis was not told of" in job.stderr
    books[0].refresh_from_db()
    assert books[0].price == 77


def test_an_invalidation_that_gets_lost_on_the_way_back_is_not_forgotten():
    renewals = []

    def renew_all() -> None:
        renewals.append(time.monotonic())
        if len(renewals) == 1:  # A write in another thread, just after its generation is renewed.
            outage.trip(RedisConnectionError("lost"), invalidation_lost=True)

    outage = Outage(forget_all=lambda: None, renew_all=renew_all)
    outage.trip(RedisConnectionError("refused"))
    wait_for(lambda: not outage.is_open)
    assert len(renewals) == 2


# --- Foreign values -------------------------------------------------------------------------------

PICKLE = b"\x80\x05\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
HEADER = b'{"query":"","etag":0,"fill_seconds":null,"ttl_ms":"x","bytes":2,"compressed":false}\n[]'


def change(redis: Redis, key: str, edit) -> None:
    """Change what is stored, within the same second, as a bug or a bit flip would."""
    redis.set(key, edit(redis.get(key) or b""), keepttl=True)


FOREIGN = {
    "nothing": lambda redis, key: redis.set(key, b""),
    "text": lambda redis, key: redis.set(key, b"garbage"),
    "32 characters": lambda redis, key: redis.set(key, b"0123456789abcdef" * 2),
    "a pickle": lambda redis, key: redis.set(key, PICKLE),
    "other bytes": lambda redis, key: redis.set(key, bytes(range(255, 100, -1))),
    "JSON": lambda redis, key: redis.set(key, b'[{"id": 1, "price": 5}]'),
    "a part": lambda redis, key: change(redis, key, lambda value: value[: len(value) // 2]),
    "too much": lambda redis, key: redis.append(key, b"]"),
    "wrong fields": lambda redis, key: change(redis, key, lambda value: value[:33] + HEADER),
    "a list": lambda redis, key: redis.lpush(key, "x"),
    "a hash": lambda redis, key: redis.hset(key, "x", "y"),
    "a stream": lambda redis, key: redis.xadd(key, {"x": "y"}),
}
KEYS = {
    "entry": f"{ENTRY_FORMAT_VERSION}:product",
    "stale copy": f"{ENTRY_FORMAT_VERSION}:product:stale",
    "lock": f"{ENTRY_FORMAT_VERSION}:product:lock",
    "generation": f"{UNVERSIONED}:product:generation",
}


@pytest.mark.parametrize("name", KEYS)
def test_a_foreign_value_under_a_key_is_never_served_and_soon_gone(name, server, open_on, books):
    store = open_on(server.port)
    key = f"{settings.PROJECT_NAME}:{KEYS[name]}"
    with Redis(port=server.port) as redis:
        for kind, put in FOREIGN.items():
            serve_hits(store, BEFORE)
            if kind in ("a list", "a hash", "a stream"):
                redis.delete(key)
            put(redis, key)
            if name != "entry":  # So that the others are looked at.
                redis.delete(f"{settings.PROJECT_NAME}:{KEYS['entry']}")
            assert_right(ask_at_once(store, 8), [BEFORE])
            took = seconds_to_hits(store, BEFORE, [BEFORE])
            assert took < BACK_SECONDS + NOISE_SECONDS, kind
    assert "Traceback" not in store.log.read_text()


# --- Under load -----------------------------------------------------------------------------------


def test_nothing_old_is_served_while_redis_comes_and_goes(server, open_on, editor, books):
    """One writer, constant readers: each reads at least what was acknowledged before it asked."""
    store = open_on(server.port)
    serve_hits(store, BEFORE)
    acknowledged, ended, wrong = [1000], threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            at_least = acknowledged[-1]
            answer = store.get("/store/cached/")
            if answer.status not in (200, 201) or prices(answer)[0] < at_least:
                wrong.append((answer.status, at_least, answer.body))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for fault in (refused, wrong_password):
            with fault(server):
                wait_for(lambda: workers_without_redis(store) == WORKERS)
                for _ in range(5):
                    price = acknowledged[-1] + 1
                    assert reprice(store, editor, books[0], price) == 200
                    acknowledged.append(price)
            seconds_to_hits(store, [acknowledged[-1], 2000, None], None)
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert wrong == []


# --- What the promises are measured with ----------------------------------------------------------


def assert_right(answers, allowed) -> None:
    for answer in answers:
        assert answer.status in (200, 201), answer.body
        assert allowed is None or prices(answer) in allowed


def serve_hits(store, expected) -> None:
    """Return once every worker serves hits."""
    seconds_to_hits(store, expected, None)


def seconds_to_hits(store, expected, allowed) -> float:
    """Return after how long all of many requests at once were hits with the `expected` prices.

    Until then every answer has to be one of those `allowed`.
    """
    began = time.monotonic()
    while time.monotonic() < began + 20:
        answers = ask_at_once(store)
        assert_right(answers, allowed)
        if all(is_hit(answer) and prices(answer) == expected for answer in answers):
            return time.monotonic() - began
        time.sleep(0.05)
    raise AssertionError(f"no hits, but {answers[0].headers['Cache-Status']}")


def assert_one_try_a_second(store, tries: Callable[[], int]) -> None:
    """Fail unless, while many ask, what `tries()` counts goes up, but not more often than that."""
    began, before = time.monotonic(), tries()

    def has_tried() -> bool:
        assert_right(ask_at_once(store, 4), [BEFORE])
        return time.monotonic() >= began + 2 and tries() > before

    wait_for(has_tried, LONGEST_TRY_SECONDS)
    assert tries() - before <= time.monotonic() - began + 1


def workers_without_redis(store) -> int:
    return len(lines(store, "left alone")) - len(lines(store, "used again"))


def all_leave_redis_alone(store) -> bool:
    """Ask the workers, who have written since; say whether each of them has met the fault."""
    assert_right(ask_at_once(store), [AFTER])
    return workers_without_redis(store) == WORKERS


def lines(store, text: str) -> list[str]:
    return [line for line in complaints(store.log) if text in line]


def assert_one_line_a_change(store) -> None:
    """Each worker's cache has said that Redis is left alone and used again, once, and nothing else.

    So do the breaker of what is no cache and the events, if there was a write.
    """
    wait_for(lambda: len(lines(store, "used again")) == len(lines(store, "left alone")))
    left = [re.findall(r"\[(\d+)\]", line)[0] for line in lines(store, "left alone")]
    assert 1 <= len(left) == len(set(left)) <= WORKERS
    of_the_cache = [line for line in complaints(store.log) if " freshcache.outage " in line]
    assert len(of_the_cache) == 2 * len(left), complaints(store.log)
    others = re.findall(
        r".* (?:freshcache\.circuit_breaker|store\.event_announcer) .*", store.log.read_text()
    )
    assert len(others) <= 2 * WORKERS, others
