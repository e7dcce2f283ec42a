"""Imports and exports by the page: what people see of them, and who may start them."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from playwright.sync_api import Locator, Page, Route, expect

from pages.jobs import SAMPLE_FIRST_ID, SAMPLE_ROWS
from simple_django_redis import demo_token
from store import demo, product_csv
from store.models import Product, Transfer
from tests.processes import StoreProcess
from tests.test_import_jobs import GOOD
from tests.test_imports import uploaded
from tests.visitors import CSRF_TOKEN
from tests.waiting import wait_for

IMPORTS, EXPORTS = "/jobs/imports/", "/jobs/exports/"
engines = pytest.mark.engines
with_database = pytest.mark.django_db(transaction=True)
FIRST_ID = 2_000_000


@pytest.fixture
def books_come_back(visit) -> Iterator[None]:
    """When the test is over the demo has its books again, which others look at."""
    yield
    page = visit().open("/jobs/")
    page.get_by_role("button", name="Bring them back").click()
    expect(page.get_by_text("The store has its 234 books again.")).to_be_visible()


@pytest.fixture
def jobs(visit, books_come_back) -> Page:
    return visit().open("/jobs/")


def rows(count: int, *more: str) -> str:
    lines = [f"{FIRST_ID + number},Book {number},{number}" for number in range(count)]
    return "\n".join(["id,name,price", *lines, *more, ""])


@contextmanager
def held_worker(store: StoreProcess) -> Iterator[None]:
    """Stop the demo's worker meanwhile, so that nobody has to look before it is done."""

    def workers() -> list[psutil.Process]:
        children = psutil.Process(store.process.pid).children()
        return [child for child in children if "rqworker" in child.cmdline()]

    wait_for(workers)
    held: list[psutil.Process] = []
    try:
        for worker in workers():
            worker.suspend()  # First, so that it starts no other one.
            held.append(worker)
            for child in worker.children(recursive=True):  # What does the job.
                child.suspend()
                held.append(child)
        yield
    finally:
        for one in held:
            one.resume()


def card(page: Page, heading: str) -> Locator:
    return page.get_by_role("region", name=heading)


