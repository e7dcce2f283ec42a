"""The store on a Redis Cluster: what holds with one server holds there, and while nodes die and move."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection
from django.test import Client
from redis import Redis
from redis.cluster import key_slot

from freshcache.keys import UNVERSIONED
from freshcache.outage import RETRY_SECONDS
from tests.preloaded import ROOT
from tests.processes import StoreProcess
from tests.relay import Relay
from tests.scale.cluster_nodes import NODE_TIMEOUT_SECONDS, PASSWORD, SLOTS, Node, Nodes, Place
from tests.scale.load import Ask, Load, Visitor
from tests.servers import free_port, start_redis
from tests.test_stampedes import PRODUCT_QUERY, get_at_once, kinds
from tests.visitors import (
    CSRF_TOKEN,
    ask_at_once,
    cache_milliseconds,
    complaints,
    cookies,
    prices,
    reprice,
    serve_hits,
)
from tests.waiting import wait_for
from tests.witnesses import Traffic

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS, THREADS = 2, 4
FAMILY = "{product}"  # in whose slot all keys of the lists are
GENERATION = f"{settings.PROJECT_NAME}:{UNVERSIONED}:{FAMILY}:generation"
# What a failover takes: until the node counts as failed, is voted on, and a process asks again.
FAILOVER_SECONDS = 5 * NODE_TIMEOUT_SECONDS
# By then each process has found the cluster that is back; what one that has not yet found it changes,
# others may not see before.
FOUND_AGAIN_SECONDS = 2 * RETRY_SECONDS
NOISE_SECONDS = 5  # what a busy machine may add
CACHE_BUDGET_SECONDS = 0.25  # the default
PATIENCE = {"CACHE_BUDGET_SECONDS": "5"}  # for what is not about outages


@pytest.fixture(scope="module")
def formed() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.close()


@pytest.fixture
def nodes(formed: Nodes) -> Iterator[Nodes]:
    """The cluster, whole and empty."""
    yield formed
    formed.mend()


@pytest.fixture
def variables(nodes) -> dict[str, str]:
    """What makes a store use the cluster, and the suite's own server for what needs one."""
    return {
        "REDIS_URL": nodes.url,
        "QUEUE_REDIS_URL": settings.REDIS_URL,
        "SECRET_KEY": settings.SECRET_KEY,
    }


@pytest.fixture
def open_on_cluster(open_store, variables) -> Callable[..., StoreProcess]:
    def open_one(**more: str) -> StoreProcess:
        return open_store("--workers", str(WORKERS), "--threads", str(THREADS), **variables | more)

    return open_one


# --- One server's promises ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("/store/cached/", [1000, 2000, None], [77, 2000, None]),
        ("/store/cached/?max_price=1500", [1000], [77]),
        ("/store/cached/?search=Book+A&ordering=-price", [1000], [77]),
    ],
)
def test_a_list_is_created_once_and_forgotten_at_once(
    path, before, after, open_on_cluster, nodes, editor, books
):
    store = open_on_cluster(**PATIENCE)
    assert [store.get(path).status for _ in range(3)] == [201, 200, 200]
    assert [prices(answer) for answer in ask_at_once(store, path=path)] == [before] * 16
    assert reprice(store, editor, books[0], 77) == 200
    answers = ask_at_once(store, path=path)
    assert [prices(answer) for answer in answers] == [after] * 16
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 15}
    assert complaints(store.log) == []


def test_all_that_is_kept_of_the_lists_is_in_one_slot(open_on_cluster, nodes, books):
    store = open_on_cluster(**PATIENCE)
    for limit in range(1, 9):
        store.get("/store/cached/")
        store.get(f"/store/cached/?limit={limit}")
    found = nodes.keys("*")
    assert len(found) == 1 + 2 * 9  # the generation, and entries with their stale copies
    assert {key_slot(key.encode()) for key in found} == {key_slot(FAMILY.encode())}


@pytest.mark.mysql
def test_200_requests_at_once_cause_one_query_on_a_cluster(open_on_cluster, demo_books):
    relay = Relay(settings.MYSQL_PORT, PRODUCT_QUERY, lambda number: time.sleep(0.3))
    try:
        variables = {"MYSQL_PORT": str(relay.port), "CACHE_WAIT_SECONDS": "20", **PATIENCE}
        answers = get_at_once(open_on_cluster(**variables), 200)
        assert relay.count == 1
        assert kinds(answers) == {(201, False): 1, (200, True): 199}
    finally:
        relay.close()


