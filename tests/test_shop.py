"""The shop's answers: the list with its parameters, what stands beside it, forms without JavaScript."""

import html
import re
from collections.abc import Callable

import pytest
from django.conf import settings as project
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis import Redis

from pages.shop import ON_A_PAGE, ORDERINGS
from store import product_query
from store.basket_lines import MAX_LINES
from store.models import Product
from tests.servers import free_port
from tests.test_http_caching import database_out_of_reach

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

SHOP = "/shop/"
BASKET = "/shop/basket/"
POSTS = ["{}/", "basket/{}/", "basket/{}/remove/", "basket/empty/"]
PERSIAN = str.maketrans("0123456789,", "۰۱۲۳۴۵۶۷۸۹٬")
EVIL = "<script>alert(1)</script>"


def names(answer) -> list[str]:
    """Return the names of the listed products."""
    return re.findall(r'<h3><a href="/shop/\d+/" dir="auto">(.*?)</a></h3>', answer.text)


def text_of(answer) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", answer.text).split()))


def section(answer, heading: str) -> str:
    """Return the text of what stands beside the list under `heading`; "" if it is not there."""
    found = re.search(
        rf'<section aria-labelledby="{heading}">.*?</section>', answer.text, re.DOTALL
    )
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split()) if found else ""


def look(client: Client, product: Product):
    answer = client.get(f"{SHOP}{product.pk}/")
    assert answer.status_code == 200
    return answer


def forget_ranking(redis: Redis) -> None:
    for key in redis.scan_iter(f"{project.PROJECT_NAME}:ranking"):
        redis.delete(key)


@pytest.fixture
def lose_redis(settings) -> Callable[[], None]:
    """Redis goes down when this is called, both servers of it."""

    def lose() -> None:
        nowhere = f"redis://127.0.0.1:{free_port()}/0"
        settings.QUEUE_REDIS_URL = nowhere
        settings.CACHES = {
            name: {**one, "LOCATION": nowhere} for name, one in settings.CACHES.items()
        }

    return lose


# --- The list -------------------------------------------------------------------------------------


def test_the_list_is_searched_sorted_and_bounded_by_prices(client, books):
    assert names(client.get(SHOP)) == ["Book A", "Book B", "Book C"]
    assert names(client.get(f"{SHOP}?search=THIRD")) == ["Book C"]
    assert names(client.get(f"{SHOP}?ordering=-name")) == ["Book C", "Book B", "Book A"]
    assert names(client.get(f"{SHOP}?min_price=1001&max_price=")) == ["Book B"]
    assert names(client.get(SHOP, {"max_price": "1000".translate(PERSIAN)})) == ["Book A"]


def test_there_is_a_name_for_every_way_to_sort():
    assert ORDERINGS.keys() == {
        sign + name for name in product_query.ORDERINGS for sign in ("", "-")
    }


def test_the_list_comes_through_the_cache_and_says_so(client, books):
    assert "came from the database; the next reader finds it" in text_of(client.get(SHOP))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert "This list came from the cache. Getting it took" in text_of(client.get(SHOP))
    assert len(queries) == 0
    Product.objects.update(price=7)
    answer = client.get(SHOP)
    assert "came from the database" in text_of(answer)
    assert "7" in re.findall(r'<p class="price">(.*?)</p>', answer.text)


def test_pages_follow_each_other_without_a_count(client, transactional_db):
    Product.objects.bulk_create(Product(name=f"P{n:03}") for n in range(2 * ON_A_PAGE))
    client.get(SHOP)
    with CaptureQueriesContext(connection) as queries:
        second = client.get(f"{SHOP}?offset={ON_A_PAGE}&search=P")
    assert not [query for query in queries if "COUNT(" in query["sql"]]
    assert names(second)[0] == "P024"
    assert len(names(second)) == ON_A_PAGE
    assert 'rel="prev" href="?search=P&amp;offset=0"' in second.text
    assert 'rel="next"' not in second.text
    assert f'rel="next" href="?offset={ON_A_PAGE}"' in client.get(SHOP).text
    past = client.get(f"{SHOP}?offset=48")
    assert past.status_code == 200
    assert "The list ends before this page." in text_of(past)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("min_price=abc", "A valid integer is required."),
        ("max_price=-1", "greater than or equal to 0"),
        ("max_price=1_0", "A valid integer is required."),
        ("ordering=colour", '"colour" is not a valid choice.'),
        ("offset=x", "There is no such page"),
        (f"search={'x' * 101}", "no more than 100 characters"),
        ("search=%00", "Null characters are not allowed."),
    ],
)
def test_a_bad_parameter_is_said_and_the_rest_stays(client, books, query, said):
    answer = client.get(f"{SHOP}?{query}&limit=1")
    assert answer.status_code == 400
    assert said in text_of(answer)
    name = query.partition("=")[0]
    if name != "offset":
        assert f'aria-describedby="wrong-{name}"' in answer.text
        assert f'id="wrong-{name}"' in answer.text
    assert names(answer) == ["Book A", "Book B", "Book C"]


