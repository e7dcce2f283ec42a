"""A store on Redis Sentinel: the primary dies, hangs, wakes up, and no answer is missing or old."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from itertools import cycle, repeat
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from django.conf import settings
from django.test import Client
from redis import Redis
from redis.exceptions import RedisError

from freshcache.keys import PRODUCT_LIST, UNVERSIONED, generation_key
from freshcache.redis.pool import make_pool, primary_epoch, when_primary_changes
from store import redis_survey
from store.models import Product, Transfer
from tests.processes import Answer, StoreProcess, WorkerProcess
from tests.scale.load import Ask, Load, Visitor, signed_in_headers
from tests.scale.servers import NAME, PASSWORD, Sentinels, stopped
from tests.visitors import (
    CSRF_TOKEN,
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
from tests.witnesses import LateRead, Traffic

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS, THREADS = 2, 4
# A machine that stalls is no outage: for tests of what must not be taken for one.
PATIENT = {"CACHE_BUDGET_SECONDS": "5"}
# One that is as busy as here is not quick enough for the usual budget at each moment.
BUSY_BUDGET_SECONDS = "1"
LAG_SECONDS = 0.1
HITS_AGAIN_SECONDS = 5  # the promise: so long after the new primary
NOISE_SECONDS = 2  # what a busy machine may add where a test is not about that promise
BEFORE, AFTER = [1000, 2000, None], [77, 2000, None]
# RQ waits so long for an answer to what waits for jobs: 20 s; then the worker begins anew.
WORKER_AGAIN_SECONDS = 40
# Nobody works on an import for a minute; then it is enqueued again, once RQ's scheduler has got
# the lock of one that is gone, which takes another minute; then it has to be done.
UNDER_WAY_AGAIN_SECONDS = 240
FAILOVERS = 6
ROWS = 60_000  # of an import that takes some seconds
GENERATION = f"{settings.PROJECT_NAME}:{UNVERSIONED}:{generation_key(PRODUCT_LIST)}"


@pytest.fixture
def servers() -> Iterator[Sentinels]:
    started = Sentinels()
    yield started
    started.close()


@pytest.fixture
def open_on(open_store, servers) -> Callable[..., StoreProcess]:
    def open_one(workers: int = WORKERS, **variables: str) -> StoreProcess:
        threads = ("--workers", str(workers), "--threads", str(THREADS))
        variables |= {"REDIS_URL": servers.url, "SECRET_KEY": settings.SECRET_KEY}
        return open_store(*threads, **variables)

    return open_one


def visitors_of(store: StoreProcess, editor: Client, book: Product) -> list[Visitor]:
    """Return visitors of all that does without Redis meanwhile, and of what may be refused."""
    signed_in = signed_in_headers(editor)
    pages = ["/store/", f"/store/products/{book.pk}/", "/store/cached/?min_price=20", "/shop/"]
    staff = ["/admin/", "/store/exports/", f"/shop/{book.pk}/"]
    of_redis = [
        Ask("PUT", f"/store/basket/{book.pk}/", '{"quantity": 3}', refusable=True),
        Ask("GET", "/store/basket/", refusable=True),
        Ask("GET", "/shop/basket/", refusable=True),
        Ask("GET", "/store/jobs/nobody-knows/", right=(404,), refusable=True),
    ]
    export = Ask("POST", "/store/exports/", right=(202,), refusable=True)
    form = {"username": "editor", "password": "secret", "csrfmiddlewaretoken": CSRF_TOKEN}
    sign_in = Ask("POST", "/admin/login/", urlencode(form), (302,), refusable=True)
    of_forms = {
        "Cookie": f"csrftoken={CSRF_TOKEN}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return [
        Visitor(store, cycle([Ask("GET", path) for path in pages]), {}, pause_seconds=0.05),
        Visitor(store, cycle([Ask("GET", path) for path in staff]), signed_in, pause_seconds=0.1),
        Visitor(store, cycle(of_redis), signed_in, pause_seconds=0.05),
        Visitor(store, repeat(export), signed_in, pause_seconds=0.5),
        Visitor(store, repeat(sign_in), of_forms, pause_seconds=2),  # Passwords cost much CPU.
    ]


def workers_of(store: StoreProcess) -> list[psutil.Process]:
    return psutil.Process(store.process.pid).children()


def wait_for_hits_of_every_worker(store: StoreProcess, log_read: int) -> None:
    """Return once each worker has logged where the primary is, past `log_read`, and served a hit."""
    left = {worker.pid for worker in workers_of(store)}
    assert len(left) == WORKERS

    def is_told(pid: int) -> bool:
        return f"[{pid}] {NAME!r} is at" in store.log.read_text()[log_read:]

    wait_for(lambda: all(map(is_told, left)))
    while left:
        with closing(HTTPConnection(store.address, store.port, timeout=30)) as connection:
            connection.request("GET", "/store/cached/")
            response = connection.getresponse()
            if is_hit(Answer(response.status, response.headers, response.read())):
                left -= {worker_at(store, connection)}


def worker_at(store: StoreProcess, connection: HTTPConnection) -> int:
    """Return the process that has the other end of a connection that is kept open."""
    port = connection.sock.getsockname()[1]
    [found] = [
        worker.pid
        for worker in workers_of(store)
        if any(one.raddr and one.raddr.port == port for one in worker.net_connections("tcp"))
    ]
    return found


def all_hit(store: StoreProcess, expected: list[int | None] | None = None) -> bool:
    answers = ask_at_once(store)
    assert {answer.status for answer in answers} <= {200, 201}
    return all(is_hit(one) and expected in (None, prices(one)) for one in answers)


def serve_hits(store: StoreProcess, expected: list[int | None]) -> None:
    """Return once every worker serves hits."""
    wait_for(lambda: all_hit(store, expected))


def most_sockets(store: StoreProcess, servers: Sentinels) -> int:
    """Return how many sockets to the servers and sentinels that process has that has most."""
    ports = {*servers.servers, *(one.port for one in servers.sentinels)}
    return max(store.sockets(*ports).values())


# --- Under load -----------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", ["on", "off"])
def test_a_primary_that_is_killed_or_hangs_costs_no_answer_and_no_freshness(
    copies, open_on, servers, editor, books
):
    copying = {"LOCAL_CACHE": copies, "LOCAL_CACHE_MAX_LAG": str(LAG_SECONDS)}
    store = open_on(**copying, THROTTLE_LOGIN="1000/min", CACHE_BUDGET_SECONDS=BUSY_BUDGET_SECONDS)
    bad_moments = []  # Each from when it began until the sentinels had another primary.
    load = Load(visitors_of(store, editor, books[1]))

    def pass_bad_moment(began: float, primary: int) -> None:
        log_read = len(store.log.read_text())
        servers.wait_for_another(primary)
        switched_at = time.monotonic()
        bad_moments.append((began, switched_at))
        wait_for_hits_of_every_worker(store, log_read)
        assert time.monotonic() - switched_at < HITS_AGAIN_SECONDS
        time.sleep(HITS_AGAIN_SECONDS + 1)

    with Traffic(store, editor, books) as traffic, load:
        time.sleep(2)
        first = servers.primary_port()
        began = time.monotonic()
        servers.kill(first)
        pass_bad_moment(began, first)
        servers.servers[first].start()
        servers.wait_until_whole()
        second = servers.primary_port()
        began = time.monotonic()
        with stopped(servers.servers[second]):
            pass_bad_moment(began, second)
        servers.wait_until_whole()  # The one that woke up has been told whose replica it is.
        time.sleep(1)
    traffic.assert_all_answered()
    assert len(traffic.reads) > 500
    assert len(traffic.writes) > 100
    assert load.failures == []
    assert load.refusals
    # Who was being answered when it began is of it.
    assert [one for one in load.refusals if not is_in_one(one.ended_at, bad_moments)] == []
    assert late_in_good_moments(traffic, bad_moments, LAG_SECONDS if copies == "on" else 0) == []
    serve_hits(store, prices(store.get("/store/")))
    # The cache's threads, its listener, its recovery and its fills; the queue's; the sentinels.
    assert most_sockets(store, servers) <= (THREADS + 3) + (THREADS + 1) + 3


def fail_over(servers: Sentinels) -> None:
    with servers.ask_sentinel(servers.sentinels[0].port) as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", NAME)


def late_in_good_moments(
    traffic: Traffic, bad_moments: list[tuple[float, float]], bound_seconds: float = 0
) -> list[LateRead]:
    """Return the late reads but those from a failover's beginning until hits are due again."""
    return [
        late
        for late in traffic.late_reads(bound_seconds)
        if not is_in_one(late.read.asked_at, bad_moments)
    ]


