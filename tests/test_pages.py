"""What holds for every page, in a real browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser import PAGES, PHONE

MOST_BYTES = 100_000
LOOKS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE},
    "right-to-left": {"locale": "fa-IR"},
    "right-to-left-phone": {"locale": "fa-IR", "viewport": PHONE},
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_used_by_everybody(visit, path, look):
    page = visit(**LOOKS[look]).open(path)
    page.wait_for_load_state("networkidle" if path in ("/shop/", "/strategies/") else "load")
    found = Axe().run(page)
    serious = [
        one for one in found.response["violations"] if one["impact"] in ("serious", "critical")
    ]
    assert serious == [], found.generate_report()


@pytest.mark.parametrize("look", ["phone", "right-to-left-phone"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_narrow_screen(visit, path, look):
    page = visit(**LOOKS[look]).open(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_light_and_does_not_jump(visit, path):
    one = visit()
    received: list[int] = []
    session = one.context.new_cdp_session(one.page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    page = one.open(path)
    page.wait_for_timeout(1500)
    shift = page.evaluate(
        """() => new Promise((resolve) => {
            let sum = 0;
            new PerformanceObserver((list) => {
                for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
            }).observe({ type: "layout-shift", buffered: true });
            setTimeout(() => resolve(sum), 200);
        })"""
    )
    assert received
    assert sum(received) < MOST_BYTES
    assert shift < 0.1  # What Lighthouse calls good.


@pytest.mark.parametrize("path", PAGES)
def test_a_page_says_what_it_has_to_say_without_javascript(visit, path):
    page = visit(java_script_enabled=False).open(path)
    assert page.locator("main h1").inner_text()
    assert page.locator("main").inner_text().count("\n") > 3


def test_the_language_is_switched_in_the_corner_and_kept(visit):
    page = visit().open("/shop/")
    page.get_by_role("button", name="فارسی").click()
    assert page.locator("html").get_attribute("dir") == "rtl"
    assert page.locator("html").get_attribute("lang") == "fa"
    page.get_by_role("link", name="فروشگاه").first.click()
    assert page.locator("html").get_attribute("lang") == "fa"
    page.get_by_role("button", name="English").click()
    assert page.locator("html").get_attribute("dir") == "ltr"