def test_what_is_sent_and_what_is_stored_is_never_markup(client, transactional_db):
    evil = Product.objects.create(name=EVIL, description=EVIL, price=None)
    look(client, evil)
    client.put(f"/store/basket/{evil.pk}/", {"quantity": 1}, "application/json")
    for path in (SHOP, f"{SHOP}{evil.pk}/", BASKET, f"{SHOP}?search={EVIL}&min_price={EVIL}"):
        answer = client.get(path)
        assert EVIL not in answer.text
        assert html.escape(EVIL) in answer.text
        assert "no price yet" in answer.text or "min_price" in path


def test_numbers_and_dates_are_in_the_readers_language(client, books):
    headers = {"accept-language": "fa"}
    assert "1,000".translate(PERSIAN) in client.get(SHOP, headers=headers).text
    page = client.get(f"{SHOP}{books[0].pk}/", headers=headers)
    assert "1,000".translate(PERSIAN) in page.text
    year = str(books[0].date_created.year).translate(PERSIAN)
    assert year in page.text
    assert "1,000" in client.get(SHOP, headers={"accept-language": "en"}).text


# --- Beside it ------------------------------------------------------------------------------------


def test_looks_are_counted_and_recalled_as_in_the_api(client, books, redis):
    look(client, books[1])
    assert client.cookies["visitor"]["httponly"]
    look(client, books[0])
    client.get(f"/store/products/{books[1].pk}/", REMOTE_ADDR="192.0.2.1")
    client.head(f"{SHOP}{books[2].pk}/")
    client.get(f"{SHOP}{books[2].pk}/price/")
    answer = client.get(SHOP)
    assert "Book B 2 views Book A 1 view" in section(answer, "most-viewed")
    assert "Book B 2,000 Book A 1,000" in section(answer, "recently-viewed")
    recalled = client.get("/store/products/recent/").json()["results"]
    assert [one["name"] for one in recalled] == ["Book B", "Book A"]


def test_what_one_visitor_looked_at_and_put_away_is_in_nobody_elses_page(books):
    own, other = Client(), Client()
    look(own, books[0])
    own.post(f"{SHOP}{books[0].pk}/", {"quantity": 42})
    for path in (SHOP, BASKET, f"{SHOP}{books[1].pk}/", f"{SHOP}{books[0].pk}/"):
        assert '<span class="tag" id="pieces">42</span>' in own.get(path).text
        seen = other.get(path)
        # The number, and not these digits of a time that was measured.
        assert not re.search(r"(?<!\d)(?<!\d[.,])42(?!\d)(?![.,]\d)", text_of(seen))
        assert not section(seen, "recently-viewed") or path == SHOP
    assert "Book A" in section(own.get(SHOP), "recently-viewed")
    assert section(Client().get(SHOP), "recently-viewed") == ""


@pytest.mark.parametrize("path", [SHOP, BASKET, "/shop/{}/", "/shop/{}/price/", f"{SHOP}?limit=x"])
def test_no_cache_keeps_a_visitors_page(client, books, path):
    answer = client.get(path.format(books[0].pk))
    directives = {one.strip() for one in answer["Cache-Control"].split(",")}
    assert {"private", "no-store"} <= directives
    assert "Cookie" in answer["Vary"]


def test_the_most_viewed_are_kept_until_a_write_and_for_each_language(client, books, redis):
    look(client, books[0])
    english, persian = ({"accept-language": one} for one in ("en", "fa"))
    assert "1 view" in section(client.get(SHOP, headers=english), "most-viewed")
    assert "1".translate(PERSIAN) in section(client.get(SHOP, headers=persian), "most-viewed")
    client.get(f"{SHOP}{books[0].pk}/", REMOTE_ADDR="192.0.2.1")
    forget_ranking(redis)
    assert "1 view" in section(client.get(SHOP, headers=english), "most-viewed")  # It is kept.
    Product.objects.filter(pk=books[0].pk).update(name="Another")
    forget_ranking(redis)
    assert "Another 2 views" in section(client.get(SHOP, headers=english), "most-viewed")
    assert "Another" in section(client.get(SHOP, headers=persian), "most-viewed")


