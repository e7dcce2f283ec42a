"""THROTTLE_LOGIN: nobody tries passwords fast, by whatever way in, or keeps others out by it."""

import base64
import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth import aauthenticate
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.test import Client

from store.throttling import TooMany
from tests.processes import Answer, StoreProcess
from tests.servers import free_port
from tests.visitors import CSRF_TOKEN, complaints, cookies

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

LIMIT = 3
PRODUCTS = "/store/products/"
HERE = "192.0.2.1"


@pytest.fixture(autouse=True)
def three_a_minute(settings) -> None:
    settings.THROTTLE_LOGIN = (LIMIT, 60)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a fast one


@pytest.fixture
def clerk(transactional_db, three_a_minute) -> User:
    return User.objects.create_user("clerk", password="right", is_staff=True)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def by_form(path: str):
    def sign_in(name: str, password: str, address: str):
        form = {"username": name, "password": password, "next": PRODUCTS}
        return Client().post(path, form, REMOTE_ADDR=address)

    return sign_in


def by_basic(name: str, password: str, address: str):
    headers = {"authorization": basic(name, password)}
    return Client().get(PRODUCTS, headers=headers, REMOTE_ADDR=address)


WAYS = {
    "admin": (by_form("/admin/login/"), 302, 200),
    "api-auth": (by_form("/api-auth/login/"), 302, 200),
    "basic": (by_basic, 200, 403),
}


def statuses(name: str, password: str, addresses: list[str]) -> list[int]:
    return [by_basic(name, password, address).status_code for address in addresses]


@pytest.mark.parametrize("way", WAYS)
def test_past_the_limit_even_the_right_password_is_429_with_retry_after(way, clerk):
    sign_in, right, wrong = WAYS[way]
    assert sign_in("clerk", "right", HERE).status_code == right
    for _ in range(LIMIT):
        assert sign_in("clerk", "wrong", HERE).status_code == wrong
    refused = sign_in("clerk", "right", HERE)
    assert refused.status_code == 429
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert "sessionid" not in refused.cookies
    if way == "basic":
        assert "throttled" in refused.json()["detail"]
    else:
        assert "too many attempts" in refused.text
        assert refused["Content-Type"].startswith("text/html")
    assert "right" not in refused.text.replace("width", "")


def test_all_ways_in_share_one_count(clerk):
    for sign_in, _, wrong in WAYS.values():
        assert sign_in("clerk", "wrong", HERE).status_code == wrong
    assert {sign_in("clerk", "right", HERE).status_code for sign_in, _, _ in WAYS.values()} == {429}


def test_one_address_that_tries_many_names_does_not_get_far(clerk):
    tried = [by_basic(f"name-{number}", "wrong", HERE).status_code for number in range(LIMIT + 1)]
    assert tried == [403] * LIMIT + [429]


def test_many_addresses_that_try_one_name_do_not_get_far(clerk):
    addresses = [f"192.0.2.{number}" for number in range(1, LIMIT + 2)]
    assert statuses("clerk", "wrong", addresses) == [403] * LIMIT + [429]


def test_addresses_of_one_ipv6_network_count_as_one(clerk):
    addresses = [f"2001:db8::{number}" for number in range(LIMIT + 1)]
    tried = [by_basic(f"name-{one}", "wrong", one).status_code for one in addresses]
    assert tried == [403] * LIMIT + [429]


def test_a_name_that_nobody_has_is_refused_like_one_that_somebody_has(clerk):
    addresses = [f"192.0.2.{number}" for number in range(1, LIMIT + 2)]
    assert statuses("nobody", "wrong", addresses) == [403] * LIMIT + [429]


@pytest.mark.parametrize("name", ["clerk", "nobody"])
def test_a_name_written_in_other_ways_has_no_attempts_of_its_own_whether_anybody_has_it(
    clerk, name
):
    ways = [name, name.upper(), name.replace("e", "\xe9").replace("o", "\xf6"), f"{name} "]
    tried = [by_basic(way, "wrong", f"192.0.2.{n}").status_code for n, way in enumerate(ways)]
    assert tried == [403] * LIMIT + [429]


@pytest.mark.mysql
def test_who_a_database_alone_takes_for_a_user_is_none(transactional_db):
    """MariaDB takes all emoji for the same."""
    User.objects.create_user("\U0001f600", password="right", is_staff=True)
    assert by_basic("\U0001f600", "right", HERE).status_code == 200
    assert by_basic("\U0001f601", "right", HERE).status_code == 403


def test_a_name_that_nobody_has_takes_as_many_hashes(clerk, monkeypatch):
    hashed = []
    hasher = MD5PasswordHasher.encode
    monkeypatch.setattr(
        MD5PasswordHasher, "encode", lambda *given: hashed.append(1) or hasher(*given)
    )
    for name in ("clerk", "nobody", "CLERK"):
        hashed.clear()
        by_basic(name, "wrong", HERE)
        assert len(hashed) == 1, name


@pytest.mark.smoke
def test_right_passwords_use_up_nothing(clerk):
    assert statuses("clerk", "right", [HERE] * 3 * LIMIT) == [200] * 3 * LIMIT
    assert statuses("clerk", "wrong", [HERE] * LIMIT) == [403] * LIMIT


