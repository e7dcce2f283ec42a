"""The race on the first page, as people see it."""

import gzip
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Locator, Page, expect

from freshcache.circuit_breaker import RETRY_SECONDS
from tests import preloaded
from tests.browser import PATIENCE, SLOW_MS
from tests.processes import StoreProcess, clean_environment
from tests.visitors import ask_at_once
from tests.waiting import wait_for

PATIENCE_MS = 2 * SLOW_MS  # For a hundred requests, which take half a second.
RUN = "Run 100 requests (50 each)"
FIGURE = re.compile(r"^\d[\d.,]*$")
NOT_ZERO = re.compile(r"^(?=.*[1-9])\d[\d.,]*$")
PERSIAN_FIGURE = re.compile(r"^[\u06f0-\u06f9\u066b\u066c]+$")
PERSIAN_FIFTY = "\u06f5\u06f0"


def run_hundred(page: Page) -> None:
    page.get_by_role("button", name=RUN).click()
    expect(page.locator("#race-status")).to_have_text(
        "50 requests sent to each list.", timeout=PATIENCE_MS
    )


def column(page: Page, title: str) -> Locator:
    return page.get_by_role("article", name=title)


def figure(page: Page, title: str, row: str, *, place: int = 0) -> float:
    """Return what stands in a column's table: in place 0 the median, in 1 the p99."""
    cell = column(page, title).get_by_role("row", name=row).get_by_role("cell").nth(place)
    expect(cell).to_have_text(FIGURE)
    return float(cell.inner_text().replace(",", ""))


def verdict(page: Page, text: str) -> Locator:
    return page.locator(".race-verdict dl > div").filter(has_text=text)


# --- A hundred requests ---------------------------------------------------------------------------


def test_a_hundred_requests_show_how_much_faster_the_cache_is(visit):
    page = visit().open("/")
    run_hundred(page)
    for title in ("From the database", "From the cache"):
        expect(column(page, title)).to_contain_text("50 answers")
        for row in ("Server", "Whole request"):
            assert 0 < figure(page, title, row) <= figure(page, title, row, place=1)
        assert figure(page, title, "Server") < figure(page, title, "Whole request")
    expect(column(page, "From the database")).to_contain_text("0% from the cache")
    expect(column(page, "From the cache")).to_contain_text("100% from the cache")
    server = verdict(page, "to have the answer ready")
    expect(server).to_contain_text("times faster")
    shown = float(server.locator("dd").inner_text().replace(",", ""))
    medians = [figure(page, title, "Server") for title in ("From the database", "From the cache")]
    assert shown > 1
    # Both are rounded before they are shown.
    assert shown == pytest.approx(medians[0] / medians[1], rel=0.05)
    expect(verdict(page, "until your browser has all of it").locator("dd")).to_have_text(FIGURE)


COUNT_REQUESTS = """
const send = window.fetch;
let underWay = 0;
window.asked = [];
window.mostAtOnce = 0;
window.fetch = async (url, options) => {
  const path = new URL(url, location.href).pathname;
  if (!path.startsWith("/store/")) return send(url, options);
  window.asked.push(path);
  underWay += 1;
  window.mostAtOnce = Math.max(window.mostAtOnce, underWay);
  const response = await send(url, options);
  const text = response.text.bind(response);
  response.text = () => text().finally(() => { underWay -= 1; });
  return response;
};
"""


def test_requests_go_to_the_lists_in_turn_and_one_at_a_time(visit):
    one = visit()
    one.context.add_init_script(COUNT_REQUESTS)
    page = one.open("/")
    run_hundred(page)
    assert page.evaluate("asked") == ["/store/", "/store/cached/"] * 50
    assert page.evaluate("mostAtOnce") == 1


def test_other_scripts_hear_of_each_answer(visit):
    page = visit().open("/")
    page.evaluate(
        """() => {
            window.heard = [];
            document.addEventListener("store:answer", ({ detail }) => window.heard.push(detail));
        }"""
    )
    run_hundred(page)
    heard = page.evaluate("window.heard")
    assert [one["list"] for one in heard] == ["database", "cache"] * 50
    last = heard[-1]
    assert (last["status"], last["from_cache"], last["from_database"]) == (200, True, False)
    assert 0 < last["response_time"] < last["seconds"]
    assert last["cacheStatus"].startswith("store; hit")
    assert "results" not in last


def test_the_last_answer_is_shown_with_its_flags_marked_and_its_list_cut_short(visit):
    page = visit().open("/")
    run_hundred(page)
    cached = page.get_by_role("region", name="JSON from /store/cached/")
    marks = cached.locator("mark").all_inner_texts()
    assert [mark.split(":")[0].strip() for mark in marks] == [
        '"response_time"',
        '"from_database"',
        '"from_cache"',
    ]
    assert [mark.split(": ")[1] for mark in marks[1:]] == ["false,", "true,"]
    expect(cached).to_contain_text(re.compile(r'"id": 1,.*"id": 2,.*… \d+ more\s+\]\s+\}', re.S))
    expect(cached).not_to_contain_text('"id": 3,')
    expect(page.locator('[data-answer="cache"]')).to_contain_text("Cache-Status: store; hit; ttl=")
    expect(page.locator('[data-answer="cache"] .tag')).to_have_text("200")
    database = page.get_by_role("region", name="JSON from /store/", exact=True)
    assert '  "from_database": true,' in database.locator("mark").all_inner_texts()


