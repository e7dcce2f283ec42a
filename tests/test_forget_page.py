"""Make it forget: what a person sees happen after each button, in a real browser."""

import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import APIResponse, Browser, Locator, Page, Route, expect

from freshcache.circuit_breaker import RETRY_SECONDS
from pages import outages
from tests import browser, preloaded
from tests.processes import StoreProcess, clean_environment
from tests.visitors import ask_at_once, is_hit, press
from tests.waiting import wait_for

A_MISS = "201: a miss. It read the database and filled the cache."


@pytest.fixture
def healed(demo_store: StoreProcess) -> Iterator[None]:
    """Leave a demo behind in which nothing is stopped, and all processes trust Redis again."""
    yield
    well = {"database": "ok", "cache": "ok"}
    wait_for(lambda: demo_store.get("/readyz").json == well, seconds=40)
    time.sleep(RETRY_SECONDS)  # By then each process tries what has failed again.
    wait_for(lambda: all(map(is_hit, ask_at_once(demo_store))), seconds=40)


@pytest.fixture
def page(visit) -> Page:
    found: Page = visit().open("/")
    expect(found.get_by_text("Live events: connected")).to_be_visible()
    return found


def happened(page: Page) -> Locator:
    return page.locator(".card").filter(has=page.get_by_role("heading", name="What happened"))


def expect_told(page: Page, text: str | re.Pattern[str]) -> None:
    expect(happened(page).get_by_role("status")).to_have_text(text)


def expect_step(page: Page, text: str | re.Pattern[str]) -> None:
    steps = happened(page).get_by_role("listitem")
    expect(steps.filter(has_text=text)).to_have_count(1)


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def save(page: Page, product: int, price: int) -> None:
    page.get_by_label("Product").select_option(str(product))
    page.get_by_label("New price").fill(str(price))
    click(page, "Save")


def set_price(store: StoreProcess, product: int, price: int) -> None:
    """Somebody else changes a price, or it is put back."""
    fields = {"product": str(product), "price": str(price)}
    assert press(store, "/forget/price/", fields).status == 200


# --- A price -----------------------------------------------------------------------------------------


def test_a_new_price_is_right_everywhere_in_a_moment(page, demo_store):
    set_price(demo_store, 2, 2000)
    expect(page.get_by_role("option", name="Book B · 2,000")).to_have_count(1)
    save(page, 2, 4321)

    expect_told(page, "Book B costs 4,321 everywhere; before, it was 2,000.")
    expect_step(page, "Book B is saved. The write took the server")
    expect_step(page, "The event arrived: everybody who listens knows that it costs 4,321.")
    expect_step(
        page, "The next request was answered"
    )  # By whatever process: it knows of the write.
    for place in ("Cached list", "Uncached list", "Its own address"):
        term = happened(page).get_by_role("term").filter(has_text=re.compile(f"^{place}$"))
        expect(term.locator("+ dd")).to_have_text("4,321")
    expect(page.get_by_role("option", name="Book B · 4,321")).to_have_count(1)
    times = happened(page).locator(".at").all_inner_texts()
    assert all(re.fullmatch(r"[\d,]+ ms", text) for text in times)


def test_a_price_that_somebody_else_changes_is_shown_at_once(page, demo_store):
    set_price(demo_store, 3, 31)
    expect(page.get_by_role("option", name="Book C · 31", exact=True)).to_have_count(1)
    set_price(demo_store, 3, 32)
    expect(page.get_by_role("option", name="Book C · 32", exact=True)).to_have_count(1)


def reprice_many(demo_store: StoreProcess, price: int) -> None:
    """Change the prices of products 3 and 4 by one query, whose event names neither."""
    code = (
        "from store.models import Product; "
        f"Product.objects.filter(pk__in=[3, 4]).update(price={price})"
    )
    environment = clean_environment(VAR_DIR=str(demo_store.log.parent), **browser.PATIENCE)
    preloaded.run(["manage.py", "shell", "-c", code], environment).check_returncode()