@pytest.mark.smoke
def test_nobody_is_kept_out_of_where_they_signed_in_before_by_others_who_try_their_name(clerk):
    assert statuses("clerk", "right", [HERE]) == [200]
    others = [f"198.51.100.{number}" for number in range(LIMIT)]
    assert statuses("clerk", "wrong", others) == [403] * LIMIT
    assert statuses("clerk", "right", ["192.0.2.99"]) == [429]
    assert statuses("clerk", "right", [HERE]) == [200]
    assert statuses("clerk", "wrong", [HERE] * (LIMIT + 1)) == [403] * LIMIT + [429]


def test_who_is_signed_in_goes_on_while_others_are_refused(clerk):
    client = Client(REMOTE_ADDR=HERE)
    client.force_login(clerk)
    statuses("clerk", "wrong", [HERE] * LIMIT)
    assert statuses("clerk", "right", [HERE]) == [429]
    headers = {"authorization": basic("clerk", "wrong")}
    assert client.get(PRODUCTS, headers=headers).status_code == 200
    assert client.get("/admin/").status_code == 200


def test_a_browser_that_tries_credentials_gets_a_page_and_is_counted_once(clerk):
    headers = {"authorization": basic("clerk", "wrong"), "accept": "text/html"}
    tried = [Client().get(PRODUCTS, headers=headers, REMOTE_ADDR=HERE) for _ in range(LIMIT + 1)]
    assert [answer.status_code for answer in tried] == [403] * LIMIT + [429]
    assert tried[-1]["Content-Type"].startswith("text/html")


def test_signing_in_from_async_code_is_counted_as_well(clerk):
    sign_in = async_to_sync(aauthenticate)
    for _ in range(LIMIT):
        assert sign_in(username="clerk", password="wrong") is None
    with pytest.raises(TooMany):
        sign_in(username="clerk", password="right")


def test_while_a_password_is_looked_at_its_attempt_counts(clerk, monkeypatch):
    meanwhile: list[int] = []
    look_at = ModelBackend.authenticate

    def look_slowly(*args, **kwargs):
        monkeypatch.setattr(ModelBackend, "authenticate", look_at)
        meanwhile.extend(statuses("clerk", "wrong", [HERE] * LIMIT))
        return look_at(*args, **kwargs)

    monkeypatch.setattr(ModelBackend, "authenticate", look_slowly)
    assert statuses("clerk", "wrong", [HERE]) == [403]
    assert meanwhile == [403] * (LIMIT - 1) + [429]


def test_nobody_signs_in_while_attempts_cannot_be_counted(clerk, settings):
    nowhere = {**settings.CACHES["throttle"], "LOCATION": f"redis://127.0.0.1:{free_port()}"}
    settings.CACHES = {**settings.CACHES, "throttle": nowhere}
    for sign_in, _, _ in WAYS.values():
        assert sign_in("clerk", "right", HERE).status_code == 503


# --- Several processes, and Redis down ------------------------------------------------------------


def post_login(store: StoreProcess, password: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=30)
    form = {"username": "clerk", "password": password, "csrfmiddlewaretoken": CSRF_TOKEN}
    headers = {
        "Cookie": f"csrftoken={CSRF_TOKEN}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    try:
        connection.request("POST", "/admin/login/?next=/admin/", urlencode(form), headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def test_attempts_at_once_in_several_processes_do_not_get_past_the_limit(open_store, clerk):
    store = open_store("--workers=2", THROTTLE_LOGIN="3/min")
    barrier = threading.Barrier(8)

    def attempt(_: int) -> int:
        barrier.wait()
        return post_login(store, "wrong").status

    with ThreadPoolExecutor(8) as pool:
        tried = sorted(pool.map(attempt, range(8)))
    assert tried == [200] * LIMIT + [429] * 5


def test_without_redis_signing_in_is_503_and_who_is_signed_in_goes_on(open_store, clerk):
    signed_in = Client()
    signed_in.force_login(clerk)
    store = open_store(
        "--workers=1",
        QUEUE_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
        THROTTLE_LOGIN="3/min",
        SECRET_KEY=settings.SECRET_KEY,
    )
    for _ in range(2):
        refused = [
            post_login(store, "s3cret-of-clerk"),
            store.get(PRODUCTS, {"Authorization": basic("clerk", "s3cret-of-clerk")}),
        ]
        for answer in refused:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert b"cannot check attempts to sign in at the moment" in refused[0].body
        assert "try again" in refused[1].json["detail"]
    assert store.get("/admin/", cookies(signed_in)).status == 200
    assert store.get("/store/cached/").status in {200, 201}
    (error,) = [line for line in complaints(store.log) if "freshcache.circuit_breaker" in line]
    assert "Redis, for the throttles, is down" in error
    assert "s3cret" not in store.log.read_text()


def test_without_a_limit_signing_in_does_without_redis(settings, clerk):
    settings.THROTTLE_LOGIN = None
    nowhere = {**settings.CACHES["throttle"], "LOCATION": f"redis://127.0.0.1:{free_port()}"}
    settings.CACHES = {**settings.CACHES, "throttle": nowhere}
    for sign_in, right, _ in WAYS.values():
        assert sign_in("clerk", "right", HERE).status_code == right
