"""One rule for a price and a name at every door: the API, files, forms of the pages and the admin."""

import io

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.exceptions import ValidationError

from pages import prices
from store import product_csv
from store.models import MAX_PRICE, Product

pytestmark = pytest.mark.django_db(transaction=True)
REFUSED = object()


def by_api(client, name, price):
    answer = client.post("/store/products/", {"name": name, "price": price}, "application/json")
    return (answer.json()["name"], answer.json()["price"]) if answer.status_code == 201 else REFUSED


def by_api_form(client, name, price):
    answer = client.post("/store/products/", {"name": name, "price": price})
    return (answer.json()["name"], answer.json()["price"]) if answer.status_code == 201 else REFUSED


def by_file(_client, name, price):
    body = product_csv.write([["id", "name", "price"], [1, name, price]])
    lines = product_csv.Lines([product_csv.Utf8(io.BytesIO(body)).read(10_000)])
    (batch,) = product_csv.batches(lines, product_csv.read_header(lines), 1)
    return REFUSED if batch.rejected else (batch.products[1].name, batch.products[1].price)


def by_admin(client, name, price):
    client.post("/admin/store/product/add/", {"name": name, "price": price, "description": ""})
    product = Product.objects.first()
    return (product.name, product.price) if product else REFUSED


DOORS = [by_api, by_api_form, by_file, by_admin]
PRICES = {
    "10": 10,
    "10.0": 10,
    "10.00": 10,
    " 10 ": 10,
    "\u06f1\u06f0": 10,  # Persian
    "\u0661\u0660": 10,  # Arabic
    "0": 0,
    str(MAX_PRICE): MAX_PRICE,
    "1_000": REFUSED,
    "1,000": REFUSED,
    "1\u066c000": REFUSED,
    "10.5": REFUSED,
    "10.": REFUSED,
    "1e3": REFUSED,
    "+5": REFUSED,
    "-1": REFUSED,
    "0x10": REFUSED,
    "\u2460": REFUSED,  # a one in a circle
    "9" * 5000: REFUSED,
    str(MAX_PRICE + 1): REFUSED,
}
NAMES = {
    " pad ": "pad",
    "\u00a0pad\u3000": "pad",
    "a  b": "a  b",
    " " + "x" * 255 + " ": "x" * 255,
    "x" * 256: REFUSED,
    "   ": REFUSED,
    "": REFUSED,
    "a\0b": REFUSED,
}


@pytest.fixture
def staff(db) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("staff"))
    return client


@pytest.mark.parametrize("door", DOORS)
def test_a_price_and_a_name_are_the_same_at_every_door(staff, door):
    for price, expected in PRICES.items():
        found = door(staff, "Book", price)
        assert found == (REFUSED if expected is REFUSED else ("Book", expected)), price
        Product.objects.all().delete()
    for name, expected in NAMES.items():
        found = door(staff, name, "1")
        assert found == (REFUSED if expected is REFUSED else (expected, 1)), name
        Product.objects.all().delete()


def test_a_price_is_the_same_in_the_form_of_a_page():
    product = Product.objects.create(name="Book")
    for price, expected in PRICES.items():
        try:
            found = prices.change(str(product.pk), price).product.price
        except ValidationError:
            found = REFUSED
        assert found == expected, price


@pytest.mark.parametrize("quantity", ["\u06f3", " 3 ", "3.0", 3, 3.0])
def test_a_quantity_is_read_as_a_price_is(client, quantity):
    product = Product.objects.create(name="Book", price=1)
    path = f"/store/basket/{product.pk}/"
    answer = client.put(path, {"quantity": quantity}, "application/json")
    assert answer.json()["lines"][0]["quantity"] == 3
    client.post(f"/shop/basket/{product.pk}/", {"quantity": quantity})
    assert client.get("/store/basket/").json()["lines"][0]["quantity"] == 3


@pytest.mark.parametrize("number", [2**53, 2**63, 2**64, 10**40, int("9" * 4000)])
def test_an_id_of_any_size_that_is_not_there_is_a_404(staff, number):
    for path in (
        f"/store/products/{number}/",
        f"/store/imports/{number}/rejected/",
        f"/store/exports/{number}/",
        f"/store/jobs/import-{number}/",
        f"/shop/{number}/",
        f"/shop/{number}/price/",
    ):
        assert staff.get(path).status_code == 404, path[:40]
    for method in (staff.put, staff.delete):
        path = f"/store/basket/{number}/"
        assert method(path, {"quantity": 1}, "application/json").status_code in (200, 404)
    assert staff.get(f"/admin/store/product/{number}/change/").status_code in (302, 404)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("path", ["/store/products", "/store/basket/1", "/store/imports?a=%2Fb"])
def test_without_the_last_slash_a_write_is_sent_on_with_its_method_and_body(client, method, path):
    answer = getattr(client, method)(
        path, {"name": "Book"}, "application/json", HTTP_HOST="localhost"
    )
    address, _, query = path.partition("?")
    expected = f"{address}/" + (f"?{query}" if query else "")
    assert (answer.status_code, answer["Location"]) == (308, expected)
    assert expected in answer.json()["detail"]


def test_the_admin_and_the_way_to_https_keep_method_and_body_too(staff, settings):
    answer = staff.post("/admin/store/product/add", {"name": "Book"})
    assert (answer.status_code, answer["Location"]) == (308, "/admin/store/product/add/")
    assert staff.get("/admin/store/product/add").status_code == 301
    settings.SECURE_SSL_REDIRECT = True
    for method in ("post", "put", "patch", "delete"):
        answer = getattr(Client(), method)("/store/basket/1/", {"quantity": 1}, "application/json")
        assert (answer.status_code, answer["Location"]) == (
            308,
            "https://testserver/store/basket/1/",
        )


def test_what_is_sent_on_arrives(staff):
    answer = staff.post("/store/products", {"name": "Book"}, "application/json", follow=True)
    assert answer.status_code == 201
    assert Product.objects.get().name == "Book"


def test_a_write_to_nowhere_is_a_404(client):
    assert client.post("/store/nothing", {}, "application/json").status_code == 404


@pytest.mark.parametrize("value", ["csv", "json", "api", "", "\u06f1"])
@pytest.mark.parametrize(
    "path",
    [
        "/store/",
        "/store/cached/",
        "/store/products/",
        "/store/products/popular/",
        "/store/basket/",
        "/store/imports/",
        "/store/exports/",
    ],
)
def test_format_is_a_parameter_that_is_not_known(staff, path, value):
    answer = staff.get(path, {"format": value})
    assert answer.status_code in (200, 201)
    assert answer["Content-Type"] == "application/json"