def test_the_request_that_fills_the_cache_is_shown_as_such(visit, demo_store):
    page = visit().open("/")
    empty_cache(demo_store)
    run_hundred(page)
    expect(column(page, "From the cache")).to_contain_text("1 filled it (201)")
    expect(column(page, "From the cache")).to_contain_text("98% from the cache")


def empty_cache(store: StoreProcess) -> None:
    environment = clean_environment(VAR_DIR=str(store.log.parent), **PATIENCE)
    preloaded.run(["manage.py", "clear_cache", "--all"], environment).check_returncode()


# --- The stream -----------------------------------------------------------------------------------


def answers(page: Page) -> int:
    caption = column(page, "From the cache").locator("caption").inner_text()
    found = re.fullmatch(r"(\d+) answers?", caption)
    return int(found[1]) if found else 0


def test_the_stream_goes_on_until_it_is_stopped(visit):
    page = visit().open("/")
    page.get_by_role("button", name="Keep going").click()
    expect(page.locator("#race-status")).to_contain_text("until you stop")
    caption = column(page, "From the cache").locator("caption")
    expect(caption).to_have_text(re.compile(r"^([3-9]|\d\d+) answers$"))
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("button", name="Keep going")).to_be_visible()
    stopped_at = answers(page)
    expect(page.locator("#race-status")).to_have_text(f"{stopped_at} requests sent to each list.")
    # What follows counts on from there, so nothing was asked meanwhile.
    run_hundred(page)
    assert answers(page) == stopped_at + 50


def test_the_stream_pauses_while_the_tab_is_hidden(visit):
    # Headless Chromium hides no tab, so the page is told that it is hidden.
    page = visit().open("/")
    set_hidden(page, hidden=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name="Keep going").click()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    page.wait_for_timeout(1000)  # Four times the time between two pairs.
    assert asked == []
    set_hidden(page, hidden=False)
    expect(column(page, "From the cache")).to_contain_text(re.compile(r"\d+ answers?"))
    page.get_by_role("button", name="Stop", exact=True).click()


def set_hidden(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


# --- The charts -----------------------------------------------------------------------------------


def test_the_charts_show_the_one_or_the_other_time(visit):
    page = visit().open("/")
    run_hundred(page)
    chart = page.get_by_role("img", name=re.compile("^Request by request"))
    spread = page.get_by_role("img", name=re.compile("^How they spread"))
    for choice in ("Whole request", "Server"):
        page.get_by_role("radio", name=choice).check(force=True)
        medians = [column(page, f"From the {name}") for name in ("database", "cache")]
        texts = [
            one.get_by_role("row", name=choice).get_by_role("cell").first.inner_text()
            for one in medians
        ]
        told = f"less than {texts[0]} ms from the database and {texts[1]} ms from the cache"
        expect(chart).to_have_attribute("aria-label", re.compile(re.escape(told)))
        expect(spread).to_have_attribute("aria-label", re.compile(re.escape(told)))


def test_the_charts_take_the_colours_of_the_page_and_change_with_them(visit):
    one = visit()
    page = one.open("/")
    run_hundred(page)
    for scheme in ("light", "dark", "light"):
        page.emulate_media(color_scheme=scheme)
        for chart in ("race-latencies", "race-spread"):
            for name in ("database", "cache"):
                assert gets_colour(page, chart, name), (scheme, chart, name)
    # Chromium has advice for who reads a canvas often, as this test does.
    one.complaints = [text for text in one.complaints if "willReadFrequently" not in text]


def gets_colour(page: Page, chart: str, name: str) -> bool:
    """Say whether a chart has pixels of a colour of the stylesheet within a few hundred frames."""
    return page.evaluate(
        """async ([chart, name]) => {
            const canvas = document.querySelector(`#${chart} canvas`);
            function isThere() {
                const style = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
                const wanted = style.trim().match(/[0-9a-f]{2}/g).map((one) => parseInt(one, 16));
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                for (let at = 0; at < data.length; at += 4) {
                    const isNear = wanted.every((value, i) => Math.abs(data[at + i] - value) < 8);
                    if (isNear && data[at + 3] > 250) return true;
                }
                return false;
            }
            for (let frame = 0; frame < 300; frame += 1) {
                if (isThere()) return true;
                await new Promise((resolve) => requestAnimationFrame(resolve));
            }
            return false;
        }""",
        [chart, name],
    )


def test_the_charts_are_as_wide_as_their_place(visit):
    page = visit().open("/")
    for width in (1280, 360, 800):
        page.set_viewport_size({"width": width, "height": 800})
        for chart in ("#race-latencies", "#race-spread"):
            place = page.locator(chart).evaluate("(element) => element.clientWidth")
            expect(page.locator(f"{chart} .uplot")).to_have_css("width", f"{place}px")


# --- For everybody --------------------------------------------------------------------------------


def test_all_can_be_done_with_the_keyboard(visit):
    page = visit().open("/")
    button = page.get_by_role("button", name=RUN)
    for _ in range(30):
        page.keyboard.press("Tab")
        if button.evaluate("(element) => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#race-status")).to_have_text(
        "50 requests sent to each list.", timeout=PATIENCE_MS
    )
    expect(button).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Keep going")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="Server")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Whole request")).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_role("region", name="JSON from /store/", exact=True)).to_be_focused()


