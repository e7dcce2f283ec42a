"""/store/basket/: each visitor's own, at the database's prices, kept through signing in."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis import Redis

from store import basket_lines, keys
from store.basket_lines import MAX_LINES
from store.models import Product
from tests.line import Line
from tests.servers import free_port, start_redis
from tests.visitors import cookies
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

BASKET = "/store/basket/"
JSON = "application/json"
LOGIN = {"username": "buyer", "password": "secret"}
BOUNDED_SECONDS = 10  # a busy machine's; an answer that waits for no timeout takes milliseconds


@pytest.fixture
def buyer(transactional_db) -> User:
    return User.objects.create_user("buyer", password="secret", is_staff=True)


@pytest.fixture
def signed_in(buyer) -> Client:
    client = Client()
    client.force_login(buyer)
    return client


@pytest.fixture
def many(transactional_db) -> list[Product]:
    """Two products more than a basket has lines, in id order."""
    Product.objects.bulk_create(
        Product(name=f"Book {number}", price=1) for number in range(MAX_LINES + 2)
    )
    return list(Product.objects.order_by("pk"))


def put(client: Client, product: Product | int, quantity: object = 1):
    pk = product.pk if isinstance(product, Product) else product
    return client.put(f"{BASKET}{pk}/", {"quantity": quantity}, JSON)


def fill(client: Client, products: list[Product], quantity: int = 1) -> None:
    assert {put(client, product, quantity).status_code for product in products} == {200}


def take_out(client: Client, product: Product):
    return client.delete(f"{BASKET}{product.pk}/")


def quantities(client: Client) -> dict[int, int]:
    lines = client.get(BASKET).json()["lines"]
    return {line["product"]: line["quantity"] for line in lines}


def basket_keys(redis, settings) -> set[str]:
    return {key.decode() for key in redis.scan_iter(f"{settings.PROJECT_NAME}:basket:*")}


def begun_under(client: Client) -> str:
    return keys.anonymous_basket_key(client.session["basket"])


def sign_in(client: Client) -> None:
    answer = client.post("/admin/login/?next=/admin/", LOGIN)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


# --- What is in it --------------------------------------------------------------------------------


def test_a_basket_has_lines_in_id_order_and_totals_from_the_database(client, books):
    put(client, books[1], 3)
    answer = put(client, books[0], 2)
    first, second = books[:2]
    assert answer.json() == {
        "lines": [
            {
                "product": first.pk,
                "name": "Book A",
                "price": 1000,
                "priced": True,
                "quantity": 2,
                "total": 2000,
            },
            {
                "product": second.pk,
                "name": "Book B",
                "price": 2000,
                "priced": True,
                "quantity": 3,
                "total": 6000,
            },
        ],
        "total": 8000,
        "notes": [],
    }
    Product.objects.filter(pk=first.pk).update(price=1)
    assert client.get(BASKET).json()["total"] == 6002


def test_a_product_without_a_price_counts_as_0_and_is_marked(client, books):
    fill(client, books[1:], 2)
    basket = client.get(BASKET).json()
    assert [(line["priced"], line["total"]) for line in basket["lines"]] == [
        (True, 4000),
        (False, 0),
    ]
    assert basket["total"] == 4000


@pytest.mark.smoke
def test_put_sets_the_quantity_and_delete_takes_out_a_line_or_all(client, books):
    fill(client, books, 5)
    put(client, books[0], 7)
    assert take_out(client, books[1]).json()["total"] == 7000
    assert quantities(client) == {books[0].pk: 7, books[2].pk: 5}
    assert client.delete(BASKET).json() == {"lines": [], "total": 0, "notes": []}
    assert quantities(client) == {}


@pytest.mark.parametrize("quantity", [0, -1, 100, 1.5, "many", None, True, [], {}, "1_0"])
def test_a_bad_quantity_is_a_400_that_names_it_and_changes_nothing(client, books, quantity):
    put(client, books[0], 3)
    answer = put(client, books[0], quantity)
    assert answer.status_code == 400
    assert list(answer.json()) == ["quantity"]
    assert quantities(client) == {books[0].pk: 3}


@pytest.mark.parametrize("body", ["", "{}", "[]", "3", '{"quantity":', '{"amount": 3}'])
def test_a_body_without_a_quantity_is_a_400(client, books, body):
    assert client.put(f"{BASKET}{books[0].pk}/", body, JSON).status_code == 400


@pytest.mark.parametrize("quantity", [1, 99])
def test_quantities_from_1_to_99_are_taken(client, books, quantity):
    assert put(client, books[0], quantity).json()["lines"][0]["quantity"] == quantity


@pytest.mark.parametrize("pk", [0, 999_999_999, 2**63, 10**40])
def test_an_unknown_product_is_404_and_begins_no_session(client, books, pk):
    assert put(client, pk).status_code == 404
    assert client.delete(f"{BASKET}{pk}/").status_code == 404
    assert not Session.objects.exists()


def test_what_is_not_in_the_basket_cannot_be_taken_out(client, books):
    put(client, books[0])
    assert take_out(client, books[1]).status_code == 404
    assert quantities(client) == {books[0].pk: 1}


def test_a_product_deleted_meanwhile_is_dropped_with_a_note_in_the_next_answer(client, books):
    fill(client, books[:2])
    gone = books[0].pk
    Product.objects.filter(pk=gone).delete()
    assert put(client, gone).status_code == 404
    answer = put(client, books[1], 2).json()
    assert [line["product"] for line in answer["lines"]] == [books[1].pk]
    assert [note["product"] for note in answer["notes"]] == [gone]
    assert "No longer in the store" in answer["notes"][0]["note"]
    assert client.get(BASKET).json()["notes"] == []


def test_the_101st_line_is_a_400_that_says_so(client, many, redis, settings):
    put(client, many[0])
    (key,) = basket_keys(redis, settings)
    assert all(basket_lines.put(key, product.pk, 1) for product in many[1:MAX_LINES])
    refused = put(client, many[MAX_LINES])
    # Were it taken, a line of this basket or the session would have been lost: the message says which.
    assert refused.status_code == 400, (
        redis.hlen(key),
        basket_keys(redis, settings),
        refused.json(),
    )
    assert "at most 100 lines" in refused.json()["detail"]
    assert put(client, many[0], 9).status_code == 200  # A line that is there may change,
    assert take_out(client, many[1]).status_code == 200
    assert put(client, many[MAX_LINES]).status_code == 200  # and room may be made.


def test_a_basket_costs_one_query_for_its_products(signed_in, many, django_assert_num_queries):
    fill(signed_in, many[:50])
    with django_assert_num_queries(2):  # The user is the other one.
        assert len(quantities(signed_in)) == 50


def test_a_browser_gets_a_page(client, books):
    put(client, books[0])
    page = client.get(BASKET, headers={"accept": "text/html"})
    assert "Book A" in page.text
    assert page["Cache-Control"] == "private, no-store"


# --- Whose it is ----------------------------------------------------------------------------------


def test_each_visitor_has_a_basket_of_their_own_that_no_cache_may_keep(books, buyer, signed_in):
    visitors = [signed_in, Client(), Client()]
    for number, visitor in enumerate(visitors, 1):
        put(visitor, books[0], number)
    for number, visitor in enumerate(visitors, 1):
        answer = visitor.get(BASKET)
        assert answer.json()["lines"][0]["quantity"] == number
        assert "Cookie" in answer["Vary"]
        refused = visitor.put(f"{BASKET}0/", {"quantity": 1}, JSON)
        for one in (answer, refused, put(visitor, books[0], 0), put(visitor, books[0], number)):
            assert one["Cache-Control"] == "private, no-store"


def test_the_key_is_the_sessions_and_after_signing_in_the_users(
    client, signed_in, buyer, books, redis, settings
):
    put(client, books[0], 2)
    put(signed_in, books[1], 3)
    prefix = f"{settings.PROJECT_NAME}:basket"
    anonymous, user = (
        f"{prefix}:anonymous:{client.session.session_key}",
        f"{prefix}:user:{buyer.pk}",
    )
    assert basket_keys(redis, settings) == {anonymous, user}
    assert redis.hgetall(anonymous) == {str(books[0].pk).encode(): b"2"}
    assert redis.hgetall(user) == {str(books[1].pk).encode(): b"3"}


def test_a_session_that_the_store_has_not_made_has_no_basket(client, books, redis, settings):
    client.cookies["sessionid"] = "chosen-by-somebody-else-0123456789"
    assert put(client, books[0]).status_code == 200
    assert client.cookies["sessionid"].value != "chosen-by-somebody-else-0123456789"
    assert "chosen" not in "".join(basket_keys(redis, settings))


def test_a_basket_lives_30_days_from_its_last_change(client, books, redis):
    put(client, books[0])
    key = begun_under(client)
    for change in (lambda: put(client, books[1]), lambda: take_out(client, books[1])):
        redis.expire(key, 60)
        client.get(BASKET)
        assert redis.ttl(key) <= 60
        change()
        assert 0 <= keys.BASKET_AGE_SECONDS - redis.ttl(key) < 60
    assert keys.BASKET_AGE_SECONDS == 30 * 24 * 3600


# --- Sessions -------------------------------------------------------------------------------------


def test_only_the_first_put_of_an_anonymous_visitor_begins_a_session(client, books):
    for answer in (
        client.get(BASKET),
        client.delete(BASKET),
        take_out(client, books[0]),
        put(client, books[0], 100),
    ):
        assert "sessionid" not in answer.cookies
    assert not Session.objects.exists()
    first = put(client, books[0])
    assert first.cookies["sessionid"]["max-age"] == keys.BASKET_AGE_SECONDS
    with CaptureQueriesContext(connection) as captured:
        for answer in (put(client, books[1]), client.get(BASKET), take_out(client, books[1])):
            assert "sessionid" not in answer.cookies
    assert not [query["sql"] for query in captured if "UPDATE" in query["sql"]]
    assert Session.objects.count() == 1


def test_the_basket_of_a_user_who_has_been_deactivated_does_not_prolong_the_login(
    signed_in, buyer, books
):
    User.objects.filter(pk=buyer.pk).update(is_active=False)
    put(signed_in, books[0])
    assert "_auth_user_id" not in signed_in.session
    User.objects.filter(pk=buyer.pk).update(is_active=True)
    assert quantities(signed_in) == {books[0].pk: 1}


def test_a_user_who_puts_writes_no_session(signed_in, books):
    with CaptureQueriesContext(connection) as captured:
        assert "sessionid" not in put(signed_in, books[0]).cookies
    assert {query["sql"].split()[0] for query in captured} == {"SELECT"}


@pytest.fixture
def ending_at(monkeypatch):
    """`ending_at("check", client)`: another tab ends the client's session before that step."""

    def end_before(step: str, client: Client) -> None:
        session, do = client.session, getattr(basket_lines, step)

        def end_and_do(*arguments):
            type(session)(session.session_key).delete()
            return do(*arguments)

        monkeypatch.setattr(basket_lines, step, end_and_do)

    return end_before


