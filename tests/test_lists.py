"""The contract of GET /store/ and GET /store/cached/, which answer alike."""

from datetime import datetime

import pytest
from django.test import Client
from redis import Redis

from store.models import Product
from store.product_query import ProductQuery

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

both_lists = pytest.mark.parametrize("path", ["/store/", "/store/cached/"])


def test_the_uncached_list_reads_the_database_every_time(client, books, django_assert_num_queries):
    for _ in range(2):
        with django_assert_num_queries(1):
            response = client.get("/store/")
        assert response.status_code == 200
        assert (response.json()["from_database"], response.json()["from_cache"]) == (True, False)


@pytest.mark.smoke
def test_the_first_cached_answer_is_201_and_the_next_200(client, books, django_assert_num_queries):
    with django_assert_num_queries(1):
        first = client.get("/store/cached/")
    with django_assert_num_queries(0):
        second = client.get("/store/cached/")

    assert first.status_code == 201
    assert (first.json()["from_database"], first.json()["from_cache"]) == (True, False)
    assert second.status_code == 200
    assert (second.json()["from_database"], second.json()["from_cache"]) == (False, True)
    assert first.json()["results"] == second.json()["results"]


@pytest.mark.contract
def test_the_entry_is_stored_under_product_for_the_ttl(client, books, redis: Redis, settings):
    client.get("/store/cached/")
    key = f"{settings.PROJECT_NAME}:1:product"
    assert redis.exists(key)
    assert 0 < redis.ttl(key) <= settings.CACHE_TTL


@both_lists
def test_a_product_has_exactly_the_documented_fields(client, books, path):
    results = client.get(path).json()["results"]

    assert [product["id"] for product in results] == [book.pk for book in books]
    first = results[0]
    assert list(first) == ["id", "name", "desc", "price", "date_created", "date_modified"]
    assert (first["name"], first["desc"], first["price"]) == ("Book A", "book A description", 1000)
    assert results[2]["price"] is None
    assert datetime.fromisoformat(first["date_created"]) == books[0].date_created
    assert first["date_modified"].endswith("Z")


@both_lists
def test_the_answer_reports_its_response_time(client, books, path):
    answer = client.get(path).json()
    assert list(answer) == ["response_time", "from_database", "from_cache", "results"]
    assert isinstance(answer["response_time"], float)
    assert 0 < answer["response_time"] < 10


@both_lists
def test_an_empty_store_answers_an_empty_list(client, path):
    assert client.get(path).json()["results"] == []


@both_lists
def test_a_browser_gets_the_browsable_page_with_the_same_content(client, books, path):
    page = client.get(path, headers={"accept": "text/html"})
    assert page["Content-Type"].startswith("text/html")
    assert "Book A" in page.text
    assert "from_cache" in page.text
    assert "response_time" in page.text


@both_lists
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_other_methods_are_405(client, path, method):
    response = getattr(client, method)(path)
    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD"


@both_lists
def test_head_answers_like_get_without_a_body(client, books, path):
    response = client.head(path)
    assert response.status_code in (200, 201)
    assert response.content == b""


@both_lists
def test_the_path_without_its_slash_redirects(client, path):
    response = client.get(path.rstrip("/"))
    assert (response.status_code, response["Location"]) == (301, path)


@both_lists
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("limit=2", ["Book A", "Book B"]),
        ("limit=1&offset=1", ["Book B"]),
        ("offset=2", ["Book C"]),
        ("offset=99", []),
        ("search=BOOK a", ["Book A"]),
        ("search=THIRD", ["Book C"]),
        ("search=%25", []),
        ("search=", ["Book A", "Book B", "Book C"]),
        ("ordering=-id", ["Book C", "Book B", "Book A"]),
        ("ordering=-name", ["Book C", "Book B", "Book A"]),
        ("ordering=-price&min_price=0", ["Book B", "Book A"]),
        ("ordering=date_modified", ["Book A", "Book B", "Book C"]),
        ("min_price=1500", ["Book B"]),
        ("max_price=1500", ["Book A"]),
        ("min_price=1000&max_price=2000", ["Book A", "Book B"]),
        ("unknown=1", ["Book A", "Book B", "Book C"]),
    ],
)
@pytest.mark.contract
def test_filters_select_and_order_alike_on_both_lists(client, books, path, query, names):
    for _ in range(2):  # The second answer of the cached list comes from the cache.
        results = client.get(f"{path}?{query}").json()["results"]
        assert [product["name"] for product in results] == names


@both_lists
@pytest.mark.contract
def test_ties_of_an_ordering_are_broken_by_id(client, transactional_db, path):
    Product.objects.bulk_create([Product(name="same", price=5) for _ in range(5)])
    ids = [product["id"] for product in client.get(f"{path}?ordering=-price").json()["results"]]
    assert ids == sorted(ids)


@pytest.mark.parametrize("path", ["/store/", "/store/cached/", "/store/products/"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "many"),
        ("limit", ""),
        ("offset", "-1"),
        ("offset", "99999999999999999999"),
        ("search", "x" * 101),
        ("search", "nul\0"),
        ("ordering", "secret"),
        ("ordering", ""),
        ("min_price", "-1"),
        ("min_price", "1.5"),
        ("max_price", "cheap"),
        ("max_price", str(2**31)),
    ],
)
def test_a_bad_value_is_a_400_that_names_its_field(client, db, path, field, value):
    response = client.get(path, {field: value})
    assert response.status_code == 400
    assert list(response.json()) == [field]
    assert response.json()[field][0]


def test_a_bad_value_leaves_nothing_in_the_cache(client, books, redis: Redis, settings):
    client.get("/store/cached/?limit=0")
    assert not list(redis.scan_iter(f"{settings.PROJECT_NAME}:*"))


def statuses(client: Client, *queries: str) -> list[int]:
    return [client.get(f"/store/cached/?{query}").status_code for query in queries]


def test_the_same_filters_in_another_order_share_an_entry(client, books):
    assert statuses(
        client, "limit=2&min_price=5", "min_price=5&limit=2", "limit=02&min_price=5"
    ) == [
        201,
        200,
        200,
    ]


def test_the_letter_case_of_a_search_makes_no_second_entry(client, books):
    assert statuses(client, "search=Book", "search=bOOK", "search=%20book%20") == [201, 200, 200]


def test_letters_whose_case_databases_may_tell_apart_make_entries_of_their_own():
    assert ProductQuery(search="É").normalised() != ProductQuery(search="é").normalised()


def test_defaults_and_unknown_parameters_share_the_entry_of_the_whole_list(client, books):
    queries = ["", "unknown=1", "ordering=id", "offset=0", "search="]
    assert statuses(client, *queries) == [201, 200, 200, 200, 200]


def test_different_filters_have_entries_of_their_own(client, books):
    assert statuses(client, "limit=1", "limit=2", "min_price=1", "max_price=1") == [201] * 4


def test_with_a_ttl_of_none_the_entry_stays_until_it_is_forgotten(client, books, redis, settings):
    settings.CACHE_TTL = None
    assert statuses(client, "", "") == [201, 200]
    assert redis.ttl(f"{settings.PROJECT_NAME}:1:product") == -1


def test_with_a_ttl_of_zero_nothing_is_stored(client, books, redis, settings):
    settings.CACHE_TTL = 0
    for _ in range(2):
        response = client.get("/store/cached/")
        assert response.status_code == 200
        assert response.json()["from_database"] is True
    assert not list(redis.scan_iter(f"{settings.PROJECT_NAME}:*"))