def is_in_one(moment: float, bad_moments: list[tuple[float, float]]) -> bool:
    """Say whether it is between a failover's beginning and when hits are due again."""
    return any(
        began < moment < switched_at + HITS_AGAIN_SECONDS for began, switched_at in bad_moments
    )


def test_a_failover_that_is_asked_for_costs_no_answer_either(open_on, servers, editor, books):
    """Both servers answer all the while, so that the processes meet no error that could warn them."""
    store = open_on()
    bad_moments = []
    with Traffic(store, editor, books) as traffic:
        for _ in range(2):
            time.sleep(2)
            old = servers.primary_port()
            began = time.monotonic()
            fail_over(servers)
            servers.wait_for_another(old)
            bad_moments.append((began, time.monotonic()))
            time.sleep(HITS_AGAIN_SECONDS)
            servers.wait_until_whole()
    traffic.assert_all_answered()
    assert late_in_good_moments(traffic, bad_moments) == []
    serve_hits(store, prices(store.get("/store/")))


def test_failovers_leak_no_connection(open_on, servers, editor, books):
    """All threads use both pools at once during each, the cache's and the queue's."""
    store = open_on()
    basket = f"/store/basket/{books[0].pk}/"
    asks = [Ask("PUT", basket, '{"quantity": 3}', refusable=True), Ask("GET", "/store/cached/")]
    signed_in = signed_in_headers(editor)
    after = []  # each failover: the sockets of the process that has most
    for _ in range(FAILOVERS):
        visitors = [Visitor(store, cycle(asks), signed_in, 1) for _ in range(2 * WORKERS * THREADS)]
        with Load(visitors) as load:
            time.sleep(1)
            old = servers.primary_port()
            fail_over(servers)
            servers.wait_for_another(old)
            time.sleep(HITS_AGAIN_SECONDS)
        assert load.failures == []
        serve_hits(store, BEFORE)
        after.append(most_sockets(store, servers))
        servers.wait_until_whole()
    # Some more threads may have come to use Redis at once, but not one with each failover.
    assert after[-1] - after[0] < FAILOVERS - 1, after