def test_prices_that_change_many_at_once_are_shown_too(page, demo_store):
    reprice_many(demo_store, 77)
    for name in ("Book C", "Book D"):
        expect(page.get_by_role("option", name=f"{name} · 77", exact=True)).to_have_count(1)


def test_prices_that_were_read_before_one_changed_do_not_undo_it(page, demo_store):
    asked: list[tuple[Route, APIResponse]] = []
    page.route("**/store/?limit=*", lambda route: asked.append((route, route.fetch())))
    reprice_many(demo_store, 78)
    wait_for(lambda: page.evaluate("true") and asked)
    set_price(demo_store, 3, 79)
    option = page.get_by_role("option", name="Book C · 79", exact=True)
    expect(option).to_have_count(1)
    route, response = asked[0]
    route.fulfill(response=response)
    expect(page.get_by_role("option", name="Book D · 78", exact=True)).to_have_count(1)
    expect(option).to_have_count(1)


def test_an_older_list_of_prices_does_not_undo_a_newer_one(page, demo_store):
    asked: list[tuple[Route, APIResponse]] = []
    page.route("**/store/?limit=*", lambda route: asked.append((route, route.fetch())))
    for count, price in ((1, 81), (2, 82)):
        reprice_many(demo_store, price)
        wait_for(lambda count=count: page.evaluate("true") and len(asked) == count)
    option = page.get_by_role("option", name="Book D · 82", exact=True)
    for route, response in reversed(asked):
        with page.expect_request_finished(lambda request, route=route: request == route.request):
            route.fulfill(response=response)
        expect(option).to_have_count(1)
    set_price(demo_store, 5, 83)  # When this is shown, what came before has been dealt with.
    expect(page.get_by_role("option", name="Book E · 83", exact=True)).to_have_count(1)
    expect(option).to_have_count(1)


def test_who_replaces_a_price_that_they_have_not_seen_is_told(page, demo_store):
    set_price(demo_store, 4, 44)
    option = page.get_by_role("option", name="Book D · 44", exact=True)
    expect(option).to_have_count(1)
    option.evaluate("one => { one.dataset.price = '40'; }")  # The event has not come yet.
    save(page, 4, 45)
    expect_step(page, "Somebody else had changed it meanwhile: it cost 44, no longer 40.")
    expect_told(page, "Book D costs 45 everywhere; before, it was 44.")


def test_an_event_that_comes_late_is_told_all_the_same(page, demo_store):
    for price in (70, 71):
        set_price(demo_store, 1, price)
    expect(page.get_by_role("option", name="Book A · 71", exact=True)).to_have_count(1)
    send_to(page, "hidden")  # It does not listen there.
    save(page, 1, 75)
    expect_step(page, "No event has arrived yet; it takes Redis.")
    send_to(page, "visible")
    expect_step(page, "The event arrived: everybody who listens knows that it costs 75.")


def test_the_keyboard_is_enough(page, demo_store):
    set_price(demo_store, 5, 50)
    product = page.get_by_label("Product")
    product.focus()
    for _ in range(4):  # Of a name only what is typed within a second counts.
        page.keyboard.press("ArrowDown")
    expect(product).to_have_value("5")
    page.keyboard.press("Tab")
    page.keyboard.type("55")
    page.keyboard.press("Enter")
    expect_told(page, "Book E costs 55 everywhere; before, it was 50.")
    page.get_by_role("button", name="Save").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Clear the cache")).to_be_focused()
    page.keyboard.press("Enter")
    expect_step(page, A_MISS)


def test_what_happened_can_be_read_by_everybody(page, demo_store):
    save(page, 2, 2000)
    expect_told(page, re.compile("Book B costs 2,000 everywhere"))
    found = Axe().run(page)
    assert [
        one for one in found.response["violations"] if one["impact"] in ("serious", "critical")
    ] == []


