"""Sessions: a copy in Redis, the truth in the database, and written by signing in alone."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.test import Client
from redis.exceptions import ConnectionError as RedisConnectionError

from freshcache.outage import Outage
from freshcache.runtime import cache_of
from store.session_backend import SessionStore
from tests.servers import free_port
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.engines,
    pytest.mark.contract,
]

LOGIN = {"username": "chief", "password": "secret"}


@pytest.fixture
def chief(transactional_db) -> Client:
    """A superuser who has signed in by the admin's form."""
    User.objects.create_superuser(**LOGIN)
    client = Client()
    assert client.post("/admin/login/?next=/admin/", LOGIN).status_code == 302
    return client


def is_signed_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def copies(redis, settings) -> list[bytes]:
    return list(redis.scan_iter(f"{settings.PROJECT_NAME}:session:*"))


def test_a_session_has_a_copy_in_redis_as_json_and_for_its_time(chief, redis, settings):
    assert is_signed_in(chief)
    (key,) = copies(redis, settings)
    assert key.decode().endswith(chief.session.session_key)
    assert json.loads(redis.get(key))["_auth_user_id"] == str(User.objects.get().pk)
    assert 0 < redis.ttl(key) <= settings.SESSION_COOKIE_AGE
    assert chief.cookies["sessionid"]["max-age"] == settings.SESSION_COOKIE_AGE


def test_clearing_the_cached_products_or_losing_redis_logs_nobody_out(chief, redis, settings):
    assert is_signed_in(chief)
    call_command("clear_cache", "--all")
    assert copies(redis, settings)
    assert is_signed_in(chief)
    for key in redis.scan_iter(f"{settings.PROJECT_NAME}:*"):
        redis.delete(key)
    assert is_signed_in(chief)


def sign_out(client: Client) -> None:
    assert client.post("/admin/logout/").status_code == 200


def change(client: Client) -> None:
    session = client.session
    session["changed"] = True
    session.save()


def lose(client: Client) -> None:
    caches["session"].delete(client.session.cache_key)


@pytest.mark.parametrize("meanwhile", [sign_out, change, lose])
def test_a_slow_reader_puts_nothing_back_that_has_changed(chief, monkeypatch, meanwhile):
    """The reader is held between the database and Redis, for as long as `meanwhile` takes."""
    cookie = chief.cookies["sessionid"].value
    lose(chief)
    store = SessionStore(cookie)
    read = store._get_session_from_db

    def read_slowly() -> Session:
        found = read()
        meanwhile(chief)
        return found

    monkeypatch.setattr(store, "_get_session_from_db", read_slowly)
    assert store["_auth_user_id"]
    assert caches["session"].get(store.cache_key) is None
    late = Client()
    late.cookies["sessionid"] = cookie
    assert is_signed_in(late) is (meanwhile is not sign_out)


def test_a_slow_writer_puts_nothing_back_after_a_logout(chief, monkeypatch):
    cookie = chief.cookies["sessionid"].value
    is_signed_in(chief)
    written = DatabaseStore.save

    def save_slowly(store: SessionStore, must_create: bool) -> None:
        written(store, must_create)
        monkeypatch.undo()
        sign_out(chief)

    store = SessionStore(cookie)
    store["changed"] = True
    monkeypatch.setattr(DatabaseStore, "save", save_slowly)
    store.save()
    late = Client()
    late.cookies["sessionid"] = cookie
    assert not is_signed_in(late)


def test_readers_and_logouts_at_random_leave_no_copy_without_its_session(chief):
    """Whatever comes first, no copy is left of a session that the database does not have."""
    dice = random.Random(1)
    for _ in range(20):
        client = Client()
        client.force_login(User.objects.get())
        cookie = client.cookies["sessionid"].value

        def read(cookie=cookie) -> None:
            for _ in range(dice.randint(1, 5)):
                SessionStore(cookie).get("_auth_user_id")
            connection.close()

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            SessionStore(cookie).flush()
        assert [one.result() for one in readers] == [None] * 3
        assert caches["session"].get(SessionStore(cookie).cache_key) is None


def test_a_copy_spares_the_query_of_the_session(chief, django_assert_num_queries):
    is_signed_in(chief)
    with django_assert_num_queries(1):  # The user's own; the basket's page reads no product.
        chief.get("/store/basket/")