def test_sessions_are_spread_over_the_servers(open_on_cluster, nodes, django_user_model):
    store = open_on_cluster(**PATIENCE)
    for number in range(12):
        user = django_user_model.objects.create_user(f"visitor-{number}", is_staff=True)
        client = Client()
        client.force_login(user)
        assert store.get("/admin/", cookies(client)).status == 200
        if number == 0:
            token = {**cookies(client), "X-CSRFToken": CSRF_TOKEN}
            assert store.get("/admin/logout/", token, method="POST").status == 200
            assert store.get("/admin/", cookies(client)).status == 302
    holding = [node for node in nodes.primaries() if node.redis.keys("*:session:*")]
    assert len(nodes.keys("*:session:*")) == 11
    assert len(holding) > 1


def test_several_keys_at_once_may_be_on_any_server(variables):
    code = """
from django.core.cache import caches
cache = caches["session"]
values = {f"key-{n}": {"n": n} for n in range(50)}
assert cache.set_many(values) in (None, [])
assert cache.get_many([*values, "none"]) == values
cache.delete_many(list(values)[:20])
assert len(cache.get_many(values)) == 30
cache.add("count", 1)
assert cache.incr("count", 2) == 3
"""
    ran = manage(variables, "shell", "--no-imports", "-c", code)
    assert ran.returncode == 0, ran.stderr


def test_the_user_of_redis_conf_needs_three_commands_more(
    open_on_cluster, variables, nodes, editor, books
):
    (line,) = re.findall(r"^user store (.*)$", (ROOT / "redis.conf").read_text(), re.MULTILINE)
    of_store = line.replace("#PASSWORD_SHA256", f">{PASSWORD}")
    of_store = of_store.replace("PROJECT_NAME", settings.PROJECT_NAME)
    (more,) = re.findall(r"`(\+cluster.*?)`", (ROOT / "docs/scale/cluster.md").read_text())
    for node in nodes.all:
        node.redis.execute_command("ACL", "SETUSER", "store", *of_store.split(), *more.split())
    url = nodes.url.replace("://:", "://store:")
    store = open_on_cluster(REDIS_URL=url, **PATIENCE)
    assert [store.get("/store/cached/").status for _ in range(2)] == [201, 200]
    assert reprice(store, editor, books[0], 77) == 200
    nodes.move_slot(FAMILY)
    nodes.move_slot(session_key(editor))
    assert reprice(store, editor, books[0], 78) == 200
    serve_hits(store)
    assert complaints(store.log) == []
    assert manage({**variables, "REDIS_URL": url}, "redis_report").returncode == 0


def test_a_cluster_may_speak_tls(open_store, variables, tmp_path, editor, books):
    certificate = tmp_path / "certificate.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    command += ["-keyout", str(tmp_path / "key.pem"), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    nodes = Nodes([Place(certificate=certificate)] * 6)
    try:
        variables = {**variables, "REDIS_URL": nodes.url, **PATIENCE}
        store = open_store("--workers", "1", **variables)
        assert [store.get("/store/cached/").status for _ in range(2)] == [201, 200]
        assert reprice(store, editor, books[0], 77) == 200
        assert prices(store.get("/store/cached/"))[0] == 77
        assert manage(variables, "redis_report").returncode == 0
        assert complaints(store.log) == []
    finally:
        nodes.close()


# --- For operators --------------------------------------------------------------------------------


def test_commands_find_what_is_on_any_server(open_on_cluster, variables, nodes, editor, books):
    store = open_on_cluster(**PATIENCE)
    store.get("/store/cached/")
    store.get("/store/cached/?limit=1")
    store.get("/admin/", cookies(editor))
    checked = manage(variables, "check_cache")
    assert "Compared 2 cached lists with the database: all are right." in checked.stdout

    report = manage(variables, "redis_report").stdout
    assert report.count("Redis for the cache, 127.0.0.1:") == 3
    assert report.count("Redis for the queue, ") == 1
    assert re.search(r"^ *product +\d+ ", report, re.MULTILINE)
    assert PASSWORD not in report

    dry = manage(variables, "clear_cache", "--all", "--dry-run").stdout
    assert dry == "Would delete 4 cached entries.\n"
    assert manage(variables, "clear_cache", "--pattern", "product:slot*").returncode == 0
    assert [store.get(path).status for path in ("/store/cached/", "/store/cached/?limit=1")] == [
        200,
        201,
    ]
    assert manage(variables, "clear_cache", "--all").stdout == "Deleted 4 cached entries.\n"
    assert len(nodes.keys("*:session:*")) == 1


