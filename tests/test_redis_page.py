"""What is in Redis, as people see it change; who sees it; and what looking costs."""

import re
from collections.abc import Iterator

import psutil
import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import caches
from django.test import Client
from django.utils import translation
from playwright.sync_api import Page, expect
from redis import Redis

from freshcache import inspect
from pages import families, redis_state
from pages.templatetags import numbers
from store import keys, redis_survey
from store.redis_survey import ALL, CACHE, OTHERS, QUEUE, family_of
from tests import browser
from tests.processes import StoreProcess
from tests.servers import free_port, start_redis
from tests.test_redis_docs import rows
from tests.waiting import wait_for

STATE = "/redis/state/"
SESSION_KEY = "secretsecretsecretsecretsecret12"
engines = pytest.mark.engines
with_database = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_surveyed(monkeypatch):
    """What an earlier test has seen is no longer the latest; a Redis that stalls is not down."""
    monkeypatch.setattr(redis_state, "latest", redis_state.Latest())
    monkeypatch.setattr(redis_state, "PATIENCE_SECONDS", 30)


@pytest.fixture
def staff(transactional_db) -> Client:
    client = Client()
    client.force_login(User.objects.create_user("staff", is_staff=True))
    return client


@pytest.fixture
def own_redis(settings) -> Iterator[Redis]:
    """A server of the test's own, for what the queue's keeps."""
    server = start_redis(free_port())
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
    with Redis(port=server.port) as client:
        yield client
    server.kill()


def prefix() -> str:
    return str(caches["default"].key_prefix)


def row(page: Page, family: str):
    return page.get_by_role("row").filter(has=page.get_by_text(family, exact=True))


def figure(page: Page, name: str):
    """The card of a figure that is named so."""
    return page.locator("dl > div").filter(has=page.get_by_text(name, exact=True))


def test_it_shows_what_the_cache_does_while_it_does_it(visit):
    page = visit().open("/redis/")
    expect(page.get_by_role("status")).to_contain_text("every 2 seconds")
    reads = figure(page, "Found in the cache").locator("dd").nth(1)
    before = int(re.sub(r"\D", "", reads.inner_text()))
    for _ in range(3):
        page.evaluate("fetch('/store/cached/').then((answer) => answer.text())")
    expect(reads).not_to_have_text(f"of {before:,} reads")
    expect(figure(page, "Found in the cache").locator("dd").first).to_have_text(re.compile(r"\d+%"))
    expect(figure(page, "Circuit breaker")).to_contain_text("closed")
    expect(row(page, "product")).to_contain_text("string")


def test_the_time_that_an_entry_has_left_counts_down(visit):
    page = visit().open("/redis/")
    page.evaluate("fetch('/store/cached/').then((answer) => answer.text())")
    left = page.locator("#entry").get_by_text(re.compile(r"^\d+:\d\d left$"))
    expect(left).to_be_visible()
    before = left.inner_text()
    expect(left).not_to_have_text(before)


def test_the_entry_shows_its_generation_its_header_and_its_answer(visit):
    page = visit().open("/redis/")
    page.evaluate("fetch('/store/cached/').then((answer) => answer.text())")
    card = page.locator("#entry")
    expect(card.get_by_text("is served", exact=True)).to_be_visible()
    begins = card.locator("pre")
    expect(begins).to_contain_text('"fill_seconds"')
    expect(begins).to_contain_text('[{"id":')
    assert re.match(r"[0-9a-f]{32} \{", begins.inner_text())


def test_a_new_family_shows_up_by_itself(visit, demo_store):
    page = visit().open("/redis/")
    looks = row(page, "visitors")
    page.evaluate("fetch('/store/products/2/').then((answer) => answer.text())")
    expect(looks).to_contain_text(re.compile(r"[78] days"))
    expect(row(page, "views")).to_contain_text("zset")


def test_while_the_store_cannot_be_reached_it_says_so_and_goes_on_trying(visit):
    one = visit()
    page = one.open("/redis/")
    page.route(f"**{STATE}", lambda route: route.abort())
    status = page.get_by_role("status")
    expect(status).to_have_text("The store cannot be reached. Trying again every 2 seconds.")
    page.unroute(f"**{STATE}")
    expect(status).to_have_text(re.compile("^Updated every 2 seconds"))
    one.complaints.clear()  # The browser itself says that requests failed.


@pytest.fixture
def own_demo() -> Iterator[StoreProcess]:
    store = browser.open_demo(CACHE_BUDGET_SECONDS="5")  # It is to notice that Redis hangs.
    yield store
    store.close()


def test_while_redis_hangs_it_says_so_and_comes_back_by_itself(own_demo, chromium):
    children = psutil.Process(own_demo.process.pid).children(recursive=True)
    (server,) = [child for child in children if "valkey" in child.name()]
    one = browser.Visit(chromium.new_context(locale="en-GB"), own_demo)
    page = one.open("/redis/")
    status = page.get_by_role("status")
    server.suspend()
    page.evaluate("fetch('/store/cached/').then((answer) => answer.text())")
    expect(status).to_contain_text("Redis cannot be reached.")
    expect(page.get_by_text("This Redis cannot be reached.")).to_be_visible()
    breaker = figure(page, "Circuit breaker").locator("dd").first
    expect(breaker).to_have_text("open")
    server.resume()
    expect(breaker).to_have_text("closed")
    expect(status).to_contain_text("Updated every 2 seconds")
    expect(page.get_by_text("This Redis cannot be reached.")).to_be_hidden()
    one.context.close()
    assert one.complaints == []


