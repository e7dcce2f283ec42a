"""Several web hosts, one Redis, one MariaDB: what holds for processes holds for machines."""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from mirakuru import TCPExecutor

from tests.listeners import Listener
from tests.processes import Answer, Server
from tests.scale.fleet import BOOK, PORT, Editor, Fleet
from tests.scale.servers import stopped
from tests.test_copies import LAG_SECONDS, warm
from tests.visitors import is_hit, prices, reprice
from tests.waiting import wait_for
from tests.witnesses import Readers, Writers, late_reads

RETRY_SECONDS = 1  # how often a process looks whether Redis, or the database, is back
NOISE_SECONDS = 2  # what a busy machine may add to any promise
# Two checks of the balancer's, each a second after the other and as long as it waits for an answer.
NOTICED_SECONDS = 2 * (1 + 2)
# A stall of a busy machine must not count as an outage where the test is about another.
BUDGET_SECONDS = 2
COPIES = pytest.mark.parametrize("copies", ["on", "off"])


@pytest.fixture
def editor(fleet: Fleet) -> Editor:
    return Editor(fleet.webs[0])


def timed(ask: Callable[[], Answer]) -> tuple[Answer, float]:
    started = time.monotonic()
    return ask(), time.monotonic() - started


# --- Consistency ----------------------------------------------------------------------------------


@COPIES
def test_no_host_serves_what_another_has_made_old_for_longer_than_the_lag(fleet, editor, copies):
    fleet.ensure(LOCAL_CACHE=copies, CACHE_BUDGET_SECONDS=str(BUDGET_SECONDS))
    for web in fleet.webs:
        warm(web)
    ways = [Readers(one, count=1) for one in (*fleet.webs, fleet.balancer)]
    with contextlib.ExitStack() as stack:
        for readers in ways:
            stack.enter_context(readers)
        with Writers(fleet.webs, editor, [BOOK]) as writers:
            time.sleep(6)
    assert len(writers.writes) > 30
    for readers in ways:
        readers.assert_all_answered()
        bound_seconds = LAG_SECONDS if copies == "on" else 0
        assert late_reads(readers.reads, writers.writes, bound_seconds) == []


# --- Stampedes ------------------------------------------------------------------------------------


@contextmanager
def held_query(fleet: Fleet) -> Iterator[list[str]]:
    """Hold up each query for products for a moment; the list has them all, whichever host asked."""
    seen: list[str] = []
    with contextlib.closing(fleet.database()) as database, database.cursor() as cursor:
        cursor.execute("SET GLOBAL log_output = 'TABLE', general_log = ON")
        cursor.execute("TRUNCATE mysql.general_log")
        cursor.execute("LOCK TABLES store_product WRITE")
        release = threading.Timer(1.0, database.query, ["UNLOCK TABLES"])
        release.start()
        yield seen
        release.join()
        cursor.execute("SET GLOBAL general_log = OFF")
        cursor.execute(
            "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log "
            "WHERE argument LIKE '%FROM `store_product`%' AND argument NOT LIKE '%general_log%'"
        )
        seen += [argument for (argument,) in cursor.fetchall()]


def test_200_requests_over_all_hosts_at_once_cause_one_product_query(fleet):
    patient = {"CACHE_BUDGET_SECONDS": "5", "MYSQL_TIMEOUT_SECONDS": "20"}
    fleet.ensure(CACHE_WAIT_SECONDS="20", **patient)
    hosts = fleet.webs * 100
    barrier = threading.Barrier(len(hosts))

    def ask(host: Server) -> Answer:
        barrier.wait()
        return host.get("/store/cached/")

    with held_query(fleet) as queries, ThreadPoolExecutor(len(hosts)) as pool:
        answers = list(pool.map(ask, hosts))

    assert len(queries) == 1
    kinds = Counter((answer.status, answer.json["from_cache"]) for answer in answers)
    assert kinds == {(201, False): 1, (200, True): 199}
    assert len({answer.headers["ETag"] for answer in answers}) == 1


# --- Outages that all hosts share ------------------------------------------------------------------


@contextmanager
def killed(server: TCPExecutor) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@pytest.mark.parametrize("fault", [killed, stopped])
def test_without_redis_all_hosts_answer_from_the_database_and_nothing_old_after(
    fleet, editor, fault
):
    fleet.ensure(CACHE_BUDGET_SECONDS=str(BUDGET_SECONDS))
    for web in fleet.webs:
        warm(web)
    with fault(fleet.redis_server):
        for price in range(501, 506):
            assert reprice(fleet.webs[price % 2], editor, BOOK, price) == 200
            time.sleep(LAG_SECONDS)
            for host in (*fleet.webs, fleet.balancer):
                answer, seconds = timed(lambda host=host: host.get("/store/cached/"))
                assert (answer.status, prices(answer)[0]) == (200, price)
                assert seconds < BUDGET_SECONDS + NOISE_SECONDS
    patience = RETRY_SECONDS + BUDGET_SECONDS + NOISE_SECONDS
    for web in fleet.webs:
        wait_for(lambda web=web: is_hit(web.get("/store/cached/")), patience)
        assert prices(web.get("/store/cached/"))[0] == 505


# --- A host that is cut off -----------------------------------------------------------------------


@contextmanager
def cut_off(machine, *others) -> Iterator[None]:
    machine.cut_off(*others)
    try:
        yield
    finally:
        machine.heal(*others)


