import signal
import time

import pytest

from tests.waiting import wait_for

pytestmark = pytest.mark.engines

DRAIN_SECONDS = 8  # So long that no stall takes the 2 s in which requests are sent past the end.


def test_healthz_touches_nothing(client):
    # Without the `db` fixture any query would fail.
    response = client.get("/healthz", headers={"host": "10.0.0.7:8000"})
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


@pytest.mark.django_db
def test_readyz_names_database_and_cache(client):
    response = client.get("/readyz", headers={"host": "10.0.0.7:8000"})
    assert (response.status_code, response.json()) == (200, {"database": "ok", "cache": "ok"})


@pytest.mark.django_db(transaction=True)
def test_head_has_the_headers_of_get_and_no_body(open_store):
    store = open_store("--workers", "1")
    for path in ("/healthz", "/store/", "/store/cached/", "/static/admin/css/base.css"):
        assert store.get(path).body
        head = store.get(path, method="HEAD")
        assert head.body == b""
        assert int(head.headers["Content-Length"]) > 0
    assert "no-body response" not in store.log.read_text()


@pytest.mark.django_db(transaction=True)
def test_a_reload_by_sighup_keeps_the_store_open(open_store):
    store = open_store("--workers", "2")
    store.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while "Handling signal: hup" not in store.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)  # The new workers are starting, the old ones are leaving.
    assert store.get("/store/").status == 200
    assert store.process.poll() is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_reloaded", [False, True])
def test_asked_to_end_it_first_says_that_it_is_not_ready_and_serves_on(open_store, is_reloaded):
    store = open_store("--workers", "2", DRAIN_SECONDS=str(DRAIN_SECONDS))
    if is_reloaded:
        store.process.send_signal(signal.SIGHUP)
        wait_for(lambda: store.log.read_text().count("Booting worker") == 4)
        wait_for(lambda: store.log.read_text().count("Worker exiting") == 2)
        store.wait_until_open()
    assert store.get("/readyz").status == 200
    asked_at = time.monotonic()
    store.process.send_signal(signal.SIGTERM)
    wait_for(lambda: store.get("/readyz").json == {"status": "ending"})
    while time.monotonic() < asked_at + 2:
        assert [store.get(path).status for path in ("/healthz", "/store/")] == [200, 200]
    assert store.process.wait(timeout=30) == 0
    assert time.monotonic() - asked_at > DRAIN_SECONDS


@pytest.mark.django_db(transaction=True)
def test_asked_twice_it_ends_at_once(open_store):
    store = open_store("--workers", "1", DRAIN_SECONDS="60")
    store.process.send_signal(signal.SIGTERM)
    wait_for(lambda: store.get("/readyz").status == 503)
    store.process.send_signal(signal.SIGTERM)
    assert store.process.wait(timeout=30) == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.django_db
def test_probes_are_not_redirected_to_https(client, settings, path):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(path).status_code == 200
    assert client.get("/store/").status_code == 301


@pytest.mark.django_db(transaction=True)
def test_readyz_names_a_second_redis_which_can_be_missed(client, settings, redis):
    settings.QUEUE_REDIS_URL = f"{settings.REDIS_URL}?"
    expected = {"database": "ok", "cache": "ok", "queue": "ok"}
    assert client.get("/readyz").json() == expected
    settings.QUEUE_REDIS_URL = "redis://127.0.0.1:1/0"
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, expected | {"queue": "down"})


@pytest.mark.django_db(transaction=True)
def test_a_cache_that_is_down_is_reported_but_the_store_is_ready(client, settings):
    down = {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {**settings.CACHES, "default": down}
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"database": "ok", "cache": "down"})
    assert client.get("/store/cached/").status_code == 200