# --- What the new primary does not know -----------------------------------------------------------


@contextmanager
def replication_cut(servers: Sentinels) -> Iterator[None]:
    """What the primary is told meanwhile is lost with it: its replicas never hear of it."""
    first = servers.primary_port()
    replicas = [one for port, one in servers.servers.items() if port != first]
    for one in replicas:
        os.kill(one.process.pid, signal.SIGSTOP)
    try:
        with servers.client(first) as primary:
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
            primary.config_set("repl-timeout", "1")
        yield
        servers.kill(first)
    finally:
        for one in replicas:
            os.kill(one.process.pid, signal.SIGCONT)


def generation_at(servers: Sentinels, port: int) -> bytes | None:
    with servers.client(port) as redis:
        return redis.get(GENERATION)


def test_an_invalidation_that_the_new_primary_has_lost_is_made_up_for(
    open_on, servers, editor, books
):
    store = open_on()
    serve_hits(store, BEFORE)
    first = servers.primary_port()
    old = generation_at(servers, first)
    with replication_cut(servers):
        assert reprice(store, editor, books[0], 77) == 200
        assert prices(store.get("/store/cached/")) == AFTER
    replicas = [port for port in servers.servers if port != first]
    assert {generation_at(servers, port) for port in replicas} == {old}
    while servers.primary_port() == first:
        assert {tuple(prices(one)) for one in ask_at_once(store)} == {tuple(AFTER)}
    switched_at = time.monotonic()
    while time.monotonic() < switched_at + HITS_AGAIN_SECONDS:
        assert {tuple(prices(one)) for one in ask_at_once(store)} == {tuple(AFTER)}
    assert all_hit(store, AFTER)
    assert generation_at(servers, servers.primary_port()) not in (None, old)