@COPIES
def test_a_host_cut_off_from_redis_serves_from_the_database_and_nothing_old_after(
    fleet, editor, copies
):
    fleet.ensure(LOCAL_CACHE=copies, CACHE_BUDGET_SECONDS=str(BUDGET_SECONDS))
    lonely, other = fleet.webs
    for web in fleet.webs:
        warm(web)
    slowest, from_database = 0.0, []
    with (
        Readers(lonely) as there,
        Readers(other, count=1) as here,
        Writers([other], editor, [BOOK]) as writers,
    ):
        with cut_off(lonely.machine, fleet.redis_machine):
            began = time.monotonic()
            while (asked_after := time.monotonic() - began) < 10:
                answer, seconds = timed(lambda: lonely.get("/store/cached/"))
                if asked_after > LAG_SECONDS + BUDGET_SECONDS:
                    from_database.append(answer.json["from_database"])
                slowest = max(slowest, seconds)
                time.sleep(0.05)
        wait_for(lambda: is_hit(lonely.get("/store/cached/")), RETRY_SECONDS + BUDGET_SECONDS + 2)
        time.sleep(2)
    for readers in (there, here):
        readers.assert_all_answered()
        bound_seconds = LAG_SECONDS if copies == "on" else 0
        assert late_reads(readers.reads, writers.writes, bound_seconds) == []
    assert len(writers.writes) > 50
    assert len(from_database) > 20
    assert all(from_database)
    assert slowest < BUDGET_SECONDS + NOISE_SECONDS


def test_what_a_host_wrote_while_cut_off_from_redis_is_seen_by_all_once_it_is_healed(fleet, editor):
    lonely, other = fleet.webs
    for web in fleet.webs:
        warm(web)
    with cut_off(lonely.machine, fleet.redis_machine):
        assert reprice(lonely, editor, BOOK, 77) == 200
        assert prices(lonely.get("/store/cached/"))[0] == 77
    wait_for(
        lambda: prices(other.get("/store/cached/"))[0] == 77, RETRY_SECONDS + NOISE_SECONDS + 2
    )
    assert {prices(web.get("/store/cached/"))[0] for web in fleet.webs} == {77}


def test_a_host_cut_off_from_the_database_serves_what_is_cached_and_503_for_the_rest(fleet):
    lonely, other = fleet.webs
    for web in fleet.webs:
        warm(web)
    with cut_off(lonely.machine, fleet.mysql_machine):
        began = time.monotonic()
        while time.monotonic() < began + 5:
            answer = lonely.get("/store/cached/")
            assert (answer.status, is_hit(answer)) == (200, True)
            missing, seconds = timed(lambda: lonely.get("/store/cached/?min_price=3"))
            assert (missing.status, missing.headers["Retry-After"]) == (503, "1")
            assert seconds < 2 + NOISE_SECONDS
            time.sleep(0.1)
        assert other.get("/store/cached/?min_price=4").status == 201
    wait_for(lambda: lonely.get("/store/cached/?min_price=3").status == 201, 10)


def test_past_its_lifetime_a_host_without_database_serves_the_last_good_list(fleet):
    fleet.ensure(CACHE_TTL="1", LOCAL_CACHE="off")
    lonely, _ = fleet.webs
    assert lonely.get("/store/cached/").status == 201
    with cut_off(lonely.machine, fleet.mysql_machine):
        wait_for(lambda: lonely.get("/store/cached/").json.get("stale"), 5)
        assert lonely.get("/store/cached/").status == 200


# --- Behind the balancer --------------------------------------------------------------------------


def test_a_host_without_database_is_sent_nothing_more(fleet):
    lonely = fleet.webs[0]
    with cut_off(lonely.machine, fleet.mysql_machine):
        missing = (f"/store/cached/?min_price={number}" for number in itertools.count())
        noticed = time.monotonic() + NOTICED_SECONDS + NOISE_SECONDS
        while time.monotonic() < noticed:
            fleet.balancer.get(next(missing))
        assert {fleet.balancer.get(next(missing)).status for _ in range(20)} <= {200, 201}


def test_with_no_host_ready_what_is_cached_is_still_served(fleet):
    warm(fleet.balancer)
    machines = [web.machine for web in fleet.webs]
    with cut_off(fleet.mysql_machine, *machines):
        wait_for(lambda: {web.get("/readyz").status for web in fleet.webs} == {503})
        until = time.monotonic() + 5
        while time.monotonic() < until:
            answer = fleet.balancer.get("/store/cached/")
            assert answer.status == 200
            assert is_hit(answer)
            time.sleep(0.05)


def test_metrics_are_for_who_asks_a_host_directly(fleet):
    fleet.ensure(METRICS_ALLOW=f"{fleet.network.prefix}.0/24")
    assert fleet.webs[0].get("/metrics").status == 200
    for claimed in ({}, {"X-Forwarded-For": fleet.balancer.address}):
        assert fleet.balancer.get("/metrics", claimed).status == 403


def test_events_pass_the_balancer_as_they_happen(fleet, editor):
    listener = Listener(PORT, address=fleet.balancer.address)
    for price in range(100, 105):
        asked_at = time.monotonic()
        assert reprice(fleet.webs[price % 2], editor, BOOK, price) == 200
        assert listener.next().data["price"] == price
        assert time.monotonic() < asked_at + NOISE_SECONDS
    listener.close()