def test_a_fragment_that_somebody_else_has_written_is_made_anew(client, books, redis):
    look(client, books[0])
    client.get(SHOP)
    (key,) = redis.scan_iter(f"{project.PROJECT_NAME}:fragment:*")
    for garbage in (b"\xff\xfe", b"[1]", b"\x80\x04."):
        redis.set(key, garbage)
        assert "Book A 1 view" in section(client.get(SHOP), "most-viewed")


def test_fragments_that_cannot_be_reached_are_made_for_the_one_page(client, books, settings):
    """As in the moment between asking for the version of the products and for the fragment."""
    look(client, books[0])
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    lost = {**settings.CACHES["template_fragments"], "LOCATION": nowhere}
    settings.CACHES = {**settings.CACHES, "template_fragments": lost}
    assert "Book A 1 view" in section(client.get(SHOP), "most-viewed")


def test_without_redis_the_list_is_there_and_what_stands_beside_it_is_not(
    client, books, lose_redis
):
    look(client, books[0])
    client.post(f"{SHOP}{books[0].pk}/", {"quantity": 1})
    lose_redis()
    answer = client.get(SHOP)
    assert answer.status_code == 200
    assert names(answer) == ["Book A", "Book B", "Book C"]
    assert "past the cache" in text_of(answer)
    assert section(answer, "most-viewed") == ""
    assert "Book A" in section(answer, "recently-viewed")  # The browser knows.
    assert 'id="pieces"' not in answer.text
    assert "Book A" in text_of(look(client, books[0]))


def test_without_the_database_the_list_still_comes_from_the_cache(client, books, settings):
    look(client, books[0])
    client.get(SHOP)
    Client().get(SHOP)
    with database_out_of_reach():
        answer = client.get(SHOP)
        assert answer.status_code == 200
        assert names(answer) == ["Book A", "Book B", "Book C"]


def test_without_the_database_a_product_cannot_be_shown(client, books):
    with database_out_of_reach():
        answer = client.get(f"{SHOP}{books[0].pk}/")
    assert answer.status_code == 503
    assert "What this page needs cannot be reached right now." in text_of(answer)


# --- A product ------------------------------------------------------------------------------------


