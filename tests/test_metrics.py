"""/metrics: right over several workers, no files that pile up, not for strangers."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from freshcache import Outcome, registry
from simple_django_redis import metric_files
from simple_django_redis.middleware import TrustedProxyMiddleware
from store import metric_totals
from store.models import Product
from tests.processes import StoreProcess
from tests.servers import free_port
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

CACHED = "/store/cached/"
OUTCOMES = {outcome.value for outcome in Outcome} | {"error"}
RESULTS = {"done", "postponed"}
WORKERS = 2
FORWARDED = [
    {"X-Forwarded-For": "203.0.113.9"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": "::1"},
    {"X-Forwarded-For": ""},
    {"X-Forwarded-For": "203.0.113.9, 127.0.0.1"},
    {"X-Forwarded-Host": "example.com"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Port": "443"},
    {"X-Forwarded-Server": "proxy"},
    {"X-Real-IP": "203.0.113.9"},
    {"Forwarded": "for=203.0.113.9"},
    {"Via": "1.1 proxy"},
    {"CF-Connecting-IP": "203.0.113.9"},
    {"True-Client-IP": "203.0.113.9"},
    {"X-Client-IP": "203.0.113.9"},
]
by_proxy = pytest.mark.parametrize("headers", FORWARDED, ids=lambda headers: str(headers))


@pytest.fixture
def store(open_store: Callable[..., StoreProcess], tmp_path: Path) -> StoreProcess:
    """The store with two workers; what it puts into the temporary folder is in `tmp_path`."""
    return open_store(TMPDIR=str(tmp_path), WEB_CONCURRENCY=str(WORKERS))


Samples = dict[tuple[str, frozenset], float]


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(store: StoreProcess) -> Samples:
    answer = store.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return samples_of(answer.body.decode())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def total(samples: Samples, name: str) -> float:
    return sum(found for (sample, _), found in samples.items() if sample == name)


def folders(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("store-metrics-*"))


def slots(tmp_path: Path) -> set[str]:
    """Return the slots that the files of the one store below `tmp_path` are named by."""
    (folder,) = folders(tmp_path)
    return {re.fullmatch(r"\w+_(\w+)\.db", file.name)[1] for file in folder.iterdir()}


def worker_pids(store: StoreProcess) -> list[int]:
    return sorted(worker.pid for worker in psutil.Process(store.process.pid).children())


def are_replaced(store: StoreProcess, gone: list[int]) -> bool:
    pids = worker_pids(store)
    return len(pids) == WORKERS and not set(gone) & set(pids)


def use_all_workers(store: StoreProcess, tmp_path: Path) -> int:
    """Read the cached list until every worker has counted something; return how many reads."""
    (folder,) = folders(tmp_path)
    sent = 0
    with ThreadPoolExecutor(8) as executor:
        while len(list(folder.glob("counter_*.db"))) < WORKERS:
            assert sent < 2000
            for status in executor.map(lambda _: store.get(CACHED).status, range(40)):
                assert status in (200, 201)
                sent += 1
    return sent


# --- Right counts ---------------------------------------------------------------------------------


def test_counts_add_up_over_the_workers_whoever_answers(store, books, tmp_path):
    sent = use_all_workers(store, tmp_path)
    assert slots(tmp_path) == {"0", "1"}
    found = [scrape(store) for _ in range(6)]
    assert {total(samples, "freshcache_requests_total") for samples in found} == {sent}
    # How late a process' timers are goes on being counted.
    steady = [
        {key: value for key, value in samples.items() if "process_late" not in key[0]}
        for samples in found
    ]
    assert all(samples == steady[0] for samples in steady)


def test_a_folder_that_others_remove_takes_nothing_down(store, books, tmp_path):
    use_all_workers(store, tmp_path)
    gone = worker_pids(store)
    (folder,) = folders(tmp_path)
    shutil.rmtree(folder)
    assert store.get("/metrics").status == 503
    # What has not been counted before needs a file; other answers do not wait for it.
    for path in (CACHED, "/store/", f"/store/cached/?search={books[0].name}", "/redis/"):
        assert store.get(path.replace(" ", "%20")).status in (200, 201)
    os.kill(gone[0], signal.SIGTERM)
    wait_for(lambda: len(worker_pids(store)) == WORKERS and worker_pids(store) != gone)
    wait_for(lambda: store.get("/metrics").status == 200)
    shutil.rmtree(folder)
    assert store.close() == 0


def test_without_a_folder_that_can_be_made_a_process_counts_for_itself(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv(metric_files.VARIABLE, str(blocked / "folder"))
    monkeypatch.setattr("prometheus_client.values.ValueClass", None)
    metric_files.use(lambda: "0")
    registry = CollectorRegistry()
    for name in ("a", "b"):
        Counter(name, "One", ["x"], registry=registry).labels("y").inc()
    assert registry.get_sample_value("b_total", {"x": "y"}) == 1
    with pytest.raises(metric_totals.NotThere):
        metric_totals.read(generate_latest)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_file_that_is_none_is_a_503_of_the_metrics(content, client, tmp_path, monkeypatch):
    monkeypatch.setenv(metric_files.VARIABLE, str(tmp_path))
    (tmp_path / "counter_0.db").write_bytes(content)
    assert client.get("/metrics").status_code == 503


def counted(client, since: Samples | None = None) -> Samples:
    """Return what this process has counted, less what it had counted before."""
    samples = samples_of(client.get("/metrics").text)
    return {key: found - (since or {}).get(key, 0.0) for key, found in samples.items()}


def test_the_hit_ratio_can_be_computed(client, books):
    before = counted(client)
    for _ in range(10):
        client.get(CACHED)
    samples = counted(client, before)

    def count(*outcomes: str) -> float:
        return sum(
            value(samples, "freshcache_requests_total", region="product", outcome=outcome)
            for outcome in outcomes
        )

    assert count("miss") == 1
    assert count("hit", "coalesced", "stale") / count(*OUTCOMES) == 0.9


def test_a_fill_tells_its_time_and_size(client, books):
    before = counted(client)
    size = len(client.get(CACHED).content)
    samples = counted(client, before)
    assert value(samples, "freshcache_fill_seconds_count", region="product") == 1
    assert 0 < value(samples, "freshcache_fill_seconds_sum", region="product") < 5
    assert value(samples, "freshcache_entry_bytes_count", region="product") == 1
    assert 0.5 * size < value(samples, "freshcache_entry_bytes_sum", region="product") < size


def test_waits_and_their_time_are_counted(store, books, redis, settings):
    store.get(CACHED)
    generation = redis.get(f"{settings.PROJECT_NAME}:0:product:generation")
    redis.delete(f"{settings.PROJECT_NAME}:1:product")
    lock = f"{settings.PROJECT_NAME}:1:product:lock"
    redis.set(lock, generation + b"f" * 32, px=60_000)  # Somebody else fills it ...
    began = time.monotonic()
    with ThreadPoolExecutor(4) as executor:
        asked = [executor.submit(store.get, CACHED) for _ in range(4)]
        for _ in range(10):  # ... for a second; a machine that stalls takes but one of these.
            time.sleep(0.1)
        redis.delete(lock)
        answers = [one.result() for one in asked]
    seconds = time.monotonic() - began
    samples = scrape(store)
    waited = sum("collapsed" in answer.headers["Cache-Status"] for answer in answers)
    assert (
        value(samples, "freshcache_requests_total", region="product", outcome="coalesced") == waited
    )
    assert value(samples, "freshcache_wait_seconds_count", region="product") >= waited
    assert waited
    found = value(samples, "freshcache_wait_seconds_sum", region="product")
    assert 0.1 < found <= len(answers) * seconds


def test_invalidations_are_counted(client, books):
    before = counted(client)
    for price in (1, 2, 3):
        Product.objects.update(price=price)
    samples = counted(client, before)
    name = "freshcache_invalidations_total"
    assert value(samples, name, region="product", result="done") == 3


def test_an_outage_of_redis_shows_and_dead_workers_do_not_count(open_store, books, tmp_path):
    store = open_store(
        TMPDIR=str(tmp_path),
        WEB_CONCURRENCY=str(WORKERS),
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
        SECRET_KEY="x" * 50,
    )
    assert value(scrape(store), "freshcache_circuit_open") == 0
    use_all_workers(store, tmp_path)
    assert value(scrape(store), "freshcache_circuit_open") == WORKERS
    assert total(scrape(store), "freshcache_requests_total") == value(
        scrape(store), "freshcache_requests_total", region="product", outcome="bypass"
    )
    killed = worker_pids(store)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: are_replaced(store, killed))
    store.wait_until_open()
    assert value(scrape(store), "freshcache_circuit_open") == 0


# --- Files ----------------------------------------------------------------------------------------


def test_killed_workers_leave_no_files_and_lose_no_counts(store, books, tmp_path):
    sent = use_all_workers(store, tmp_path)
    (folder,) = folders(tmp_path)
    files = {file.name for file in folder.iterdir()}
    for _ in range(4):
        before = worker_pids(store)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda gone=before: (
                not set(gone) & set(pids := worker_pids(store)) and len(pids) == WORKERS
            )
        )
        store.wait_until_open()
        for _ in range(5):
            store.get(CACHED)
        sent += 5
        assert slots(tmp_path) == {"0", "1"}
        assert {file.name for file in folder.iterdir()} <= files
        assert total(scrape(store), "freshcache_requests_total") == sent


def test_reloads_leave_no_files_and_lose_no_counts(store, books, tmp_path):
    for _ in range(3):
        store.get(CACHED)
        before = worker_pids(store)
        store.process.send_signal(signal.SIGHUP)
        wait_for(lambda gone=before: are_replaced(store, gone))
    assert len(folders(tmp_path)) == 1
    # While they are replaced there are twice as many workers for a moment.
    assert slots(tmp_path) <= {"0", "1", "2", "3"}
    assert total(scrape(store), "freshcache_requests_total") == 3


def test_a_file_that_a_worker_is_just_making_is_no_error(
    store, books, tmp_path, client, monkeypatch
):
    store.get(CACHED)
    (folder,) = folders(tmp_path)
    file = folder / "counter_9.db"
    file.touch()  # So it is between open() and truncate().

    def go_on(seconds: float) -> None:
        assert seconds == metric_totals.STARTING_SECONDS
        with file.open("r+b") as opened:
            opened.truncate(1 << 16)

    # This process reads the files of the store, and the worker goes on as soon as it is waited for.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    monkeypatch.setattr(metric_totals, "time", SimpleNamespace(sleep=go_on))
    samples = samples_of(client.get("/metrics").text)
    assert file.stat().st_size == 1 << 16
    assert total(samples, "freshcache_requests_total") == 1


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_folder_is_gone_after_the_end(store, books, tmp_path, end):
    store.get(CACHED)
    os.kill(worker_pids(store)[0], signal.SIGKILL)
    assert len(folders(tmp_path)) == 1
    store.process.send_signal(end)
    store.process.wait(timeout=30)
    assert folders(tmp_path) == []


def test_two_stores_do_not_count_for_each_other(open_store, store, books, tmp_path):
    other = open_store(TMPDIR=str(tmp_path), WEB_CONCURRENCY="1")
    assert len(folders(tmp_path)) == 2
    for _ in range(3):
        store.get(CACHED)
    assert total(scrape(store), "freshcache_requests_total") == 3
    assert total(scrape(other), "freshcache_requests_total") == 0


# --- Who may ask ----------------------------------------------------------------------------------


def test_loopback_may_ask_and_what_came_through_a_proxy_may_not(store, books):
    assert store.get("/metrics").status == 200
    for headers in FORWARDED:
        answer = store.get("/metrics", headers)
        assert answer.status == 403, headers
        assert b"store_cache" not in answer.body


@by_proxy
def test_behind_a_trusted_proxy_nobody_is_loopback(settings, headers):
    settings.TRUST_PROXY = True
    assert Client().get("/metrics", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4:56", "1.2.3.4"),
        ("evil, 1.2.3.4:56", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:56", "2001:db8::1"),
    ],
)
def test_a_trusted_proxy_may_name_the_clients_port_as_well(settings, forwarded, address):
    settings.TRUST_PROXY = True
    request = RequestFactory().get("/", headers={"X-Forwarded-For": forwarded})
    TrustedProxyMiddleware(lambda _: HttpResponse())(request)
    assert request.META["REMOTE_ADDR"] == address


@pytest.mark.parametrize("trusted", [True, False])
@by_proxy
def test_what_was_forwarded_is_never_answered_whoever_is_named(settings, headers, trusted):
    """An ingress may translate all addresses to one of a network that METRICS_ALLOW names."""
    settings.TRUST_PROXY = trusted
    settings.METRICS_ALLOW = [ip_network("0.0.0.0/0"), ip_network("::/0")]
    assert Client().get("/metrics", headers=headers).status_code == 403


def test_with_a_token_it_takes_the_token_as_well(client, settings):
    """A proxy that adds no header is to be told from a scraper by what only the scraper has."""
    settings.METRICS_TOKEN = "t" * 16
    right = {"Authorization": f"Bearer {settings.METRICS_TOKEN}"}
    for wrong in ({}, {"Authorization": "Bearer "}, {"Authorization": "t" * 16}):
        assert client.get("/metrics", headers=wrong).status_code == 403
    assert client.get("/metrics", headers=right).status_code == 200
    assert client.get("/metrics", headers=right, REMOTE_ADDR="10.0.0.1").status_code == 403
    assert client.get("/metrics", headers={**right, "Via": "1.1 x"}).status_code == 403


@pytest.mark.parametrize("address", ["203.0.113.9", "10.0.0.1", "::2", "", "unknown", "fe80::1%x"])
def test_strangers_may_not_ask(client, address):
    assert client.get("/metrics", REMOTE_ADDR=address).status_code == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_may_ask(client, address):
    assert client.get("/metrics", REMOTE_ADDR=address).status_code == 200


def test_the_networks_named_may_ask_and_then_loopback_may_not(open_store):
    store = open_store(METRICS_ALLOW="10.0.0.0/8,192.0.2.7", WEB_CONCURRENCY="1")
    assert store.get("/metrics").status == 403


@pytest.mark.parametrize(
    ("address", "status"), [("10.1.2.3", 200), ("192.0.2.7", 200), ("192.0.2.8", 403)]
)
def test_metrics_allow_takes_networks_and_addresses(client, settings, address, status):
    settings.METRICS_ALLOW = [ip_network("10.0.0.0/8"), ip_network("192.0.2.7")]
    assert client.get("/metrics", REMOTE_ADDR=address).status_code == status


def test_prometheus_may_ask_each_pod_by_its_address_over_plain_http(client, settings):
    settings.SECURE_SSL_REDIRECT = True
    for answer in (
        client.get("/metrics", headers={"host": "10.244.3.7:8000"}),
        client.get("/metrics"),
    ):
        assert answer.status_code == 200
        assert b"freshcache_requests" in answer.content


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_metrics_are_only_read(client, method):
    assert getattr(client, method)("/metrics").status_code == 405


# --- Labels ---------------------------------------------------------------------------------------


def test_label_values_are_bounded_whatever_is_asked(store, books):
    Product.objects.update(price=5)
    for number in range(40):
        store.get(f"{CACHED}?search=word-{number}&x{number}={number}")
        store.get(f"{CACHED}?limit=0&ordering=x{number}")
        store.get(f"/store/no-such-path-{number}/")
        store.get(CACHED, {"Accept": f"text/x{number}", f"X-Header-{number}": str(number)})
        store.get(CACHED, {"Cookie": f"sessionid=x{number}", "User-Agent": f"agent {number}"})
    samples = scrape(store)
    labels = {(name, found) for _, pairs in samples for name, found in pairs}
    assert {found for name, found in labels if name == "region"} == set(registry.names())
    assert {found for name, found in labels if name == "outcome"} <= OUTCOMES
    assert {found for name, found in labels if name == "result"} <= RESULTS
    assert {name for name, _ in labels} <= {"region", "outcome", "result", "le"}
    assert len(samples) < 100
