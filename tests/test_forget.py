"""The buttons of "Make it forget" as the server answers them, on every engine."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client
from redis import Redis

from pages import outages
from simple_django_redis import demo_token
from store import keys, locks
from store.models import Product
from tests.configuration import configure
from tests.servers import free_port
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

JSON = {"accept": "application/json"}
ENTRY = f"{settings.PROJECT_NAME}:1:product"


@pytest.fixture
def demo_client(settings, monkeypatch) -> Client:
    """A visitor of the demo, whatever servers the suite runs on."""
    settings.DEMO = True
    monkeypatch.setattr(demo_token, "value", "right")
    client = Client(SERVER_NAME="127.0.0.1")
    client.get("/demo/right/")
    return client


@pytest.fixture
def seconds_stopped(books, settings, tmp_path) -> int:
    """The database is stopped, for this process alone."""
    settings.VAR_DIR = tmp_path
    outages._watch(connection)
    return outages.stop_database()


def press(client: Client, what: str, **fields: object):
    return client.post(f"/forget/{what}/", fields, headers=JSON)


# --- A price -----------------------------------------------------------------------------------------


def test_a_price_is_changed_and_what_it_replaced_is_told(editor, books, redis: Redis):
    editor.get("/store/cached/")
    answer = press(editor, "price", product=books[0].pk, price="1500")
    told = answer.json()
    assert answer.status_code == 200
    assert told.pop("seconds") > 0
    assert told == {
        "text": "Book A now costs 1,500; before, it was 1,000.",
        "product": books[0].pk,
        "name": "Book A",
        "price": 1500,
        "before": 1000,
    }
    after = editor.get("/store/cached/")
    assert (after.status_code, after.json()["results"][0]["price"]) == (201, 1500)
    (_, event) = redis.xrevrange(keys.events_key(), count=1)[0]
    assert b"updated" in b"".join(event.values())
    assert b"1500" in b"".join(event.values())


def test_a_product_without_a_price_gets_one(editor, books):
    told = press(editor, "price", product=books[2].pk, price="7").json()
    assert (told["before"], told["price"]) == (None, 7)
    assert told["text"] == "Book C now costs 7; before, it was no price."


@pytest.mark.parametrize(
    "price", ["", "-1", "1.5", "abc", "2147483648", "9" * 400, "1\0", "NaN"], ids=repr
)
def test_what_is_no_price_is_refused_with_the_words_of_the_api(price, editor, books):
    path = f"/store/products/{books[0].pk}/"
    by_api = editor.patch(path, {"price": price}, content_type="application/json")
    answer = press(editor, "price", product=books[0].pk, price=price)
    assert (answer.status_code, by_api.status_code) == (400, 400)
    assert answer.json() == {"detail": by_api.json()["price"][0]}
    books[0].refresh_from_db()
    assert books[0].price == 1000


@pytest.mark.parametrize("product", ["", "0", "-1", "abc", "1; DROP", str(10**30)], ids=repr)
def test_a_product_that_is_not_there_is_refused(product, editor, books):
    answer = press(editor, "price", product=product, price="1")
    assert (answer.status_code, answer.json()) == (404, {"detail": "There is no such product."})


def test_of_two_who_change_a_price_at_once_each_is_told_what_they_replaced(editor, books):
    prices = range(1, 9)
    begin_together = threading.Barrier(len(prices))

    def change(price: int) -> tuple[int | None, int]:
        try:
            client = Client()
            client.cookies = editor.cookies
            begin_together.wait()
            told = press(client, "price", product=books[0].pk, price=price).json()
            return told["before"], told["price"]
        finally:
            connection.close()

    with ThreadPoolExecutor(len(prices)) as pool:
        replaced = dict(pool.map(change, prices))
    chain = [1000]
    while chain[-1] in replaced:
        chain.append(replaced[chain[-1]])
    books[0].refresh_from_db()
    assert sorted(chain[1:]) == list(prices)  # Not one was lost on the way.
    assert chain[-1] == books[0].price


def test_the_other_columns_of_a_product_stay(editor, books):
    Product.objects.filter(pk=books[0].pk).update(name="Another name")
    press(editor, "price", product=books[0].pk, price=5)
    books[0].refresh_from_db()
    assert (books[0].name, books[0].description) == ("Another name", "book A description")


# --- Forgetting --------------------------------------------------------------------------------------


def test_clearing_deletes_cached_lists_and_nothing_else(editor, books, redis: Redis):
    editor.get("/store/cached/")
    editor.get("/store/cached/?limit=1")
    other = f"{settings.PROJECT_NAME}:basket:user:1"
    redis.set(other, "x")
    told = press(editor, "cache").json()
    assert told["count"] == 4  # Both lists and their stale copies.
    assert redis.exists(other)
    assert editor.get("/store/cached/").status_code == 201


def test_an_expired_entry_is_gone_and_its_stale_copy_still_bridges_outages(
    editor, books, redis: Redis
):
    editor.get("/store/cached/")
    assert press(editor, "entry").json() == {"text": "The time of the cached list is up."}
    wait_for(lambda: not redis.exists(ENTRY), seconds=5)
    assert redis.exists(f"{ENTRY}:stale")
    assert editor.get("/store/cached/").status_code == 201


def test_where_nothing_is_cached_nothing_expires(editor, books):
    text = "There was no cached list that could expire."
    assert press(editor, "entry").json() == {"text": text}


# --- A stampede --------------------------------------------------------------------------------------


def test_200_requests_at_once_are_answered_from_one_query(editor, demo_books, settings):
    configure(settings, WAIT_SECONDS=30, LEASE_SECONDS=30)  # longer than a machine stalls
    editor.get("/store/cached/")
    told = press(editor, "stampede").json()
    assert told.pop("slowest_seconds") > 0
    assert told == {
        "text": "200 requests at once, 1 database query.",
        "requests": 200,
        "queries": 1,
        "statuses": {"200": 199, "201": 1},
    }


def test_there_is_one_stampede_at_a_time(editor, books):
    with locks.hold("stampede", lease_seconds=10):
        answer = press(editor, "stampede")
    assert answer.status_code == 409
    assert "already" in answer.json()["detail"]


def test_a_stampede_counts_the_queries_that_are_sent(editor, books, settings):
    """Without a cache that keeps anything the count is not one: it is no figure of speech."""
    settings.CACHE_TTL = 0
    told = press(editor, "stampede").json()
    assert told["statuses"] == {"200": 200}
    assert told["queries"] > 20


# --- Outages -----------------------------------------------------------------------------------------


def test_a_stopped_database_fails_each_query_and_heals_by_itself(seconds_stopped, monkeypatch):
    assert 0 < seconds_stopped <= outages.SECONDS
    with pytest.raises(OperationalError, match="the demo has stopped the database"):
        Product.objects.count()
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + outages.SECONDS)
    assert outages.seconds_left("database") == 0
    assert Product.objects.count() == 3


def test_a_clock_that_is_set_back_stops_nothing_for_longer(seconds_stopped, monkeypatch):
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now - 3600)
    assert outages.seconds_left("database") == 0
    assert Product.objects.count() == 3


def test_while_the_database_is_stopped_a_button_that_needs_it_says_so(demo_client, seconds_stopped):
    answer = press(demo_client, "price", product=1, price=1)
    assert answer.status_code == 503
    assert "cannot be reached" in answer.json()["detail"]
    page = demo_client.get("/")
    assert page.status_code == 200
    assert "There is no product to be read" in page.content.decode()


def test_while_redis_is_down_a_button_that_needs_it_says_so(editor, settings, books):
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    answer = press(editor, "stampede")
    assert answer.status_code == 503
    assert "cannot be reached" in answer.json()["detail"]


# --- Forms -------------------------------------------------------------------------------------------


def test_a_form_is_led_back_with_a_message_and_without_a_session(demo_client, books):
    answer = demo_client.post("/forget/price/", {"product": books[0].pk, "price": 1})
    assert (answer.status_code, answer["Location"]) == (302, "/#forget")
    assert "sessionid" not in demo_client.cookies
    assert "Book A now costs 1; before, it was 1,000." in demo_client.get("/").content.decode()


def test_a_form_that_is_refused_is_led_back_with_the_reason(demo_client, books):
    answer = demo_client.post("/forget/price/", {"product": books[0].pk, "price": "-1"})
    assert (answer.status_code, answer["Location"]) == (302, "/#forget")
    assert "greater than or equal to 0" in demo_client.get("/").content.decode()


def test_no_answer_is_for_caches(editor):
    assert press(editor, "cache")["Cache-Control"] == "private, no-store"