def test_a_process_that_opens_after_a_failover_trusts_nothing_from_before(
    open_on, servers, editor, books
):
    store = open_on()
    serve_hits(store, BEFORE)
    first = servers.primary_port()
    with replication_cut(servers):
        assert reprice(store, editor, books[0], 77) == 200
        # Nobody is left who could make up for what gets lost.
        workers = psutil.Process(store.process.pid).children()
        store.process.kill()  # First, as it would start others.
        for process in workers:
            process.kill()
    servers.wait_for_another(first)
    late = open_on(**PATIENT)
    answers = [answer for _ in range(3) for answer in ask_at_once(late)]
    assert {tuple(prices(answer)) for answer in answers} == {tuple(AFTER)}
    serve_hits(late, AFTER)
    assert complaints(late.log) == []


def test_a_logout_that_the_new_primary_has_lost_stays_a_logout(open_on, servers, editor, books):
    store = open_on()
    serve_hits(store, BEFORE)
    for _ in range(10):
        assert store.get("/admin/", cookies(editor)).status == 200  # It is in Redis now.
    first = servers.primary_port()
    kind = "application/x-www-form-urlencoded"
    with replication_cut(servers):
        assert send(store, editor, "POST", "/admin/logout/", "", kind) == 200
    servers.wait_for_another(first)
    serve_hits(store, BEFORE)
    for _ in range(10):
        assert store.get("/admin/", cookies(editor)).status == 302


# --- An old primary that wakes up -----------------------------------------------------------------


@pytest.mark.parametrize("copies", ["on", "off"])
def test_a_process_that_missed_the_failover_reads_nothing_of_the_old_primary(
    copies, open_on, servers, editor, books
):
    idle = open_on(LOCAL_CACHE=copies)
    serve_hits(idle, BEFORE)
    busy = open_on()
    serve_hits(busy, BEFORE)
    first = servers.primary_port()
    with stopped(servers.servers[first]):
        servers.wait_for_another(first)
        serve_hits(busy, BEFORE)
        assert reprice(busy, editor, books[0], 77) == 200
    # Its connections to the old primary are open, and that still has all as it was.
    assert generation_at(servers, first) is not None
    for _ in range(20):
        answers = ask_at_once(idle)
        assert {tuple(prices(answer)) for answer in answers} == {tuple(AFTER)}
    serve_hits(idle, AFTER)


def test_a_process_hears_of_another_primary_before_it_asks_it(servers):
    told: list[float] = []
    when_primary_changes(servers.url, lambda: told.append(time.monotonic()))
    first = servers.primary_port()
    epoch = primary_epoch(servers.url)
    with Redis(connection_pool=make_pool(servers.url, socket_timeout=2)) as redis:
        assert redis.info("server")["tcp_port"] == first
        assert primary_epoch(servers.url) not in (epoch, "")
        assert told == []
        fail_over(servers)
        answered_by = first
        while answered_by == first:
            with contextlib.suppress(RedisError):  # The old one is made to drop its clients.
                answered_by = redis.info("server")["tcp_port"]
        assert len(told) == 1


# --- The sentinels --------------------------------------------------------------------------------


def test_a_sentinel_that_hangs_costs_nothing(open_on, servers, books):
    store = open_on(**PATIENT)
    serve_hits(store, BEFORE)
    for sentinel in servers.sentinels:
        with stopped(sentinel):
            ended = time.monotonic() + 3
            while time.monotonic() < ended:
                assert all_hit(store, BEFORE)
    assert complaints(store.log) == []


def test_a_store_that_opens_while_a_sentinel_hangs_has_hits_soon(open_on, servers, books):
    with stopped(servers.sentinels[0]):
        store = open_on()
        assert wait_for(lambda: all_hit(store, BEFORE)) < HITS_AGAIN_SECONDS


