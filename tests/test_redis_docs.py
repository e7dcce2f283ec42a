"""The table of keys in docs/redis.md, against keys.py and against what a Redis really holds."""

import inspect
import re
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client
from redis import Redis

from freshcache import keys as cache_keys
from freshcache import registry
from freshcache.keys import UNVERSIONED
from freshcache.runtime import cache_of
from store import keys, locks, queues, warm_up
from store.redis_survey import family_of
from tests.preloaded import ROOT
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

NOW = datetime.now(UTC)
DOCS = (ROOT / "docs/redis.md").read_text()


def cached(*names: str) -> list[str]:
    return [str(caches["default"].make_key(name)) for name in names]


# What each function of keys.py makes; a new one has to be added here and to the table.
MADE = {
    "entry_keys": lambda: [
        *cached(*astuple(cache_keys.entry_keys("product"))[:3]),
        *cached(*astuple(cache_keys.entry_keys("product", "a query"))[:3]),
    ],
    "generation_key": lambda: [
        str(caches["default"].make_key(cache_keys.generation_key(family), UNVERSIONED))
        for family in registry.names()
    ],
    "probe_key": lambda: [
        str(caches["default"].make_key(cache_keys.probe_key(family), UNVERSIONED))
        for family in registry.names()
    ],
    "orm_prefix": lambda: [
        f"{keys.orm_prefix('0f3c')}{name}"
        for name in ("q:12ab", "conj:store_product:id=1", "schemes:store_product")
    ],
    "user_basket_key": lambda: [keys.user_basket_key(7)],
    "anonymous_basket_key": lambda: [keys.anonymous_basket_key("abc")],
    "views_key": lambda: [keys.views_key(NOW)],
    "ranking_key": lambda: [keys.ranking_key()],
    "user_recent_key": lambda: [keys.user_recent_key(7)],
    "viewed_key": lambda: [keys.viewed_key(NOW)],
    "anonymous_baskets_key": lambda: [keys.anonymous_baskets_key()],
    "write_check_key": lambda: [keys.write_check_key()],
    "visitors_key": lambda: [keys.visitors_key(NOW)],
    "events_key": lambda: [keys.events_key()],
    "warm_up_key": lambda: [keys.warm_up_key()],
    "lock_key": lambda: [keys.lock_key("import")],
    "throttle_key": lambda: [
        str(caches["throttle"].make_key(keys.throttle_key(what, "192.0.2.7")))
        for what in ("login-address", "login-name", "write", "basket")
    ],
    "known_clients_key": lambda: [str(caches["throttle"].make_key(keys.known_clients_key("jane")))],
}


@dataclass(frozen=True)
class Row:
    patterns: list[str]
    made_by: str
    type: str

    def has(self, key: str) -> bool:
        return any(re.fullmatch(as_regex(pattern), key) for pattern in self.patterns)


def as_regex(pattern: str) -> str:
    """`P` is PROJECT_NAME, other words in capitals are any text without a colon."""
    regex = re.sub(r"[A-Z]{2,}|N$|N(?=:)", "[^:]+", re.escape(pattern))
    return re.sub(r"^P", re.escape(settings.PROJECT_NAME), regex)


def rows() -> list[Row]:
    table = DOCS.split("## Every key")[1].split("\n## ")[0]
    found = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return [Row(re.findall(r"`(.+?)`", row[0]), row[1].strip("`"), row[2]) for row in found]


def rows_of(key: str) -> list[Row]:
    return [row for row in rows() if row.has(key)]


def test_every_function_that_makes_keys_is_in_the_table():
    functions = {
        name
        for module in (keys, cache_keys)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if inspect.getmodule(function) is module and re.search("_(keys?|prefix)$", name)
    }
    assert functions == MADE.keys()
    assert {row.made_by for row in rows()} - {"Django", "RQ"} == functions


@pytest.mark.parametrize("function", MADE)
def test_every_key_of_a_function_is_in_its_row(function):
    for key in MADE[function]():
        assert [row.made_by for row in rows_of(key)] == [function], key