def test_on_a_phone_what_happened_comes_into_view(visit):
    page = visit(viewport=browser.PHONE).open("/")
    save(page, 2, 2000)
    expect_told(page, re.compile("Book B costs 2,000 everywhere"))
    expect(happened(page).get_by_role("status")).to_be_in_viewport()


# --- Forgetting --------------------------------------------------------------------------------------


def test_after_clearing_the_next_request_fills_the_cache(page, demo_store):
    demo_store.get("/store/cached/")
    click(page, "Clear the cache")
    expect_step(page, "The cache is empty")
    expect_step(page, A_MISS)


def test_after_its_time_is_up_the_next_request_fills_the_cache(page, demo_store):
    demo_store.get("/store/cached/")
    click(page, "Let it expire")
    expect_step(page, "The time of the cached list is up.")
    expect_step(page, A_MISS)


def test_while_a_button_does_its_work_the_others_say_that_they_wait(page):
    held: list[Route] = []
    page.route("**/forget/price/", lambda route: held.append(route))
    other = page.get_by_role("button", name="Clear the cache")
    with page.expect_request("**/forget/price/"):
        save(page, 2, 2000)
    expect(other).to_be_disabled()
    held[0].continue_()
    expect_told(page, re.compile("Book B costs 2,000 everywhere"))
    expect(other).to_be_enabled()


def test_200_requests_at_once_cost_one_query(page):
    told = happened(page).get_by_role("status")
    for _ in range(5):  # A busy machine may be too slow for some of them to wait for the cache.
        click(page, "Stampede: 200 at once")
        expect(told).to_have_text(re.compile(r"200 requests at once, \d+ database quer"))
        if told.inner_text() == "200 requests at once, 1 database query.":
            break
    expect(told).to_have_text("200 requests at once, 1 database query.")
    expect_step(page, "1 request was answered 201: it filled the cache.")
    expect_step(page, "199 requests were answered 200, with the same list.")
    expect_step(page, "The slowest answer took")


# --- Outages -----------------------------------------------------------------------------------------


# What is said during an outage is gone when it is over, which does not wait for a test that looks late.
REMEMBER = """
window.said = [];
const latest = {};
new MutationObserver(() => {
    for (const element of document.querySelectorAll("[data-summary], [data-answer-of], [data-how-of]")) {
        const place = element.dataset.answerOf ?? element.dataset.howOf ?? "summary";
        const text = element.textContent;
        if (text !== latest[`${place} ${element.className}`]) said.push({ place, text, at: Date.now() });
        latest[`${place} ${element.className}`] = text;
    }
}).observe(document, { childList: true, subtree: true });
"""
SUMMARY, CACHED, STORE = "summary", "cached", "store"


def wait_until_said(page: Page, place: str, text: str) -> tuple[re.Match[str], float]:
    """Return what a place says, or has said, as soon as it has, and when (Unix time)."""

    def find() -> tuple[re.Match[str], float] | None:
        texts = [one for one in page.evaluate("said") if one["place"] == place]
        matches = ((re.search(text, one["text"]), one["at"] / 1000) for one in texts)
        return next(((match, at) for match, at in matches if match), None)

    wait_for(find)
    found = find()
    assert found
    return found


def answer_of(page: Page, path: str) -> Locator:
    term = happened(page).get_by_role("term").filter(has_text=re.compile(f"^{path}$"))
    return term.locator("..")


@pytest.fixture
def impatient(chromium: Browser) -> Iterator[tuple[StoreProcess, Page]]:
    """A demo whose processes soon know that Redis is gone, and its first page."""
    store = browser.open_demo(CACHE_BUDGET_SECONDS="3")
    try:
        visit = browser.Visit(chromium.new_context(locale="en-GB"), store)
        visit.context.add_init_script(REMEMBER)
        page = visit.open("/")
        expect(page.get_by_text("Live events: connected")).to_be_visible()
        yield store, page
        visit.context.close()
    finally:
        store.close()