@pytest.mark.parametrize(
    "path",
    ["/store/", "/store/cached/", "/store/products/", "/store/products/popular/",
     "/store/products/recent/", "/store/basket/", "/admin/login/", "/api/docs/"],
)  # fmt: skip
def test_reading_begins_no_session_and_writes_none(chief, books, path):
    anonymous = Client()
    before = list(Session.objects.values())
    for client in (anonymous, chief):
        assert client.get(path).status_code in (200, 201, 302)
    assert "sessionid" not in anonymous.cookies
    assert list(Session.objects.values()) == before


def test_writing_products_does_not_write_the_session(chief, books):
    before = list(Session.objects.values())
    path = f"/store/products/{books[0].pk}/"
    assert chief.patch(path, {"price": 5}, "application/json").status_code == 200
    form = {"name": "x", "description": "", "price": "7"}
    assert chief.post(f"/admin/store/product/{books[1].pk}/change/", form).status_code == 302
    assert list(Session.objects.values()) == before


def test_signing_out_elsewhere_meanwhile_interrupts_no_request(chief, books):
    other_tab = Client()
    other_tab.cookies = chief.cookies
    chief.session.flush()
    for path in ("/store/basket/", "/store/products/recent/", "/admin/"):
        assert other_tab.get(path).status_code in (200, 302)


# --- Redis down -----------------------------------------------------------------------------------


@pytest.fixture
def outage(monkeypatch):
    """The outage of this process, which ends when the test says so."""
    wait_for(lambda: cache_of().outage._thread is None)  # That of an earlier test would end it.
    monkeypatch.setattr(cache_of().outage, "_see_to_recovery", lambda: None)
    return cache_of().outage


@pytest.fixture
def lose_redis(outage, settings):
    """Call it to have the copies of sessions where nobody listens."""

    def lose() -> None:
        session = settings.CACHES["session"] | {"LOCATION": f"redis://127.0.0.1:{free_port()}"}
        settings.CACHES = settings.CACHES | {"session": session}

    return lose


def test_a_logout_in_an_outage_is_made_up_for_after_it(chief, redis, settings, outage):
    assert is_signed_in(chief)
    outage.trip(RedisConnectionError("gone"))
    chief.post("/admin/logout/")
    assert copies(redis, settings)
    assert outage.try_to_end()
    assert not copies(redis, settings)


def test_a_copy_that_could_not_be_deleted_is_deleted_after_the_outage(
    redis, settings, outage, lose_redis
):
    caches["session"].set("one", "old")
    lose_redis()
    caches["session"].delete("one")
    assert outage.is_open
    assert outage.try_to_end()
    assert not copies(redis, settings)


@pytest.mark.parametrize("ends", ["at once", "at the second try", "and it changes meanwhile"])
def test_however_often_a_session_changes_in_an_outage_its_copy_is_deleted_once(ends):
    deleted: list[str] = []

    def delete(key: str) -> None:
        deleted.append(key)
        if len(deleted) == 1 and ends == "at the second try":
            raise RedisConnectionError("gone again")
        if len(deleted) == 1 and ends == "and it changes meanwhile":
            made.leave_outdated("one")

    made = Outage(lambda: None, lambda: None, delete)
    made.trip(RedisConnectionError("gone"))
    for _ in range(1000):
        made.leave_outdated("one")
    while not made.try_to_end():
        pass
    assert deleted == ["one"] * (1 if ends == "at once" else 2)


def test_while_redis_is_left_alone_no_copy_is_read_or_written(redis, settings, outage):
    caches["session"].set("one", "old")
    outage.trip(RedisConnectionError("gone"))
    assert caches["session"].get("one", "nothing") == "nothing"
    assert "one" not in caches["session"]
    assert caches["session"].lease("two") is None
    caches["session"].set("two", "new")
    caches["session"].delete("one")
    assert len(copies(redis, settings)) == 1


@pytest.mark.parametrize(
    "ask", [lambda: caches["session"].get("one"), lambda: "one" in caches["session"]]
)
def test_who_finds_redis_gone_has_it_left_alone(outage, lose_redis, ask):
    lose_redis()
    assert not ask()
    assert outage.is_open


def test_copies_that_a_new_primary_may_not_know_are_deleted(redis, settings, outage):
    caches["session"].delete("one")
    caches["session"].set("one", "old")  # What the new primary still has.
    outage.primary_changed()
    assert outage.try_to_end()
    assert not copies(redis, settings)