@pytest.mark.parametrize("function", MADE)
def test_the_report_finds_the_family_of_every_key(function):
    for key in MADE[function]():
        family = family_of(key)
        patterns = [pattern for row in rows_of(key) for pattern in row.patterns]
        assert any(family in pattern.split(":") for pattern in patterns), (key, family)


def test_every_family_of_cached_entries_is_in_the_table():
    for family in registry.names():
        assert rows_of(cached(family)[0])


def test_every_lifetime_of_keys_py_and_of_the_settings_that_the_table_names_exists():
    table = DOCS.split("## Every key")[1].split("\n## ")[0]
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", table))
    known = vars(keys) | vars(cache_keys)
    assert {name for name in known if name.endswith("_SECONDS")} <= named
    assert [name for name in named if name not in known and not hasattr(settings, name)] == []


@pytest.mark.smoke
def test_everything_in_redis_is_in_the_table_with_its_type_and_a_lifetime(
    books, redis, settings, monkeypatch
):
    settings.THROTTLE_LOGIN = settings.THROTTLE_WRITES = (100, 60)
    monkeypatch.setattr(queues, "enqueue", lambda function: None)  # RQ's keys have a test below.
    # A process proves once which server it speaks to, and an earlier test may have had it do so.
    monkeypatch.setattr(cache_of().outage, "_has_looked", False)
    warm_up.request()
    User.objects.create_superuser("chief", password="secret")
    books[0].save()
    client = Client()
    for query in ("", "?limit=1", "?search=book"):
        client.get(f"/store/cached/{query}")
    client.get(f"/store/products/{books[0].pk}/")
    client.get("/store/products/popular/")
    client.get("/shop/")
    client.get("/readyz")
    for visitor in (client, Client()):
        visitor.put(f"/store/basket/{books[0].pk}/", {"quantity": 1}, "application/json")
    for password in ("wrong", "secret"):
        client.post("/admin/login/?next=/admin/", {"username": "chief", "password": password})
    client.get(f"/store/products/{books[0].pk}/")
    with locks.hold("import", lease_seconds=60):
        found = [key.decode() for key in redis.scan_iter(f"{settings.PROJECT_NAME}:*")]
        seen = set()
        for key in found:
            (row,) = rows_of(key)
            seen.add(row.made_by)
            assert redis.type(key).decode() == row.type, key
            assert (redis.ttl(key) > 0) != (row.made_by == "generation_key"), key
    # What cacheops makes is shown with ORM_CACHE on, in test_orm_caching.py.
    assert seen == {row.made_by for row in rows()} - {"orm_prefix", "RQ"}


def test_everything_of_rq_is_in_the_table_with_its_type_and_a_lifetime(start_worker, queue_server):
    queues.enqueue("store.jobs.clear_sessions", job_id="good")
    queues.enqueue("store.jobs.run_import", "no number", job_id="bad")
    queues.enqueue("store.jobs.run_import", "no number", job_id="worse", queue=queues.LOW)
    worker = start_worker()
    redis = Redis(port=queue_server.port)
    redis_keys = {}

    def seen_enough() -> bool:
        found = {key.decode(): redis.type(key).decode() for key in redis.scan_iter()}
        redis_keys.update({key: type_ for key, type_ in found.items() if type_ != "none"})
        return {"rq:finished:default", "rq:scheduled:low", "rq:results:good"} <= redis_keys.keys()

    wait_for(seen_enough)
    for key, type_ in redis_keys.items():
        assert [(row.made_by, row.type) for row in rows_of(key)] == [("RQ", type_)], key
    worker.close()
    for key in ("rq:job:good", "rq:results:good"):
        assert 0 < redis.ttl(key) <= keys.JOB_RESULT_SECONDS
    redis.close()


def test_every_test_that_the_docs_name_exists():
    source = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    docs = DOCS + (ROOT / "docs/view-caching.md").read_text()
    named = re.findall(r"`(test_[a-z0-9_]+)`", docs)
    assert named
    assert [name for name in named if f"def {name}(" not in source] == []