def test_without_javascript_the_figures_are_those_of_the_moment(visit, demo_store):
    demo_store.get("/store/cached/")
    page = visit(java_script_enabled=False).open("/redis/")
    expect(page.get_by_role("status")).to_contain_text("when the page was loaded")

    def shows_the_list() -> bool:
        page.reload()  # What others looked at a moment ago is shown again.
        found = re.search(r"string\s+\d+\s+[\d.]+\sKB", row(page, "product").inner_text())
        return found is not None and '"fill_seconds"' in page.locator("#entry pre").inner_text()

    wait_for(shows_the_list)


@pytest.mark.parametrize(
    ("number_of_bytes", "shown"),
    [(0, "0 B"), (999, "999 B"), (1999, "2 KB"), (37_431, "37.4 KB"), (12_200_000, "12.2 MB")],
)
def test_the_server_writes_sizes_as_the_script_does(number_of_bytes, shown, visit):
    with translation.override("en"):
        assert numbers.size(number_of_bytes) == shown
    page = visit().open("/redis/")
    module = "import('/static/pages/format.js').then((format) => format.bytes(%d))"
    assert page.evaluate(module % number_of_bytes) == shown


@engines
@with_database
def test_others_than_staff_see_what_it_would_be_and_no_figures(client):
    answer = client.get("/redis/")
    assert answer.status_code == 200
    said = answer.content.decode()
    assert "/admin/login/?next=/redis/" in said
    assert "redis-state" not in said
    assert prefix() not in said
    refused = client.get(STATE)
    assert (refused.status_code, refused.json()) == (
        403,
        {"detail": "Only staff see what is in Redis."},
    )


@engines
@with_database
def test_a_user_who_is_no_staff_is_told_so_whatever_their_permissions():
    user = User.objects.create_user("customer")
    user.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(user)
    assert "not as staff" in client.get("/redis/").content.decode()
    assert client.get(STATE).status_code == 403


@engines
def test_staff_see_it(staff):
    staff.get("/store/cached/")
    said = staff.get("/redis/").content.decode()
    assert f"{prefix()}:1:product" in said
    state = staff.get(STATE)
    assert state["Cache-Control"] == "private, no-store"
    assert state.json()["servers"][0]["is_up"]


@engines
def test_it_names_no_sessions_and_no_baskets(staff, redis):
    redis.hset(keys.anonymous_basket_key(SESSION_KEY), "1", "2")
    redis.set(f"{prefix()}:session:1:django.contrib.sessions.cached_db{SESSION_KEY}", "{}")
    said = staff.get("/redis/").content.decode() + staff.get(STATE).content.decode()
    assert "basket" in said
    assert SESSION_KEY not in said
    assert staff.cookies["sessionid"].value not in said


@engines
def test_a_redis_that_is_down_is_said_to_be_down(staff, settings):
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    cache, queue = staff.get(STATE).json()["servers"]
    assert (cache["name"], cache["is_up"]) == (CACHE, True)
    assert queue == {"name": QUEUE, "is_up": False, "info": None, "families": None}
    said = staff.get("/redis/").content.decode()
    assert "Redis for baskets, jobs and events" in said


@engines
def test_of_two_servers_each_shows_its_own_families(staff, own_redis):
    own_redis.hset(keys.user_basket_key(1), "1", "2")
    staff.get("/store/cached/")
    cache, queue = staff.get(STATE).json()["servers"]
    assert "product" in cache["families"]
    assert "basket" not in cache["families"]
    assert list(queue["families"]) == ["basket"]


@engines
def test_many_who_look_survey_redis_once(staff, own_redis, monkeypatch):
    monkeypatch.setattr("pages.redis_state.SURVEY_SECONDS", 60)
    own_redis.config_resetstat()
    for _ in range(10):
        assert staff.get(STATE).status_code == 200
    assert own_redis.info("commandstats")["cmdstat_scan"]["calls"] == 1


@engines
def test_of_a_large_redis_a_part_is_looked_at_and_numbers_are_estimated(own_redis):
    with own_redis.pipeline(transaction=False) as pipeline:
        for number in range(6000):
            pipeline.hset(keys.user_basket_key(number), "1", "2")
        pipeline.execute()
    own_redis.config_resetstat()
    found = redis_survey.families(own_redis, most_keys=1500, measured_keys=100)["basket"]
    calls = {name: told["calls"] for name, told in own_redis.info("commandstats").items()}
    assert found.is_estimate
    assert found.keys == pytest.approx(6000, rel=0.01)
    assert calls["cmdstat_scan"] <= 5
    assert calls["cmdstat_pttl"] == 100


@engines
@with_database
def test_a_write_leaves_an_entry_that_is_not_served_any_more(client, books):
    client.get("/store/cached/")
    before = inspect.of_region("product")
    books[0].save()
    after = inspect.of_region("product")
    assert (before.is_served, after.is_served) == (True, False)
    assert after.generation is None
    assert (after.own_generation, after.size_bytes) == (before.own_generation, before.size_bytes)


@engines
def test_what_is_no_entry_is_shown_as_it_is_and_not_as_served():
    caches["default"].client.get_client().set(f"{prefix()}:1:product", b"\xff garbage")
    found = inspect.of_region("product")
    assert (found.is_served, found.own_generation, found.body_start) == (False, "", "")


def test_every_family_of_the_documentation_has_a_sentence():
    documented = {
        family_of(pattern.replace("P:", f"{prefix()}:", 1) if pattern[0] == "P" else pattern)
        for one in rows()
        for pattern in one.patterns
    }
    assert documented | {OTHERS} == set(families.BY_SERVER[ALL])
    assert set(families.BY_SERVER[CACHE]) & set(families.BY_SERVER[QUEUE]) == {OTHERS}
