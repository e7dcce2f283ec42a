"""What holds for every page, in a real browser."""

import re
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from playwright.sync_api import Page, expect

from store import catalogue
from tests.browser import DESKTOP, PAGES, PHONE, follow

MOST_BYTES = 100_000


@pytest.mark.parametrize("locale", ["en-GB", "fa-IR"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_used_by_everybody(visit, path, locale):
    page = visit(locale=locale, viewport=PHONE, color_scheme="dark").open(path)
    page.wait_for_load_state("networkidle" if path in ("/shop/", "/strategies/") else "load")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert serious_violations(page) == []
    page.set_viewport_size(DESKTOP)
    page.emulate_media(color_scheme="light")
    assert serious_violations(page) == []


def serious_violations(page: Page) -> list[str]:
    return [
        f"{one['id']}: {node['html']}"
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


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
    follow(page.get_by_role("button", name="فارسی"))
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "fa")
    follow(page.get_by_role("link", name="فروشگاه").first)
    expect(page.locator("html")).to_have_attribute("lang", "fa")
    follow(page.get_by_role("button", name="English"))
    expect(page.locator("html")).to_have_attribute("dir", "ltr")


@pytest.mark.parametrize("path", [*PAGES, "/nothing/here/", "/admin/login/", "/api/docs/"])
@pytest.mark.django_db
def test_nothing_is_run_that_is_written_into_a_page(client, path):
    policy = client.get(path)["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy.split("; ")  # Their order changes from start to start.


@pytest.mark.parametrize("path", ["/admin/login/", "/api/docs/", "/api-auth/login/", "/store/"])
def test_the_pages_of_libraries_work_under_the_same_policy(visit, path):
    page = visit().open(path)
    page.wait_for_load_state("networkidle")
    expect(page.locator("body")).to_contain_text(re.compile(r"\w"), use_inner_text=True)


@pytest.mark.django_db
def test_the_language_of_a_page_is_not_that_of_the_next_answer(client):
    page = client.get("/shop/", headers={"Accept-Language": "fa"})
    assert page["Content-Language"] == "fa"
    assert {"Accept-Language", "Cookie"} <= set(page["Vary"].split(", "))
    answer = client.get("/store/?limit=0")
    assert "Content-Language" not in answer.headers
    assert "greater than or equal to 1" in str(answer.json()["limit"])
    assert client.get("/shop/")["Content-Language"] == "en"


@pytest.mark.django_db
def test_customers_sign_in_in_the_corner_and_out_again(client, django_user_model):
    """Who is no staff, too; the admin's pages would keep them out, and in."""
    django_user_model.objects.create_user("customer", password="secret")
    corner = client.get("/shop/?search=Book").content.decode()
    found = re.search(r'<a href="([^"?]+)\?next=([^"]+)">Sign in', corner)
    assert found
    form = {"username": "customer", "password": "secret", "next": unquote(found[2])}
    assert client.post(found[1], form)["Location"] == "/shop/?search=Book"
    corner = client.get("/shop/").content.decode()
    found = re.search(r'action="([^"]+)">(?:<[^>]+>)+customer', corner)
    assert found
    assert client.post(found[1], {"next": "/"})["Location"] == "/"
    assert "Sign in" in client.get("/shop/").content.decode()


@pytest.mark.django_db
def test_an_address_that_leads_nowhere_is_said_so_in_the_form_that_was_asked_for(client):
    page = client.get("/nothing/here/")
    assert page.status_code == 404
    assert "/nothing/here/" in page.content.decode()
    assert client.get("/store/nothing/").json() == {"detail": "There is nothing at this address."}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("text/html,*/*;q=0.8", "text/html; charset=utf-8"), ("application/json", "application/json")],
)
def test_what_is_refused_or_fails_is_said_in_the_form_that_was_asked_for(
    settings, monkeypatch, accept, content_type
):
    settings.DEMO = False
    headers = {"Accept": accept, "Accept-Language": "fa"}
    client = Client(raise_request_exception=False, enforce_csrf_checks=True, headers=headers)
    without_token = client.post("/forget/cache/")
    client.handler.enforce_csrf_checks = False
    without_permission = client.post("/forget/cache/")
    monkeypatch.setattr(catalogue, "list_products_cached", lambda _: 1 / 0)
    mistake = client.get("/shop/")
    answers = [without_token, without_permission, mistake]
    assert [answer.status_code for answer in answers] == [403, 403, 500]
    assert {answer["Content-Type"] for answer in answers} == {content_type}
    if accept.startswith("text/html"):
        assert all('lang="fa"' in answer.content.decode() for answer in answers)


@pytest.mark.django_db
def test_a_database_that_is_down_is_said_by_a_page_on_others_pages_too(client, monkeypatch):
    def fail(*_: object) -> None:
        raise OperationalError

    monkeypatch.setattr(ModelBackend, "get_user", fail)
    client.force_login(User.objects.create_user("chief"))
    client.raise_request_exception = False
    answer = client.get("/admin/")
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert "Not at the moment" in answer.content.decode()