def test_nodes_may_have_addresses_of_ipv6(open_store, books):
    port = free_port()
    where = ("--bind", "127.0.0.1", "::1", "--cluster-announce-ip", "::1")
    node = start_redis(port, *where, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with Redis(port=port) as redis:
        redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
        wait_for(lambda: redis.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
    variables = {"REDIS_URL": f"redis+cluster://[::1]:{port}/0", **PATIENCE}
    variables |= {"QUEUE_REDIS_URL": settings.REDIS_URL, "SECRET_KEY": settings.SECRET_KEY}
    store = open_store("--workers", "1", **variables)
    assert [store.get("/store/cached/").status for _ in range(2)] == [201, 200]
    report = manage(variables, "redis_report")
    assert f"Redis for the cache, [::1]:{port}/0" in report.stdout, report.stderr
    node.kill()


def test_readiness_tells_of_a_primary_that_is_down_and_of_its_replacement(open_on_cluster, nodes):
    store = open_on_cluster()
    well = {"database": "ok", "cache": "ok", "queue": "ok"}
    assert store.get("/readyz").json == well
    with killed(nodes.primary_of(FAMILY)):
        assert store.get("/readyz").json == {**well, "cache": "down"}
        wait_for(lambda: store.get("/readyz").json == well, FAILOVER_SECONDS + NOISE_SECONDS)


@pytest.mark.parametrize("has_found_them", [True, False])
def test_readiness_does_not_wait_for_node_after_node(has_found_them, open_on_cluster, nodes, books):
    store = open_on_cluster()
    if has_found_them:
        serve_hits(store)
    with ExitStack() as stack:
        for node in nodes.all:
            stack.enter_context(hung(node))
        answers, seconds = [], []
        for _ in range(8):
            began = time.monotonic()
            answers.append(store.get("/readyz"))
            seconds.append(time.monotonic() - began)
    assert [(answer.status, answer.json["cache"]) for answer in answers] == [(200, "down")] * 8
    # Only the first request of each process waits: for one server, or for the two that REDIS_URL names.
    assert sum(seconds) < WORKERS * 2 * CACHE_BUDGET_SECONDS + NOISE_SECONDS / 2


# --- Nodes die ------------------------------------------------------------------------------------


@contextmanager
def killed(node: Node) -> Iterator[None]:
    node.executor.kill()
    yield


@contextmanager
def hung(node: Node) -> Iterator[None]:
    os.kill(node.executor.process.pid, signal.SIGSTOP)
    yield
    os.kill(node.executor.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [killed, hung])
@pytest.mark.parametrize("whose", ["the lists' primary", "the session's primary"])
def test_nothing_is_refused_or_old_while_a_primary_is_replaced(
    fault, whose, open_on_cluster, nodes, editor, books
):
    while nodes.primary_of(session_key(editor)) is nodes.primary_of(FAMILY):
        sign_in_anew(editor)
    store = open_on_cluster()
    serve_hits(store)
    primary = nodes.primary_of(FAMILY if whose == "the lists' primary" else session_key(editor))
    replica = nodes.replica_of(primary)
    with Traffic(store, editor, books[:1]) as traffic:
        time.sleep(1)
        with fault(primary):
            began = time.monotonic()
            wait_for(traffic.is_without_hits, 10)
            wait_for(lambda: replica.role() == "master", 20)
            serve_hits(store)
            seconds = time.monotonic() - began
            time.sleep(1)
        time.sleep(2)  # A primary that was hung hears that it is none any more.
    traffic.assert_all_answered()
    assert traffic.late_reads(FOUND_AGAIN_SECONDS) == []
    assert seconds < FAILOVER_SECONDS + NOISE_SECONDS
    # The first requests of each process meet the fault; then none asks Redis before it is back.
    assert slowest_milliseconds(traffic) < 1000 * (CACHE_BUDGET_SECONDS + NOISE_SECONDS / 10)
    for node in nodes.all:
        assert max(store.sockets(node.port).values(), default=0) <= THREADS + 1


@contextmanager
def replication_cut(primary: Node, replica: Node) -> Iterator[None]:
    """What `primary` is told meanwhile dies with it; its replica takes over, and has the generation."""
    wait_for(lambda: replica_has(replica, GENERATION))
    with hung(replica):
        primary.redis.client_kill_filter(_type="replica")
        yield
        assert not primary.redis.exists(GENERATION)
        primary.executor.kill()
    wait_for(lambda: replica.role() == "master", 20)
    assert replica.redis.exists(GENERATION)


@pytest.mark.parametrize("afterwards", ["stays away", "is back as a replica before anybody asks"])
def test_an_invalidation_that_died_with_its_primary_is_made_up_for(
    afterwards, open_on_cluster, nodes, editor, books
):
    store = open_on_cluster()
    serve_hits(store)
    primary = nodes.primary_of(FAMILY)
    with replication_cut(primary, nodes.replica_of(primary)):
        assert reprice(store, editor, books[0], 77) == 200
    if afterwards != "stays away":
        primary.executor.start()
        wait_for(lambda: primary.role() == "slave")

    assert {prices(answer)[0] for answer in ask_at_once(store)} == {77}
    serve_hits(store)
    assert {prices(answer)[0] for answer in ask_at_once(store)} == {77}


def test_a_process_that_opens_after_a_failover_trusts_nothing_from_before(
    open_on_cluster, nodes, editor, books
):
    idle = open_on_cluster()
    serve_hits(idle)
    primary = nodes.primary_of(FAMILY)
    with replication_cut(primary, nodes.replica_of(primary)):
        assert reprice(idle, editor, books[0], 77) == 200
    new = open_on_cluster(**PATIENCE)
    answers = [answer for _ in range(3) for answer in ask_at_once(new)]
    assert {prices(answer)[0] for answer in answers} == {77}
    serve_hits(new)
    assert {prices(answer)[0] for answer in ask_at_once(new)} == {77}
    assert complaints(new.log) == []


@pytest.mark.parametrize("count", [1, 6])
def test_a_store_that_starts_while_nodes_hang_is_not_held_up(count, open_on_cluster, nodes, books):
    with ExitStack() as stack:
        for node in nodes.all[:count]:  # One of those that REDIS_URL names, or all.
            stack.enter_context(hung(node))
        store = open_on_cluster()
        answers = ask_at_once(store)
        assert {answer.status for answer in answers} <= {200, 201}
        # Only who asks first in a process looks for the servers.
        most = 1000 * CACHE_BUDGET_SECONDS * (count + NOISE_SECONDS / 10)
        assert max(map(cache_milliseconds, answers)) < most
    serve_hits(store, 20)


def test_a_cluster_without_its_majority_is_left_alone_at_once(
    open_on_cluster, nodes, editor, books
):
    store = open_on_cluster()
    serve_hits(store)
    left = nodes.primary_of(FAMILY)
    with ExitStack() as stack, Traffic(store, editor, books[:1]) as traffic:
        time.sleep(1)
        for node in nodes.others(left):
            stack.enter_context(hung(node))
        # It is well, and answers until it notices that it may be the only one that thinks so.
        wait_for(traffic.is_without_hits, FAILOVER_SECONDS + NOISE_SECONDS)
        time.sleep(2)
        stack.close()
        serve_hits(store, 20)
    traffic.assert_all_answered()
    assert traffic.late_reads(FOUND_AGAIN_SECONDS) == []
    assert slowest_milliseconds(traffic) < 1000 * (CACHE_BUDGET_SECONDS + NOISE_SECONDS / 10)


# --- Slots move -----------------------------------------------------------------------------------


def test_nothing_is_refused_or_old_while_slots_move(open_on_cluster, nodes, editor, books):
    store = open_on_cluster(**PATIENCE)
    serve_hits(store)
    shop = Load([Visitor(store, repeat(Ask("GET", "/shop/")), {}) for _ in range(2)])
    with Traffic(store, editor, books[:1]) as traffic, shop:
        for limit in range(1, 40):
            store.get(f"/store/cached/?limit={limit}")
        for key in (FAMILY, session_key(editor), FAMILY):
            target = nodes.move_slot(key, pause_seconds=0.03)
            wait_for(lambda key=key, target=target: nodes.primary_of(key) is target)
            serve_hits(store)
            time.sleep(1)
    traffic.assert_all_answered()
    assert traffic.late_reads() == []
    assert shop.failures == []
    serve_hits(store)
    assert "left alone" not in store.log.read_text()  # It was no outage.


def test_an_answer_that_finds_its_slot_moved_says_so(open_on_cluster, nodes, books):
    store = open_on_cluster(**PATIENCE)
    serve_hits(store)
    nodes.move_slot(FAMILY)
    said = {answer.headers["Cache-Status"] for answer in ask_at_once(store)}
    assert "store; fwd=bypass; detail=slot-moved" in said
    serve_hits(store)


# --- What they have in common ---------------------------------------------------------------------


def slowest_milliseconds(traffic: Traffic) -> float:
    """Return the longest that a read has spent on the cache."""
    return max(read.cache_milliseconds for read in traffic.reads)


def session_key(editor: Client) -> str:
    name = f"django.contrib.sessions.cached_db{editor.cookies['sessionid'].value}"
    return str(caches["session"].make_key(name))


def sign_in_anew(editor: Client) -> None:
    user = User.objects.get(username="editor")
    editor.logout()
    editor.force_login(user)


def replica_has(replica: Node, key: str) -> bool:
    with Redis(port=replica.port, password=PASSWORD, single_connection_client=True) as redis:
        redis.readonly()
        return bool(redis.exists(key))


def manage(variables: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **variables}
    if "MYSQL_HOST" in environment:
        environment["MYSQL_NAME"] = connection.settings_dict["NAME"]
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