def test_a_session_that_ends_while_a_basket_is_begun_interrupts_nobody(client, books, ending_at):
    session = client.session
    session["another"] = "entry"
    session.save()
    ending_at("check", client)
    assert put(client, books[0]).status_code == 200
    assert quantities(client) == {books[0].pk: 1}


def test_a_session_that_ends_while_a_line_is_put_interrupts_nobody(client, books, ending_at):
    put(client, books[0])
    ending_at("put", client)
    assert put(client, books[1]).status_code == 200


def test_a_session_that_ends_while_a_basket_is_brought_along_interrupts_nobody(
    signed_in, books, redis, ending_at
):
    session = signed_in.session
    session["basket"] = "begun-before-redis-went-down"
    session.save()
    redis.hset(begun_under(signed_in), str(books[0].pk), 3)
    ending_at("merge", signed_in)
    assert signed_in.get(BASKET).json()["lines"][0]["quantity"] == 3


# --- CSRF -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["anonymous", "user"])
def test_a_write_needs_a_csrf_token_which_reading_gives(who, books, buyer):
    client = Client(enforce_csrf_checks=True)
    if who == "user":
        client.force_login(buyer)
    path = f"{BASKET}{books[0].pk}/"
    for write in (
        lambda: put(client, books[0]),
        lambda: client.delete(path),
        lambda: client.delete(BASKET),
    ):
        refused = write()
        assert refused.status_code == 403
        assert "CSRF" in refused.json()["detail"]
    assert Session.objects.count() == (who == "user")
    token = {"x-csrftoken": client.get(BASKET).cookies["csrftoken"].value}
    assert client.put(path, {"quantity": 1}, JSON, headers=token).status_code == 200
    assert client.put(path, {"quantity": 2}, JSON).status_code == 403
    assert quantities(client) == {books[0].pk: 1}
    assert client.delete(path, headers=token).status_code == 200