def test_without_a_majority_of_the_sentinels_answers_come_from_the_database(
    open_on, servers, editor, books
):
    store = open_on()
    serve_hits(store, BEFORE)
    with stopped(servers.sentinels[0]), stopped(servers.sentinels[1]):
        wait_for(lambda: not any(map(is_hit, ask_at_once(store))))
        assert reprice(store, editor, books[0], 77) == 200
        answers = [answer for _ in range(5) for answer in ask_at_once(store)]
        assert {tuple(prices(answer)) for answer in answers} == {tuple(AFTER)}
        assert max(map(cache_milliseconds, answers)) < 250
    assert wait_for(lambda: all_hit(store, AFTER)) < HITS_AGAIN_SECONDS + NOISE_SECONDS


def test_a_store_that_opens_without_sentinels_serves_and_finds_them_later(open_on, servers, books):
    with stopped(servers.sentinels[0]), stopped(servers.sentinels[1]):
        store = open_on()
        assert {tuple(prices(one)) for one in ask_at_once(store)} == {tuple(BEFORE)}
    assert wait_for(lambda: all_hit(store, BEFORE)) < HITS_AGAIN_SECONDS + NOISE_SECONDS


def make_certificate(folder: Path) -> Path:
    """Return a certificate for 127.0.0.1, whose key is beside it, that nobody has signed but itself."""
    folder.mkdir()
    certificate = folder / "certificate.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate


def why_not(url: str) -> str:
    """Return what a client is told that cannot learn where the primary is."""
    pool = make_pool(url, socket_connect_timeout=5)
    with Redis(connection_pool=pool) as redis, pytest.raises(RedisError) as error:
        redis.ping()
    return str(error.value)


def test_all_of_it_can_speak_tls(tmp_path):
    certificate = make_certificate(tmp_path / "used")
    another = make_certificate(tmp_path / "another")
    servers = Sentinels(certificate=certificate)
    try:
        mistrusted = why_not(servers.url.replace(str(certificate), str(another)))
        assert mistrusted.count("certificate verify failed") == len(servers.sentinels)
        first = servers.primary_port()
        with Redis(connection_pool=make_pool(servers.url)) as redis:
            assert redis.info("server")["tcp_port"] == first
            servers.kill(first)
            servers.wait_for_another(first)
            wait_for(lambda: answers(redis))
            assert redis.info("replication")["role"] == "master"
    finally:
        servers.close()


@pytest.mark.parametrize("who", ["", "&sentinel_username=store"])
def test_sentinels_can_have_a_password_of_their_own(who):
    password = "of-the-sentinels"
    servers = Sentinels(sentinel_password=password)
    try:
        url = f"{servers.url}?sentinel_password={password}{who}"
        with Redis(connection_pool=make_pool(url)) as redis:
            first = servers.primary_port()
            assert redis.info("server")["tcp_port"] == first
            servers.kill(first)
            servers.wait_for_another(first)
            wait_for(lambda: answers(redis))
        assert why_not(servers.url).count("Authentication required") == len(servers.sentinels)
        refused = why_not(url.replace(password, "hunter2"))
        assert refused.count("invalid username-password pair") == len(servers.sentinels)
        assert "hunter2" not in refused
    finally:
        servers.close()


def test_why_the_primary_is_not_found_is_told_of_each_sentinel(servers, caplog):
    wrong = why_not(servers.url.replace(NAME, "another"))
    assert "'another'" in wrong
    for sentinel in servers.sentinels:
        assert f"127.0.0.1:{sentinel.port}: No such master with that name" in wrong
    closed, hung, ready = servers.sentinels
    closed.kill()
    with stopped(hung):
        halved = why_not(servers.url)
    assert PASSWORD not in halved
    assert f"127.0.0.1:{closed.port}: Error 111" in halved
    assert f"127.0.0.1:{hung.port}: Timeout" in halved
    assert f"127.0.0.1:{ready.port}: at 127.0.0.1:{servers.primary_port()}" in halved
    told = [one for one in caplog.messages if "no majority" in one]
    assert ["'another'" in one for one in told] == [True, False]  # Once each, in several rounds.
    assert f"127.0.0.1:{closed.port}: Error 111" in told[1]


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


# --- Jobs, and operators --------------------------------------------------------------------------