def test_without_javascript_the_server_has_measured(visit):
    page = visit(java_script_enabled=False).open("/")
    times_faster = verdict(page, "to have the answer ready").locator("dd")

    def is_measured() -> bool:
        page.reload()  # The first one may have filled the cache; a machine that stalls spoils any one.
        return NOT_ZERO.match(times_faster.inner_text()) is not None

    wait_for(is_measured)
    for title in ("From the database", "From the cache"):
        expect(column(page, title)).to_contain_text("One request, measured by the server")
        assert figure(page, title, "Server") >= 0
    expect(column(page, "From the cache")).to_contain_text("from the cache")
    expect(page.get_by_role("button", name=RUN)).to_be_hidden()
    assert page.locator("#race-latencies").bounding_box() is None  # It takes no room either.


def test_numbers_are_written_as_the_reader_writes_them(visit):
    page = visit(locale="fa-IR").open("/")
    page.locator("#race-hundred").click()
    expect(page.locator('[data-list="cache"] caption')).to_contain_text(
        PERSIAN_FIFTY, timeout=PATIENCE_MS
    )
    expect(page.locator('[data-times="server"]')).to_have_text(PERSIAN_FIGURE)
    for cell in page.locator("[data-figure]").all():
        expect(cell).to_have_text(PERSIAN_FIGURE)
    page = visit(locale="fa-IR", java_script_enabled=False).open("/")
    for name in ("database", "cache"):
        median = page.locator(f'[data-list="{name}"] [data-figure="server-median"]')
        expect(median).to_have_text(PERSIAN_FIGURE)


def test_the_charts_go_from_left_to_right_in_every_language(visit):
    page = visit(locale="fa-IR").open("/")
    assert page.locator("#race-latencies").evaluate("(e) => getComputedStyle(e).direction") == "ltr"


def test_the_charts_library_is_sent_compressed_and_is_the_same(demo_store):
    path = "/static/pages/vendor/uplot/uPlot.iife.min.js"
    sent = demo_store.get(path, {"Accept-Encoding": "gzip"})
    assert sent.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(sent.body) == demo_store.get(path).body


# --- When something is down -----------------------------------------------------------------------


@contextmanager
def database_down(store: StoreProcess) -> Iterator[None]:
    """SQLite has no server that could go; without the table each query fails in the same way."""

    def execute(sql: str) -> None:
        with closing(sqlite3.connect(store.log.parent / "db.sqlite3", timeout=10)) as database:
            database.execute(sql)

    execute("ALTER TABLE store_product RENAME TO away")
    try:
        yield
    finally:
        execute("ALTER TABLE away RENAME TO store_product")
        wait_until_all_answer(store)


def wait_until_all_answer(store: StoreProcess) -> None:
    """Each process tries the database again a second after it failed; the next test needs them all."""
    time.sleep(RETRY_SECONDS)  # From now on the first request of each process tries it.
    wait_for(lambda: {one.status for one in ask_at_once(store, path="/store/?limit=1")} == {200})


def test_an_error_is_shown_and_counted_and_the_race_goes_on(visit, demo_store):
    one = visit()
    page = one.open("/")
    page.get_by_role("button", name="Keep going").click()
    expect(column(page, "From the cache")).to_contain_text(re.compile(r"\d+ answers?"))
    with database_down(demo_store):
        database = column(page, "From the database")
        expect(database).to_contain_text("The last request failed (503)")
        expect(database).to_contain_text(re.compile(r"[2-9] errors"))
        expect(column(page, "From the cache")).not_to_contain_text("error")
    expect(database).to_contain_text("The last one: from the database.")
    expect(database).to_contain_text(re.compile(r"\d+ errors"))
    page.get_by_role("button", name="Stop", exact=True).click()
    # The browser notes each answer that is an error.
    assert all("503" in complaint for complaint in one.complaints)
    one.complaints.clear()


def test_the_page_comes_without_the_database_and_says_so(visit, demo_store):
    page = visit(java_script_enabled=False).open("/")
    with database_down(demo_store):
        page.reload()
        database = column(page, "From the database")
        expect(database).to_contain_text("The database cannot be reached at the moment.")
        expect(database).to_contain_text("No answer")
        expect(column(page, "From the cache")).to_contain_text("from the cache")


@pytest.mark.engines
def test_the_page_reads_each_list_once(
    books, client: Client, django_assert_num_queries: Callable[..., Any]
):
    with django_assert_num_queries(2):
        first = client.get("/").content.decode()
    assert "The cache did not have the list yet" in first
    with django_assert_num_queries(1):
        second = client.get("/").content.decode()
    assert "The cache did not have the list yet" not in second