def test_a_product_that_is_not_there_is_a_page(client, books):
    for path in (f"{SHOP}999999999/", f"{SHOP}{10**30}/", f"{SHOP}999999999/price/"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "There is nothing here" in answer.text
    assert client.post(f"{SHOP}999999999/", {"quantity": 1}).status_code == 404


def test_staff_find_the_way_to_the_admin(client, editor, books):
    admin = f"/admin/store/product/{books[0].pk}/change/"
    assert admin in look(editor, books[0]).text
    assert admin not in look(client, books[0]).text
    assert editor.get(admin).status_code == 200


def test_the_price_of_now_is_told_without_a_look(client, books):
    assert client.get(f"{SHOP}{books[0].pk}/price/").json() == {"price": 1000}
    assert client.get(f"{SHOP}{books[2].pk}/price/").json() == {"price": None}


# --- The basket without JavaScript ----------------------------------------------------------------


def test_forms_do_what_the_api_does(client, books):
    first, second = books[:2]
    answer = client.post(f"{SHOP}{first.pk}/", {"quantity": 2}, follow=True)
    assert answer.redirect_chain == [(BASKET, 302)]
    client.post(f"{SHOP}{second.pk}/", {"quantity": 1})
    answer = client.post(f"{BASKET}{first.pk}/", {"quantity": 3}, follow=True)
    assert '<strong class="total" id="total">5,000</strong>' in answer.text
    assert client.get("/store/basket/").json()["total"] == 5000
    client.post(f"{BASKET}{second.pk}/remove/")
    client.post(f"{BASKET}{second.pk}/remove/")  # A second click changes nothing.
    assert [one["product"] for one in client.get("/store/basket/").json()["lines"]] == [first.pk]
    answer = client.post(f"{BASKET}empty/", follow=True)
    assert "There is nothing in it yet." in text_of(answer)
    assert client.get("/store/basket/").json()["lines"] == []


@pytest.mark.parametrize("quantity", ["0", "100", "-1", "1.5", "many", "", "1_0"])
def test_a_bad_quantity_is_said_at_its_line(client, books, quantity):
    client.post(f"{SHOP}{books[0].pk}/", {"quantity": 2})
    for path in (f"{BASKET}{books[0].pk}/", f"{SHOP}{books[0].pk}/"):
        answer = client.post(path, {"quantity": quantity})
        assert answer.status_code == 400
        assert "It takes a number from 1 to 99." in text_of(answer)
        assert f'value="{quantity}" aria-invalid="true"' in answer.text
    assert client.get("/store/basket/").json()["total"] == 2000


def test_a_full_basket_says_so(client, transactional_db):
    Product.objects.bulk_create(Product(name=f"P{n}", price=1) for n in range(MAX_LINES + 1))
    *fitting, one_more = Product.objects.order_by("pk")
    for product in fitting:
        client.put(f"/store/basket/{product.pk}/", {"quantity": 1}, "application/json")
    for path in (f"{SHOP}{one_more.pk}/", f"{BASKET}{one_more.pk}/"):
        answer = client.post(path, {"quantity": 1})
        assert answer.status_code == 400
        assert "it holds 100 different products at most" in text_of(answer)


def test_products_that_are_gone_are_told_of(client, books):
    for product in books[:2]:
        client.post(f"{SHOP}{product.pk}/", {"quantity": 1})
    gone = books[0].pk
    books[0].delete()
    look(client, books[1])  # Counting the pieces takes nothing out that would have to be told.
    answer = client.get(BASKET)
    assert f"Product {gone:,} is no longer in the store" in text_of(answer)
    answer = client.post(f"{BASKET}{gone}/", {"quantity": 1})
    assert answer.status_code == 404
    assert "This product is no longer in the store." in text_of(answer)


@pytest.mark.parametrize("path", [*POSTS[1:], None])
def test_without_redis_the_basket_says_so_kindly(client, books, lose_redis, path):
    client.post(f"{SHOP}{books[0].pk}/", {"quantity": 1})
    lose_redis()
    if path is None:
        answer = client.get(BASKET)
    else:
        answer = client.post(SHOP + path.format(books[0].pk), {"quantity": 1})
    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"
    assert "Your basket is kept in Redis, which does not answer" in text_of(answer)


def test_without_redis_a_product_is_shown_but_goes_into_no_basket(client, books, lose_redis):
    lose_redis()
    answer = client.post(f"{SHOP}{books[0].pk}/", {"quantity": 7})
    assert answer.status_code == 503
    assert "Book A" in text_of(answer)
    assert "The basket does not answer at the moment." in text_of(answer)
    assert 'value="7"' in answer.text


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("demo", [True, False])
def test_everybody_has_a_basket_in_the_demo_and_outside(editor, books, settings, path, demo):
    settings.DEMO = demo
    for visitor in (Client(), editor):
        answer = visitor.post(SHOP + path.format(books[0].pk), {"quantity": 1})
        assert (answer.status_code, answer["Location"]) == (302, BASKET)


@pytest.mark.parametrize("path", POSTS)
def test_a_form_of_another_site_is_refused(books, path):
    stranger = Client(enforce_csrf_checks=True)
    answer = stranger.post(SHOP + path.format(books[0].pk), {"quantity": 1})
    assert answer.status_code == 403
    assert stranger.get("/store/basket/").json()["lines"] == []


@pytest.mark.parametrize("path", POSTS)
def test_a_forms_address_that_is_loaded_again_changes_nothing_and_leads_on(client, books, path):
    """As the browser does after a refusal: reload, come back in another language, or signed in."""
    client.post(f"{BASKET}{books[0].pk}/", {"quantity": 3})
    answer = client.get(SHOP + path.format(books[0].pk), follow=True)
    assert answer.status_code == 200
    assert client.get("/store/basket/").json()["lines"][0]["quantity"] == 3


def test_writes_by_forms_count_with_those_to_the_api(client, books, settings):
    settings.THROTTLE_WRITES = (2, 60)
    path = f"{BASKET}{books[0].pk}/"
    assert client.put(f"/store{path[5:]}", {"quantity": 1}, "application/json").status_code == 200
    assert client.post(path, {"quantity": 2}).status_code == 302
    refused = client.post(path, {"quantity": 3})
    assert refused.status_code == 429
    assert "too many changes in a row" in text_of(refused)
    assert client.get("/store/basket/").json()["total"] == 2000
    assert client.put(f"/store{path[5:]}", {"quantity": 1}, "application/json").status_code == 429


def test_a_user_has_the_basket_of_the_api(books):
    client = Client()
    client.force_login(User.objects.create_user("buyer"))
    client.post(f"{SHOP}{books[0].pk}/", {"quantity": 2})
    assert client.get("/store/basket/").json()["total"] == 2000
    caches["session"].clear()
    assert "Sign out" in client.get(BASKET).text