def test_the_store_goes_on_without_redis(impatient):
    store, page = impatient
    set_price(store, 6, 60)
    expect(page.get_by_role("option", name="Book F · 60", exact=True)).to_have_count(1)
    click(page, "Stop Redis for 10 s")
    wait_until_said(page, SUMMARY, r"^Redis answers nobody for \d+ s\.$")
    save(page, 6, 66)  # Prices can be changed all the same, and are right.
    wait_until_said(page, SUMMARY, r"^Book F costs 66 everywhere; before, it was 60\.$")
    expect(happened(page).get_by_text("Redis is back in")).to_be_visible()
    for place in (CACHED, STORE):
        wait_until_said(page, place, "^200$")
        wait_until_said(page, place, "^from the database")
    all_answered = r"Of (\d+) requests each, the cached list answered \1 and the uncached one \1\."
    wait_until_said(page, SUMMARY, f"^Redis is back. {all_answered}$")


@contextmanager
def database_stays_stopped(store: StoreProcess) -> Iterator[None]:
    """Stop it again and again, so that what is to be seen meanwhile need not be seen within 10 s."""
    stopped = store.log.parent / f"{outages.DATABASE}.stopped"
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.wait(0.1):
            until = time.time() + outages.SECONDS - 0.5  # What lies further ahead does not count.
            os.utime(stopped, (until, until))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(go_on)
        try:
            yield
        finally:
            is_over.set()
        done.result()


def stop_database(one: browser.Visit, store: StoreProcess) -> tuple[Page, float]:
    """Stop it from the first page, with a list in the cache; return that page and when it said so."""
    one.context.add_init_script(REMEMBER)
    page = one.open("/")
    store.get("/store/cached/")
    click(page, "Stop the database for 10 s")
    _, told_at = wait_until_said(page, SUMMARY, r"^The database fails for \d+ s\.$")
    return page, told_at


def test_the_cached_list_goes_on_without_the_database(visit, demo_store, healed):
    one = visit()
    page, _ = stop_database(one, demo_store)
    with database_stays_stopped(demo_store):
        wait_until_said(page, STORE, "^503$")
        wait_until_said(page, CACHED, "^200$")
        wait_until_said(page, CACHED, "^from the cache")

        save(page, 6, 67)
        wait_until_said(page, SUMMARY, "^What this needs cannot be reached right now.")
        other = visit()
        again = other.open("/")  # The page itself comes, and knows.
        expect(happened(again).get_by_text("The database is back in")).to_be_visible()
        expect(again.get_by_text("There is no product to be read")).to_be_visible()
    for who in (one, other):
        who.context.close()
        assert all("503 (Service Unavailable)" in complaint for complaint in who.complaints)
        who.complaints.clear()  # The page asks what is down, and shows that it is.


def test_an_outage_of_the_database_ends_by_itself(visit, demo_store, healed):
    one = visit()
    page, told_at = stop_database(one, demo_store)
    began_at = (demo_store.log.parent / "database.stopped").stat().st_mtime - outages.SECONDS
    answered = r"Of (\d+) requests each, the cached list answered \1 and the uncached one (\d+)\."
    told, _ = wait_until_said(page, SUMMARY, f"^The database is back. {answered}$")
    # The page counts its seconds from when it was told, and asks once in each.
    assert int(told[2]) <= 2 + (told_at - began_at)
    expect(answer_of(page, "/store/")).to_contain_text("200")
    assert all("503 (Service Unavailable)" in complaint for complaint in one.complaints)
    one.complaints.clear()  # The page asks what is down, and shows that it is.


def test_a_stopped_server_stops_for_ten_seconds_however_often_it_is_asked(demo_store, healed):
    left = [press(demo_store, "/forget/database/").json["seconds"] for _ in range(3)]
    assert sorted(left, reverse=True) == left
    assert 0 < left[-1] <= left[0] <= 10


def test_a_product_with_a_long_name_leaves_the_page_as_wide_as_the_screen(visit):
    page = visit(viewport=browser.PHONE).open("/")
    for place in (page.get_by_role("option").first, happened(page).get_by_role("status")):
        place.evaluate("(one) => one.textContent = 'W'.repeat(255)")
    assert page.evaluate("document.documentElement.scrollWidth") <= browser.PHONE["width"]


