"""/store/products/: anyone reads, staff with the model's permissions write."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from store.models import Product

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.engines,
    pytest.mark.contract,
]

JSON = "application/json"


def test_the_list_is_paginated(client, books):
    page = client.get("/store/products/?limit=2").json()
    assert page["count"] == 3
    assert [product["name"] for product in page["results"]] == ["Book A", "Book B"]
    assert client.get(page["next"]).json()["results"][0]["name"] == "Book C"


def test_the_list_takes_the_filters_of_the_other_lists(client, books):
    page = client.get("/store/products/?search=book&ordering=-price&min_price=1").json()
    assert [product["name"] for product in page["results"]] == ["Book B", "Book A"]


def test_a_product_is_shown_with_the_fields_of_the_lists(client, books):
    shown = client.get(f"/store/products/{books[0].pk}/").json()
    assert shown == client.get("/store/").json()["results"][0]


def test_an_unknown_product_is_404(client, db):
    assert client.get("/store/products/12345/").status_code == 404


def test_desc_is_the_description_in_and_out(editor):
    created = editor.post("/store/products/", {"name": "x", "desc": "some words"}, JSON)
    assert created.json()["desc"] == "some words"
    assert Product.objects.get().description == "some words"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"price": -1}, "price"),
        ({"price": 1.5}, "price"),
        ({"price": "cheap"}, "price"),
        ({"price": 2**31}, "price"),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 256}, "name"),
    ],
)
def test_a_bad_product_is_a_400_that_names_the_field(editor, change, field):
    response = editor.post("/store/products/", {"name": "x", **change}, JSON)
    assert response.status_code == 400
    assert list(response.json()) == [field]
    assert not Product.objects.exists()


def test_the_name_is_required_and_the_price_may_be_null(editor):
    assert editor.post("/store/products/", {"price": 1}, JSON).json().keys() == {"name"}
    assert editor.post("/store/products/", {"name": "x", "price": None}, JSON).status_code == 201
    assert editor.post("/store/products/", {"name": "x" * 255, "price": 0}, JSON).status_code == 201


def test_basic_authentication_writes(client, editor):
    credentials = {"authorization": "Basic ZWRpdG9yOnNlY3JldA=="}  # editor:secret
    response = client.post("/store/products/", {"name": "x"}, JSON, headers=credentials)
    assert response.status_code == 201


@pytest.mark.parametrize("user", ["anonymous", "member", "staff without the permission"])
def test_others_may_not_write(user, books):
    client = Client()
    if user != "anonymous":
        client.force_login(User.objects.create_user("u", is_staff=user.startswith("staff")))
    path = f"/store/products/{books[0].pk}/"
    assert client.get(path).status_code == 200
    assert client.post("/store/products/", {"name": "x"}, JSON).status_code == 403
    assert client.patch(path, {"price": 1}, JSON).status_code == 403
    assert client.delete(path).status_code == 403
    assert Product.objects.count() == 3


def test_a_member_with_the_permission_who_is_not_staff_may_not_write(editor, books):
    User.objects.update(is_staff=False)
    assert editor.delete(f"/store/products/{books[0].pk}/").status_code == 403


def test_a_write_with_a_session_needs_a_csrf_token(editor, books):
    editor.handler.enforce_csrf_checks = True
    response = editor.post("/store/products/", {"name": "x"}, JSON)
    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]