def test_credentials_of_another_kind_are_no_way_around_the_token(books, buyer):
    client = Client(enforce_csrf_checks=True)
    basic = {"authorization": "Basic YnV5ZXI6c2VjcmV0"}  # buyer:secret
    answer = client.put(f"{BASKET}{books[0].pk}/", {"quantity": 1}, JSON, headers=basic)
    assert answer.status_code == 403


# --- Two tabs -------------------------------------------------------------------------------------


def at_once(*actions) -> list:
    """Return what the actions return that begin together, each in a thread of its own."""
    barrier = threading.Barrier(len(actions))

    def act(action):
        barrier.wait()
        try:
            return action()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(act, actions))


def tab_of(client: Client) -> Client:
    tab = Client()
    tab.cookies = client.cookies.copy()
    return tab


@pytest.mark.parametrize("who", ["anonymous", "user"])
def test_two_tabs_that_change_different_products_at_once_both_win(who, many, buyer):
    client = Client()
    if who == "user":
        client.force_login(buyer)
    put(client, many[-1])
    odd, even = many[1:41:2], many[0:40:2]
    tabs = [lambda: fill(tab_of(client), odd, 2), lambda: fill(tab_of(client), even, 3)]
    at_once(*tabs)
    expected = {product.pk: 2 for product in odd} | {product.pk: 3 for product in even}
    assert quantities(client) == expected | {many[-1].pk: 1}