@pytest.fixture
def worker(transactional_db, servers, tmp_path) -> Iterator[WorkerProcess]:
    variables = {"REDIS_URL": servers.url, "SECRET_KEY": settings.SECRET_KEY}
    variables |= {"CACHE_BUDGET_SECONDS": "0.25"}  # what users have, not the suite's patience
    started = WorkerProcess(tmp_path / "worker.log", (), variables)
    started.wait_until_listening()
    yield started
    started.close()


def fail_primary(servers: Sentinels, how: str) -> int:
    """Have the primary "killed" or "hung"; return its port once there is another one."""
    first = servers.primary_port()
    if how == "killed":
        servers.kill(first)
    else:
        os.kill(servers.servers[first].process.pid, signal.SIGSTOP)
    servers.wait_for_another(first)
    return first


def ask_for_export(store: StoreProcess, editor: Client) -> int:
    return send(store, editor, "POST", "/store/exports/", "", "application/json")


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_jobs_from_before_a_failover_are_done_after_it(
    how, open_on, servers, editor, books, worker
):
    store = open_on()
    os.kill(worker.process.pid, signal.SIGSTOP)
    for _ in range(3):
        assert ask_for_export(store, editor) == 202
    with servers.primary() as primary:
        primary.set("later", "than the jobs")
        assert primary.wait(2, 2000) == 2
    first = fail_primary(servers, how)
    os.kill(worker.process.pid, signal.SIGCONT)
    wait_for(lambda: states(store, editor) == ["done"] * 3, 60)
    # A process may hear of the new primary a little later than the sentinels.
    wait_for(lambda: ask_for_export(store, editor) == 202, HITS_AGAIN_SECONDS)
    if how == "hung":
        os.kill(servers.servers[first].process.pid, signal.SIGCONT)
    wait_for(lambda: states(store, editor) == ["done"] * 4, 60)


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_a_worker_that_waits_for_jobs_meanwhile_soon_does_them_again(
    how, open_on, servers, editor, books, worker
):
    store = open_on()
    fail_primary(servers, how)
    wait_for(lambda: ask_for_export(store, editor) == 202, HITS_AGAIN_SECONDS)
    wait_for(lambda: states(store, editor)[0] == "done", WORKER_AGAIN_SECONDS)


def begin_import(store: StoreProcess, editor: Client, rows: int) -> Transfer:
    """Upload products 1 to `rows`, each at the price of its id."""
    lines = ["id,name,price", *(f"{n},Book {n},{n}" for n in range(1, rows + 1))]
    part = 'Content-Disposition: form-data; name="file"; filename="products.csv"'
    body = "\r\n".join(["--end", part, "", "\n".join(lines), "--end--", ""])
    kind = "multipart/form-data; boundary=end"
    assert send(store, editor, "POST", "/store/imports/", body, kind) == 202
    return Transfer.objects.get()


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_an_import_that_is_under_way_meanwhile_goes_on_where_it_was(
    how, open_on, servers, editor, worker
):
    threads = psutil.Process(worker.process.pid).num_threads
    transfer = begin_import(open_on(), editor, ROWS)

    def now() -> Transfer:
        transfer.refresh_from_db()
        return transfer

    wait_for(lambda: now().rows_done > 0)
    threads_before = threads()
    fail_primary(servers, how)
    assert 0 < now().rows_done < ROWS
    wait_for(lambda: now().state == "done", UNDER_WAY_AGAIN_SECONDS)
    assert transfer.attempt > 1
    assert transfer.rows_done == ROWS
    products = Product.objects.order_by("pk").values_list("pk", "name", "price")
    assert list(products) == [(n, f"Book {n}", n) for n in range(1, ROWS + 1)]
    # What listened to the one that is gone ends, some time after a worker has begun anew.
    wait_for(lambda: threads() <= threads_before, 90)


def states(store: StoreProcess, editor) -> list[str]:
    return [one["state"] for one in store.get("/store/exports/", cookies(editor)).json]


def test_operators_ask_the_primary(servers):
    with redis_survey.connect(servers.url) as redis:
        info = redis_survey.info(redis)
        assert info
        assert (info["role"], info["tcp_port"]) == ("master", servers.primary_port())
