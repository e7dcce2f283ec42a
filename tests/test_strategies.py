"""STRATEGIES=on: usual ways of caching the list, all with the same contract."""

import pytest
from django.conf import settings

from tests.test_settings import manage
from tests.visitors import prices, reprice

NAMES = ("uncached", "tutorial", "per-view", "orm", "herd", "bytes", "store", "constant")


@pytest.fixture
def store(open_store, books):
    return open_store("--workers", "1", STRATEGIES="on", ORM_CACHE="on")


@pytest.mark.engines
def test_all_strategies_answer_alike(store, books, redis):
    uncached = store.get("/store/").json["results"]
    for name in NAMES:
        path = f"/store/strategies/{name}/"
        first, second = store.get(path), store.get(path)
        for answer in (first, second):
            assert answer.headers["Content-Type"] == "application/json", name
            body = answer.json
            assert list(body) == ["response_time", "from_database", "from_cache", "results"], name
            assert body["results"] == uncached
            assert body["from_database"] is not body["from_cache"]
        assert second.status == 200
        assert first.status == (200 if name in ("uncached", "per-view", "constant") else 201), name
        assert first.json["from_cache"] is (name == "constant")
        # What cache_page replays says what was true of the answer that it has stored.
        assert second.json["from_cache"] is (name not in ("uncached", "per-view"))


@pytest.mark.engines
def test_a_saved_price_is_seen_by_those_that_promise_it(store, books, editor):
    for name in NAMES:
        store.get(f"/store/strategies/{name}/")
    assert reprice(store, editor, books[0], 4321) == 200
    fresh = {name for name in NAMES if prices(store.get(f"/store/strategies/{name}/"))[0] == 4321}
    assert fresh == set(NAMES) - {"per-view", "constant"}


def test_only_their_own_keys_are_pickled(store, redis):
    for name in NAMES:
        if name != "orm":  # cacheops has keys of its own.
            store.get(f"/store/strategies/{name}/")
    own = f"{settings.PROJECT_NAME}:strategies".encode()
    ours = redis.scan_iter(f"{settings.PROJECT_NAME}:*", _type="string")
    pickled = {key for key in ours if is_pickled(redis.get(key))}
    assert pickled
    assert all(key.startswith(own) for key in pickled)


def is_pickled(value: bytes) -> bool:
    return value.startswith(b"\x80") and value.endswith(b".")


def test_by_default_there_are_none_and_nothing_of_them_is_loaded(client, db):
    assert client.get("/store/strategies/tutorial/").status_code == 404
    code = (
        "import sys; from django.conf import settings; from django.urls import resolve; "
        "resolve('/store/'); print('store.strategies' in sys.modules, 'strategies' in settings.CACHES)"
    )
    assert manage("shell", "--no-imports", "-c", code).stdout == "False False\n"
