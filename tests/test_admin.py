import pytest

from store.models import Product

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

LIST = "/admin/store/product/"


def test_the_list_shows_name_price_and_modified(admin_client, books):
    page = admin_client.get(LIST).text
    for column in ("column-name", "column-price", "column-date_modified"):
        assert column in page


def test_the_list_can_be_searched_and_filtered(admin_client, books):
    page = admin_client.get(LIST, {"q": "third"}).text
    assert "Book C" in page
    assert "Book A" not in page
    assert "By date modified" in admin_client.get(LIST).text


def test_a_price_changed_in_the_list_is_seen_in_the_store(admin_client, client, books):
    client.get("/store/cached/")
    form = {"form-TOTAL_FORMS": 3, "form-INITIAL_FORMS": 3, "_save": "Save"}
    listed = Product.objects.order_by("-pk")  # The admin's default order.
    for number, book in enumerate(listed):
        form |= {f"form-{number}-id": book.pk, f"form-{number}-price": 4000 + number}
    assert admin_client.post(LIST, form).status_code == 302
    prices = {product["price"] for product in client.get("/store/cached/").json()["results"]}
    assert prices == {4000, 4001, 4002}
