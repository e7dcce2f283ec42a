"""A store as a newcomer has it, with nothing set, and a real browser to look at it with.

Chromium is the one on the PATH. What it starts and asks for of its own accord is turned off.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from tests import preloaded
from tests.processes import StoreProcess, clean_environment
from tests.servers import binary, temporary_folder

QUIET = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PAGES = ("/", "/redis/", "/shop/", "/shop/1/", "/shop/basket/", "/jobs/", "/strategies/")
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


# A machine that stalls must not count as an outage: Redis has 10 s to answer.
PATIENCE = {"CACHE_BUDGET_SECONDS": "25"}
# Streams of pages that tests have just left may not be closed yet.
MANY_STREAMS = {"EVENTS_MAX_CLIENTS": "100", "EVENTS_MAX_PER_ADDRESS": "100"}
SLOW_MS = 60_000  # The machine may be busy.


def open_demo(**variables: str) -> StoreProcess:
    """Open the demo, with its books and its worker, and nothing set that names other servers."""
    var_dir = temporary_folder()
    environment = clean_environment(
        VAR_DIR=str(var_dir), RUN_WORKER="on", **PATIENCE | MANY_STREAMS | variables
    )
    preloaded.run(["manage.py", "prepare"], environment).check_returncode()
    store = StoreProcess(var_dir / "store.log", (), environment, inherit=False)
    store.wait_until_open()
    take_powers(store)
    return store


def take_powers(store: StoreProcess) -> None:
    """Have `store` know the cookie that the address printed by its start gives, another one each time."""
    opened = store.get(printed_address(store).removeprefix(store.url))
    store.demo_cookie = opened.headers["Set-Cookie"].partition(";")[0]


def printed_address(store: StoreProcess) -> str:
    """Return the address that the start of a demo asks to open."""
    found = re.search(r"(http://\S+/demo/[\w-]+/)\s", store.log.read_text())
    assert found, store.log.read_text()
    return found[1]


def follow(target: Locator) -> None:
    """Click on what leads to another page, and wait until that page's scripts have run.

    A click by itself waits for the first bytes of the page.
    """
    with target.page.expect_navigation():
        target.click()


def chromium_binary() -> str | None:
    """Return the browser; the one without a screen takes a fifth of the CPU of the whole one."""
    return binary(
        "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome"
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; its driver's event loop must be gone before Django is asked for anything."""
    found = chromium_binary()
    if found is None:
        reason = "no chromium on the PATH (Debian: apt-get install chromium-headless-shell)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    arguments = [*QUIET, *(["--no-sandbox"] if os.getuid() == 0 else [])]
    expect.set_options(timeout=SLOW_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


class Visit:
    """One visitor's look at the store; `page` is Playwright's, `complaints` what the console said."""

    def __init__(self, context: BrowserContext, store: StoreProcess) -> None:
        self.url = store.url
        self.context = context
        self.take_powers(store)
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(SLOW_MS)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def take_powers(self, store: StoreProcess) -> None:
        name, _, value = store.demo_cookie.partition("=")
        self.context.add_cookies([{"name": name, "value": value, "url": store.url}])

    def open(self, path: str) -> Page:
        self.page.goto(urljoin(self.url, path))
        return self.page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")