def begin_import(page: Page, text: str) -> Locator:
    """Choose a file and send it; return where the page says how it is getting on."""
    file = {"name": "books.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.get_by_label("CSV file").set_input_files(files=[file])
    page.get_by_role("button", name="Import", exact=True).click()
    return card(page, "Import products").get_by_role("status")


def begin_long_import(page: Page, store: StoreProcess) -> str:
    """Import 40,000 rows; return the job's id once some of them are in."""
    with held_worker(store):
        said = begin_import(page, rows(40_000))
        expect(said).to_have_text(re.compile(r"^import-\d+ waits for a worker\.$"))
        job = said.inner_text().split()[0]
    opened = {"Cookie": store.demo_cookie}
    wait_for(lambda: store.get(f"/jobs/status/{job}/", opened).json["progress"]["rows_done"])
    return job


def test_an_import_is_watched_until_its_rows_are_in(jobs, demo_store):
    said = begin_import(jobs, rows(30))
    expect(said).to_have_text("Done: 30 rows imported, 0 rejected.")
    expect(jobs.get_by_role("progressbar", name="Import")).to_have_attribute("aria-valuenow", "100")
    done = jobs.locator("[data-kind=import] dl > div", has_text="Rows done")
    expect(done).to_contain_text("30")
    latest = card(jobs, "Latest imports").get_by_role("row").nth(1)
    expect(latest).to_contain_text(re.compile(r"import-\d+\s+done\s+30"))
    answer = demo_store.get(f"/store/products/{FIRST_ID + 7}/").json
    assert (answer["name"], answer["price"]) == ("Book 7", 7)


def test_a_long_import_shows_how_far_it_is_how_fast_and_how_long_it_will_take(jobs, demo_store):
    job = begin_long_import(jobs, demo_store)
    said = card(jobs, "Import products").get_by_role("status")
    with held_worker(demo_store):
        expect(said).to_have_text(f"{job} is being done.")
        figures = jobs.locator("[data-kind=import] dl")
        expect(figures).to_have_text(
            re.compile(r"Rows done\s*[\d,]+\s*Rows a second\s*[\d,]+\s*Time left\s*\d")
        )
        share = jobs.get_by_role("progressbar", name="Import").get_attribute("aria-valuenow")
        assert 0 < int(share or 0) <= 100
    expect(said).to_have_text("Done: 40,000 rows imported, 0 rejected.")


def test_a_page_that_is_opened_meanwhile_watches_the_import_that_is_under_way(
    jobs, visit, demo_store
):
    job = begin_long_import(jobs, demo_store)
    with held_worker(demo_store):
        there = card(visit().open("/jobs/"), "Import products").get_by_role("status")
        expect(there).to_have_text(f"{job} is being done.")
    expect(there).to_have_text("Done: 40,000 rows imported, 0 rejected.")


def test_a_file_that_is_chosen_while_an_import_is_under_way_stays_chosen(jobs, demo_store):
    with held_worker(demo_store):
        said = begin_import(jobs, rows(1))
        expect(said).to_contain_text("waits for a worker")
        file = {"name": "next.csv", "mimeType": "text/csv", "buffer": b"id,name"}
        jobs.get_by_label("CSV file").set_input_files(files=[file])
    expect(said).to_have_text("Done: 1 row imported, 0 rejected.")
    expect(jobs.get_by_label("CSV file")).to_have_value(re.compile("next.csv$"))


def test_a_file_that_is_chosen_while_another_is_being_sent_stays_chosen(jobs):
    held: list[Route] = []
    jobs.route("**/imports/", lambda route: held.append(route))
    with jobs.expect_request("**/imports/"):
        said = begin_import(jobs, rows(1))
    file = {"name": "next.csv", "mimeType": "text/csv", "buffer": b"id,name"}
    jobs.get_by_label("CSV file").set_input_files(files=[file])
    held[0].continue_()
    expect(said).to_have_text("Done: 1 row imported, 0 rejected.")
    expect(jobs.get_by_label("CSV file")).to_have_value(re.compile("next.csv$"))


def test_rejected_rows_are_downloaded(jobs):
    said = begin_import(jobs, rows(2, "x,Bad,1"))
    expect(said).to_have_text("Done: 2 rows imported, 1 rejected.")
    with jobs.expect_download() as download:
        jobs.get_by_role("link", name="Download the rejected rows").click()
    assert download.value.suggested_filename.endswith("-rejected.csv")
    text = download.value.path().read_text()
    assert text.splitlines()[0] == "line,reason,id,name,price"
    assert re.fullmatch(r"4,.*id.*,x,Bad,1", text.splitlines()[1])
    latest = card(jobs, "Latest imports").get_by_role("row").nth(1)
    expect(latest.get_by_role("link", name="1 rejected rows, to download")).to_be_visible()


def test_with_all_or_nothing_a_bad_row_means_that_nothing_is_imported(jobs, demo_store):
    jobs.get_by_label("All or nothing").check()
    said = begin_import(jobs, rows(2, "x,Bad,1"))
    expect(said).to_have_text("Nothing was imported: 1 of 3 rows are bad.")
    assert demo_store.get(f"/store/products/{FIRST_ID}/").status == 404


def test_a_file_that_cannot_be_read_is_told_of_in_the_words_of_the_api(jobs):
    said = begin_import(jobs, "id,title\n1,Atlas\n")
    expect(said).to_contain_text('the column "title" is none of')
    expect(card(jobs, "Latest imports")).to_contain_text('the column "title" is none of')
    expect(jobs.get_by_role("button", name="Import", exact=True)).to_be_enabled()


def test_an_empty_file_is_refused_with_the_reason(visit):
    one = visit()
    said = begin_import(one.open("/jobs/"), "")
    expect(said).to_contain_text("empty")
    one.complaints.clear()  # The browser itself says that the answer was a 400.


def test_a_file_that_is_too_long_is_not_even_sent(visit):
    page = visit().open("/jobs/")
    page.locator("form[data-max-bytes]").evaluate("(form) => { form.dataset.maxBytes = 1000; }")
    said = begin_import(page, rows(100))
    expect(said).to_have_text(re.compile(r"The file has [\d.]+ KB; at most 1 KB are taken\."))


def test_all_products_are_exported_and_downloaded(visit):
    page = visit().open("/jobs/")
    page.get_by_role("button", name="Export", exact=True).click()
    said = card(page, "Export all products").get_by_role("status")
    expect(said).to_have_text(re.compile(r"Done: \d+ products exported\."))
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the products").click()
    with download.value.path().open(newline="") as file:
        found = list(csv.DictReader(file))
    assert tuple(found[0]) == product_csv.COLUMNS
    assert f"Done: {len(found)} products" in said.inner_text()
    expect(card(page, "Latest exports").get_by_role("row").nth(1)).to_contain_text("done")


def test_while_the_store_cannot_be_reached_the_page_waits_for_the_job(visit, books_come_back):
    one = visit()
    page = one.open("/jobs/")
    page.route("**/jobs/status/*/", lambda route: route.abort())
    said = begin_import(page, rows(3))
    expect(said).to_have_text("The store cannot be reached.")
    page.unroute("**/jobs/status/*/")
    expect(said).to_have_text("Done: 3 rows imported, 0 rejected.")
    one.complaints.clear()  # The browser itself says that requests failed.


def test_the_sample_can_be_imported(jobs):
    with jobs.expect_download() as download:
        jobs.get_by_role("link", name="A sample of 1,000 books").click()
    said = begin_import(jobs, download.value.path().read_text())
    expect(said).to_have_text("Done: 1,000 rows imported, 0 rejected.")


def test_an_import_can_be_started_with_the_keyboard_alone(jobs):
    file = {"name": "books.csv", "mimeType": "text/csv", "buffer": rows(1).encode()}
    jobs.get_by_label("CSV file").set_input_files(files=[file])  # The dialog is the system's.
    jobs.get_by_label("CSV file").focus()
    jobs.keyboard.press("Tab")
    expect(jobs.get_by_label("All or nothing")).to_be_focused()
    jobs.keyboard.press("Tab")
    jobs.keyboard.press("Enter")
    said = card(jobs, "Import products").get_by_role("status")
    expect(said).to_have_text("Done: 1 row imported, 0 rejected.")


def test_without_javascript_there_are_the_tables_and_no_buttons_that_need_it(jobs, visit):
    said = begin_import(jobs, rows(5))
    expect(said).to_have_text(re.compile("^Done"))
    page = visit(java_script_enabled=False).open("/jobs/")
    expect(card(page, "Latest imports").get_by_role("row").nth(1)).to_contain_text("done")
    expect(page.get_by_role("button", name="Import", exact=True)).to_be_hidden()
    expect(page.get_by_text("Starting a job needs JavaScript.")).to_have_count(2)


# --- Who may ------------------------------------------------------------------------------------


def upload(client: Client, path: str = IMPORTS, **extra):
    file = SimpleUploadedFile("products.csv", GOOD.encode(), "text/csv")
    return client.post(path, {"file": file}, **extra)


def may_nothing(client: Client) -> bool:
    done = uploaded(GOOD)
    answers = [
        upload(client),
        client.get(IMPORTS),
        client.post(EXPORTS),
        client.get(EXPORTS),
        client.get(f"/jobs/status/import-{done.pk}/"),
        client.get(f"{IMPORTS}{done.pk}/rejected/"),
        client.get(f"{EXPORTS}{done.pk}/"),
    ]
    assert Transfer.objects.count() == 1
    return {answer.status_code for answer in answers} == {403}


@pytest.fixture
def in_the_demo(settings, monkeypatch) -> Callable[..., Client]:
    """Make clients that have opened the address which the demo's start has printed."""
    settings.DEMO = True
    monkeypatch.setattr(demo_token, "value", "right")

    def make(**options: Any) -> Client:
        client = Client(**options)
        client.cookies[demo_token.cookie_name()] = "right"
        return client

    return make


@engines
@with_database
def test_strangers_may_nothing_and_are_told_where_to_sign_in(client):
    assert may_nothing(client)
    said = client.get("/jobs/").content.decode()
    assert "/admin/login/?next=/jobs/" in said
    assert "<form data-url" not in said


class Unread(io.BytesIO):
    """A body that must not be read."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("the body is read")


@engines
@with_database
@pytest.mark.parametrize("is_signed_in", [False, True])
def test_a_file_of_who_may_not_import_is_refused_before_it_is_read(is_signed_in):
    client = Client(enforce_csrf_checks=True, HTTP_X_CSRFTOKEN=CSRF_TOKEN)
    if is_signed_in:
        client.force_login(User.objects.create_user("customer"))
    client.cookies["csrftoken"] = CSRF_TOKEN
    body = {"wsgi.input": Unread(), "CONTENT_LENGTH": "100000000"}
    assert upload(client, **body).status_code == 403


@engines
@with_database
def test_staff_without_the_permissions_may_nothing_and_are_told_so():
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename="change_product"))
    client = Client()
    client.force_login(staff)
    assert may_nothing(client)
    assert "you may not add and change products" in client.get("/jobs/").content.decode()


@engines
def test_staff_with_the_permissions_may(editor, queue_server):
    answer = upload(editor)
    assert answer.status_code == 202
    status = editor.get(f"/jobs/status/import-{answer.json()['id']}/").json()
    assert status["state"] == "waiting"
    assert editor.post(EXPORTS).status_code == 202
    said = editor.get("/jobs/").content.decode()
    assert f"import-{answer.json()['id']}" in said
    assert "Bring" not in said
    assert "/django-rq/" not in said


@engines
@with_database
def test_superusers_find_the_queues_dashboard(admin_client):
    assert "/django-rq/" in admin_client.get("/jobs/").content.decode()


@engines
@with_database
def test_in_the_demo_strangers_may_but_not_by_the_api(in_the_demo, queue_server):
    client = in_the_demo()
    assert upload(client).status_code == 202
    assert client.post(EXPORTS).status_code == 202
    assert upload(client, "/store/imports/").status_code == 403
    assert client.post("/store/exports/").status_code == 403


@engines
@with_database
def test_what_is_wrong_with_a_file_is_said_in_the_visitors_language(in_the_demo):
    client = in_the_demo(headers={"Accept-Language": "fa"})
    empty = SimpleUploadedFile("products.csv", b"", "text/csv")
    assert client.post(IMPORTS, {"file": empty}).json() == {"file": ["فایل ارسال شده خالی است."]}


@engines
@with_database
def test_in_the_demo_who_has_not_its_address_may_nothing(in_the_demo):
    assert may_nothing(Client(SERVER_NAME="localhost"))


@engines
@with_database
@pytest.mark.parametrize("path", [IMPORTS, EXPORTS, "/jobs/bring-back/"])
def test_in_the_demo_other_sites_cannot_have_a_visitors_browser_do_it(
    in_the_demo, queue_server, books, path
):
    client = in_the_demo(enforce_csrf_checks=True)
    assert upload(client, path).status_code == 403
    assert Product.objects.count() == len(books)
    assert not Transfer.objects.exists()
    if path != "/jobs/bring-back/":
        client.get("/jobs/")
        token = client.cookies["csrftoken"].value
        assert upload(client, path, HTTP_X_CSRFTOKEN=token).status_code == 202


@engines
def test_a_signed_in_editors_browser_cannot_be_made_to_do_it_either(editor):
    editor.handler.enforce_csrf_checks = True
    assert upload(editor).status_code == 403
    assert editor.post(EXPORTS).status_code == 403


@engines
def test_the_demos_books_are_brought_back_nowhere_else(editor, client, books):
    for one in (editor, client):
        assert one.post("/jobs/bring-back/").status_code == 404
    assert Product.objects.count() == len(books)


@engines
@with_database
def test_the_demos_books_come_back_as_they_were_and_lists_know_it(in_the_demo, books):
    client = in_the_demo()
    client.get("/store/cached/")
    assert client.get("/jobs/bring-back/").status_code == 405
    answer = client.post("/jobs/bring-back/")
    assert (answer.status_code, answer["Location"]) == (302, "/jobs/")
    found = list(Product.objects.values_list("pk", "name", "price"))
    expected = [(n, book.name, book.price) for n, book in enumerate(demo.books(), start=1)]
    assert found == expected
    results = client.get("/store/cached/").json()["results"]
    assert [one["id"] for one in results] == [pk for pk, _, _ in expected]


@engines
def test_the_page_takes_files_as_long_as_the_api_does(editor, settings):
    limits = settings.BODY_LIMITS
    assert limits[IMPORTS] == limits["/store/imports/"] == settings.IMPORT_MAX_BYTES
    settings.BODY_LIMITS = {"/": 1_000_000, IMPORTS: 10}
    assert upload(editor).status_code == 413


@engines
@with_database
def test_the_pages_addresses_are_no_part_of_the_described_api(client):
    assert b"/jobs/imports" not in client.get("/api/schema/").content


@engines
@with_database
def test_without_redis_it_is_503_and_nothing_is_kept(editor, settings, queue_server):
    queue_server.kill()
    answer = upload(editor)
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert not Transfer.objects.exists()
    assert editor.get("/jobs/").status_code == 200


def test_the_sample_has_books_of_its_own(client):
    answer = client.get("/jobs/sample-books.csv")
    assert "sample-books.csv" in answer["Content-Disposition"]
    found = list(csv.reader(io.StringIO(answer.content.decode())))
    assert tuple(found[0]) == product_csv.COLUMNS
    ids = [int(row[0]) for row in found[1:]]
    assert ids == list(range(SAMPLE_FIRST_ID, SAMPLE_FIRST_ID + SAMPLE_ROWS))
    columns = product_csv.Columns(found[0])
    products = [product_csv.product_of(row, columns) for row in found[1:]]
    assert all(product.price for product in products)