# --- Live events -------------------------------------------------------------------------------------


def test_live_events_come_back_after_a_restart_of_the_store(chromium: Browser):
    store = browser.open_demo()
    try:
        visit = browser.Visit(chromium.new_context(locale="en-GB"), store)
        page = visit.open("/")
        expect(page.get_by_text("Live events: connected")).to_be_visible()
        store.close()
        expect(page.get_by_text("Live events: reconnecting")).to_be_visible()

        store = restarted(store)
        visit.take_powers(store)
        expect(page.get_by_text("Live events: connected")).to_be_visible()
        set_price(store, 2, 777)
        expect(page.get_by_role("option", name="Book B · 777")).to_have_count(1)
        save(page, 2, 778)
        expect_step(page, "The event arrived: everybody who listens knows that it costs 778.")
        visit.context.close()
    finally:
        store.close()


def send_to(page: Page, place: str) -> None:
    """Have a tab believe that it is "hidden" or "visible"; without a screen all are in front."""
    page.evaluate(
        """(place) => {
            Object.defineProperty(document, "hidden", { value: place === "hidden", configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        place,
    )


def test_tabs_in_the_background_take_no_connections_from_others_and_catch_up(visit, demo_store):
    """A browser has six to a host, which listening tabs would hold for as long as they are open."""
    set_price(demo_store, 2, 2000)
    one = visit()
    tabs = [one.open("/")]
    expect(tabs[0].get_by_text("Live events: connected")).to_be_visible()
    for _ in range(7):
        send_to(tabs[-1], "hidden")
        tabs.append(one.context.new_page())
        tabs[-1].goto(f"{demo_store.url}/")
        expect(tabs[-1].get_by_text("Live events: connected")).to_be_visible()
    set_price(demo_store, 2, 2002)
    expect(tabs[-1].get_by_role("option", name="Book B · 2,002")).to_have_count(1)
    send_to(tabs[-1], "hidden")
    send_to(tabs[0], "visible")
    expect(tabs[0].get_by_role("option", name="Book B · 2,002")).to_have_count(1)


def restarted(store: StoreProcess) -> StoreProcess:
    """Open the demo that has been closed once more, at the same address."""
    variables = {"VAR_DIR": str(store.log.parent), "PORT": str(store.port), **browser.PATIENCE}
    again = StoreProcess(store.log, (), clean_environment(**variables), inherit=False)
    again.port = store.port
    again.wait_until_open()
    browser.take_powers(again)
    return again


# --- Without JavaScript ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("button", "told"),
    [
        ("Clear the cache", r"The cache is empty: \d+ cached lists? (is|are) gone\."),
        ("Let it expire", r"The time of the cached list is up\."),
        ("Stampede: 200 at once", r"200 requests at once, \d database quer(y|ies)\."),
        ("Stop Redis for 10 s", r"Redis answers nobody for \d+ s\."),
        ("Stop the database for 10 s", r"The database fails for \d+ s\."),
    ],
)
def test_each_button_works_without_javascript(button, told, visit, demo_store, healed):
    wait_for(lambda: all(map(is_hit, ask_at_once(demo_store))), seconds=10)
    page = visit(java_script_enabled=False).open("/")
    click(page, button)
    message = page.get_by_role("status").filter(has_text=re.compile(told))
    expect(message).to_be_in_viewport()
    assert page.url.endswith("/#forget")
    assert happened(page).is_hidden()  # It would say that nothing has happened.


def test_a_price_is_changed_without_javascript(visit, demo_store):
    set_price(demo_store, 2, 2000)
    page = visit(java_script_enabled=False).open("/")
    save(page, 2, 2001)
    told = "Book B now costs 2,001; before, it was 2,000."
    expect(page.get_by_role("status").filter(has_text=told)).to_be_in_viewport()
    expect(page.get_by_role("option", name="Book B · 2,001")).to_have_count(1)
