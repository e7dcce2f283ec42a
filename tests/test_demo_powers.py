"""What everybody may do in the demo, nobody but staff may do anywhere else, and stop nothing at all."""

import signal
from collections.abc import Iterator

import psutil
import pytest
from django.test import Client

from pages import outages
from simple_django_redis import demo_token
from tests import browser
from tests.processes import StoreProcess, clean_environment
from tests.servers import temporary_folder
from tests.visitors import CSRF_TOKEN, press
from tests.waiting import wait_for

STAFF_ONLY = ("/forget/price/", "/forget/cache/", "/forget/entry/", "/forget/stampede/")
DEMO_ONLY = ("/forget/redis/", "/forget/database/", "/jobs/bring-back/")
REFUSED = {**dict.fromkeys(STAFF_ONLY, 403), **dict.fromkeys(DEMO_ONLY, 404)}


@pytest.fixture(scope="module")
def demo() -> Iterator[StoreProcess]:
    """A demo of these tests' own, as what they are refused would stop it for others."""
    store = browser.open_demo()
    yield store
    store.close()


@pytest.fixture
def elsewhere(settings) -> None:
    settings.DEMO = False


@pytest.fixture(autouse=True)
def nothing_is_stopped() -> Iterator[None]:
    """No test of this file, with whatever client, may have got as far as an outage in this process."""
    yield
    assert (outages.seconds_left("redis"), outages.seconds_left("database")) == (0, 0)


def refusals(store: StoreProcess, **headers: str | None) -> dict[str, int]:
    return {path: press(store, path, **headers).status for path in REFUSED}


# --- The settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables",
    [
        {"MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": "1"},
        {"REDIS_URL": "redis://127.0.0.1:1/0"},
        {"QUEUE_REDIS_URL": "redis://127.0.0.1:1/0"},
        {"BIND_ADDRESS": "0.0.0.0"},
        {"BIND_ADDRESS": "::"},
        {"TRUST_PROXY": "on"},
    ],
    ids=lambda variables: "=".join(next(iter(variables.items()))),
)
def test_a_store_that_is_more_than_the_embedded_default_has_no_powers_for_everybody(variables):
    if "MYSQL_HOST" in variables:
        pytest.importorskip("MySQLdb", reason="mysqlclient is not installed: `make mysql`")
    var_dir = temporary_folder()
    wishes = {"DEMO": "on", "SECRET_KEY": "x" * 50}  # There is no variable that would turn it on.
    environment = clean_environment(VAR_DIR=str(var_dir), **wishes, **variables)
    store = StoreProcess(var_dir / "store.log", (), environment, inherit=False)
    try:
        store.wait_until_open()
        found = refusals(store)
        page = store.get("/").body.decode()
    finally:
        store.close()
    assert found == REFUSED
    assert "/forget/" not in page
    assert "Only staff may do this here" in page
    assert list(var_dir.glob("*.stopped")) == []


def test_the_embedded_default_on_its_own_machine_has_them(demo):
    paths = ("/forget/entry/", "/forget/cache/", "/forget/stampede/")
    assert {path: press(demo, path).status for path in paths} == dict.fromkeys(paths, 200)
    assert press(demo, "/forget/price/", {"product": "1", "price": "1000"}).status == 200


# --- The request -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"X_Forwarded_For": "127.0.0.1"},
        {"Cookie": f"csrftoken={CSRF_TOKEN}; demo_8000=; demo="},
        {"Cookie": f"csrftoken={CSRF_TOKEN}; demo_8000={'x' * 32}"},
    ],
    ids=str,
)
def test_without_the_printed_address_nobody_has_them_wherever_they_come_from(demo, headers):
    """As through a proxy of this machine that says nothing of itself, in whatever HTTP."""
    own = f"csrftoken={CSRF_TOKEN}"
    headers = {name: value.replace("8000", str(demo.port)) for name, value in headers.items()}
    assert refusals(demo, **{"Cookie": own} | headers) == REFUSED
    for path in ("/", "/redis/", "/jobs/"):
        assert "the address that its start has printed" in demo.get(path).body.decode()


def test_the_printed_address_gives_a_cookie_and_is_forgotten(demo):
    path = browser.printed_address(demo).removeprefix(demo.url)
    told = demo.get(path)
    assert (told.status, told.headers["Location"]) == (302, "/")
    assert told.headers["Referrer-Policy"] == "no-referrer"
    assert told.headers["Cache-Control"] == "private, no-store"
    name, *attributes = told.headers["Set-Cookie"].split("; ")
    assert name == demo.demo_cookie
    assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=Strict"}
    page = demo.get("/", {"Cookie": name}).body.decode()
    assert "/forget/redis/" in page
    assert name.partition("=")[2] not in page