def test_tabs_that_fill_the_basket_at_once_do_not_go_past_the_limit(many, signed_in):
    fill(signed_in, many[: MAX_LINES - 1])
    tabs = [lambda one=one: put(tab_of(signed_in), one) for one in many[MAX_LINES - 1 :]]
    assert sorted(answer.status_code for answer in at_once(*tabs)) == [200, 400, 400]
    assert len(quantities(signed_in)) == MAX_LINES


# --- Signing in -----------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("by", [sign_in, lambda client: client.login(**LOGIN)])
def test_signing_in_adds_the_anonymous_basket_to_the_users(
    by, client, signed_in, buyer, books, redis, settings
):
    fill(signed_in, books[:2], 60)
    put(client, books[0], 30)
    put(client, books[1], 50)
    put(client, books[2], 4)
    before = client.session.session_key
    by(client)
    assert client.session.session_key != before
    assert "basket" not in client.session
    assert basket_keys(redis, settings) == {keys.user_basket_key(buyer.pk)}
    expected = {books[0].pk: 90, books[1].pk: 99, books[2].pk: 4}  # 60 + 50 is capped.
    assert quantities(client) == quantities(signed_in) == expected


def test_a_merge_renews_the_lifetime_and_nothing_to_merge_changes_nothing(
    client, signed_in, buyer, books, redis
):
    put(signed_in, books[0])
    key = keys.user_basket_key(buyer.pk)
    redis.expire(key, 60)
    basket_lines.merge(keys.anonymous_basket_key("gone"), key)
    assert redis.ttl(key) <= 60
    put(client, books[0])
    sign_in(client)
    assert redis.ttl(key) > 60


def test_a_login_does_not_last_as_long_as_a_basket(client, buyer, books, settings):
    put(client, books[0])
    sign_in(client)
    assert client.cookies["sessionid"]["max-age"] == settings.SESSION_COOKIE_AGE
    assert client.session.get_expiry_age() == settings.SESSION_COOKIE_AGE


def test_of_more_than_100_lines_the_users_and_then_the_lowest_ids_stay(client, signed_in, many):
    fill(signed_in, many[-2:], 5)
    fill(client, many[:MAX_LINES][::-1], 2)
    sign_in(client)
    expected = {product.pk: 2 for product in many[: MAX_LINES - 2]}
    assert quantities(client) == expected | {product.pk: 5 for product in many[-2:]}


def test_a_full_basket_still_takes_more_of_what_it_has(client, signed_in, many):
    fill(signed_in, many[:MAX_LINES])
    fill(client, [many[MAX_LINES - 1], many[MAX_LINES]], 2)
    sign_in(client)
    assert quantities(client) == {
        **{product.pk: 1 for product in many[:MAX_LINES]},
        many[MAX_LINES - 1].pk: 3,
    }