@pytest.mark.parametrize("wrong", ["x", "x" * 32, "%00", "%DB%B1", "+"])
def test_another_address_leads_to_the_page_without_powers(demo, wrong):
    told = demo.get(f"/demo/{wrong}/")
    assert (told.status, told.headers["Location"]) == (302, "/")
    assert told.headers["Set-Cookie"] is None


def test_without_a_token_nobody_guesses_the_empty_one(settings, monkeypatch):
    """As under another server than gunicorn, whose configuration makes the token."""
    settings.DEMO = True
    monkeypatch.setattr(demo_token, "value", "")
    client = Client()
    client.cookies[demo_token.cookie_name()] = ""
    assert {path: client.post(path).status_code for path in DEMO_ONLY} == dict.fromkeys(
        DEMO_ONLY, 404
    )


def test_each_start_has_a_token_of_its_own_that_a_reload_keeps(demo):
    other = browser.open_demo()
    try:
        address = browser.printed_address(other)
        assert (
            address.rpartition("/demo/")[2] != browser.printed_address(demo).rpartition("/demo/")[2]
        )
        assert press(other, "/forget/cache/").status == 200
        other.process.send_signal(signal.SIGHUP)
        wait_for(lambda: other.log.read_text().count("Booting worker") >= 4, seconds=60)
        wait_for(lambda: press(other, "/forget/cache/").status == 200, seconds=60)
        for process in psutil.Process(other.process.pid).children(recursive=True):
            assert address.split("/")[-2] not in str(process.environ()), "in an environment"
    finally:
        other.close()


@pytest.mark.parametrize(
    "host", ["shop.example", "127.0.0.1.shop.example", "localhost.shop.example"]
)
def test_a_name_that_somebody_points_at_this_machine_leads_nowhere(demo, host):
    """DNS rebinding: a stranger's page whose name means 127.0.0.1 is same-origin with what answers."""
    assert refusals(demo, Host=host) == dict.fromkeys(REFUSED, 400)


@pytest.mark.parametrize(
    "headers",
    [
        {"X_CSRFToken": None},
        {"Cookie": None},
        {"Origin": "https://shop.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
    ],
    ids=["no token", "no cookie", "another site", "another port", "a sandboxed frame"],
)
def test_another_site_cannot_press_a_button(demo, headers):
    assert refusals(demo, **headers) == dict.fromkeys(REFUSED, 403)


def test_nobody_has_them_for_the_asking_by_get(demo):
    assert {path: demo.get(path).status for path in REFUSED} == dict.fromkeys(REFUSED, 405)


# --- Who is signed in ------------------------------------------------------------------------------


@pytest.mark.engines
@pytest.mark.django_db(transaction=True)
class TestElsewhere:
    """Outside the demo it takes what the permissions of staff say."""

    def test_strangers_may_nothing(self, elsewhere):
        client = Client()
        assert {path: client.post(path).status_code for path in REFUSED} == REFUSED
        assert "Only staff may do this here" in client.get("/").content.decode()

    def test_customers_may_nothing(self, elsewhere, django_user_model):
        client = Client()
        client.force_login(django_user_model.objects.create_user("customer"))
        assert {path: client.post(path).status_code for path in REFUSED} == REFUSED

    def test_staff_without_the_permission_change_no_price(
        self, elsewhere, django_user_model, books
    ):
        client = Client()
        client.force_login(django_user_model.objects.create_user("helper", is_staff=True))
        page = client.get("/").content.decode()
        assert client.post("/forget/price/").status_code == 403
        assert client.post("/forget/cache/").status_code == 302
        assert "/forget/cache/" in page
        assert "/forget/price/" not in page

    def test_not_even_superusers_stop_anything(self, elsewhere, admin_client):
        assert {path: admin_client.post(path).status_code for path in DEMO_ONLY} == dict.fromkeys(
            DEMO_ONLY, 404
        )
        assert "/forget/database/" not in admin_client.get("/").content.decode()

    def test_a_script_is_told_in_json(self, elsewhere):
        answer = Client().post("/forget/cache/", headers={"accept": "application/json"})
        assert (answer.status_code, answer.json()) == (403, {"detail": "Only staff may do this."})