def test_two_logins_at_once_lose_and_double_nothing(buyer, books):
    browsers = [Client(), Client()]
    for browser in browsers:
        put(browser, books[0], 20)
    at_once(*(lambda browser=browser: sign_in(browser) for browser in browsers))
    assert quantities(browsers[0]) == {books[0].pk: 40}


def test_signing_out_leaves_nothing_of_the_users_basket(client, buyer, books):
    put(client, books[0])
    sign_in(client)
    client.logout()
    assert quantities(client) == {}
    client.login(**LOGIN)
    assert quantities(client) == {books[0].pk: 1}


def test_somebody_else_who_signs_in_gets_nothing_of_the_users_basket(client, buyer, books):
    sign_in(client)
    put(client, books[0])
    User.objects.create_user("other", password="secret")
    client.login(username="other", password="secret")
    assert quantities(client) == {}


# --- Redis down -----------------------------------------------------------------------------------


@pytest.fixture
def no_redis(settings) -> None:
    """Nobody listens where the baskets are; what else is in Redis is there."""
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"


def test_without_redis_every_request_is_503_with_retry_after_and_begins_no_session(
    client, signed_in, books, no_redis
):
    started = time.monotonic()
    answers = [put(client, books[0])]
    answers += [signed_in.get(BASKET), put(signed_in, books[0])]
    answers += [take_out(signed_in, books[0]), signed_in.delete(BASKET)]
    assert time.monotonic() - started < BOUNDED_SECONDS
    for answer in answers:
        assert answer.status_code == 503
        assert answer["Retry-After"] == "1"
        assert answer["Content-Type"] == JSON
        assert "try again" in answer.json()["detail"]
        assert answer["Cache-Control"] == "private, no-store"
    assert client.get(BASKET).status_code == 200  # A visitor without a session has no basket.
    assert "sessionid" not in client.cookies
    assert Session.objects.count() == 1
    assert client.get("/store/cached/").status_code == 201  # The rest of the store goes on.


def test_a_redis_that_refuses_writes_is_503_and_reads_go_on(signed_in, books, settings):
    server = start_redis(free_port())
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
    try:
        put(signed_in, books[0], 4)
        with Redis(port=server.port) as redis:
            redis.config_set("maxmemory", "1")
        refused = put(signed_in, books[1])
        assert (refused.status_code, refused["Retry-After"]) == (503, "1")
        assert quantities(signed_in) == {books[0].pk: 4}
    finally:
        server.kill()


def test_signing_in_goes_on_without_redis_and_the_basket_is_brought_along_later(
    client, buyer, books, redis, settings
):
    put(client, books[0], 4)
    was, settings.QUEUE_REDIS_URL = settings.QUEUE_REDIS_URL, f"redis://127.0.0.1:{free_port()}"
    sign_in(client)
    assert client.cookies["sessionid"]["max-age"] == settings.SESSION_COOKIE_AGE
    assert client.get(BASKET).status_code == 503
    settings.QUEUE_REDIS_URL = was
    wait_for(lambda: client.get(BASKET).status_code == 200)
    assert quantities(client) == {books[0].pk: 4}
    put(client, books[0], 5)
    redis.expire(keys.user_basket_key(buyer.pk), 60)
    assert quantities(client) == {books[0].pk: 5}  # It is not added again.
    assert redis.ttl(keys.user_basket_key(buyer.pk)) <= 60


def test_a_hung_redis_holds_up_nobody_for_long(open_store, signed_in, books):
    server = start_redis(free_port())
    line = Line(server.port)
    try:
        url = f"redis://127.0.0.1:{line.port}/0"
        store = open_store(QUEUE_REDIS_URL=url, SECRET_KEY=settings.SECRET_KEY)
        wait_for(lambda: store.get(BASKET, cookies(signed_in)).status == 200)
        line.go_dead()
        started = time.monotonic()
        hung = [store.get(BASKET, cookies(signed_in)) for _ in range(20)]
        assert {answer.status for answer in hung} == {503}
        assert {answer.headers["Retry-After"] for answer in hung} == {"1"}
        # Each of the two processes waits once a second, for CACHE_BUDGET_SECONDS at most.
        assert time.monotonic() - started < BOUNDED_SECONDS
        line.mend()
        wait_for(lambda: store.get(BASKET, cookies(signed_in)).status == 200)
    finally:
        line.close()
        server.kill()
