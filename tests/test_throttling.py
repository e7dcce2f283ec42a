"""store.throttling: so many in any window, whoever asks at the same time; and the throttle of writes."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from freshcache.circuit_breaker import Unavailable
from simple_django_redis.environment import parse_rate
from store import keys, throttling
from store.throttling import TooMany, client_network
from tests.line import Line
from tests.servers import free_port, start_redis
from tests.visitors import complaints, reprice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

RATE = (3, 60)
JSON = "application/json"
BOUNDED_SECONDS = 15  # a busy machine's; ten writes that each waited for Redis would take 20 s


def fill(*names: str) -> list[throttling.Counted]:
    return [throttling.count(RATE, *names) for _ in range(RATE[0])]


def whole_key(name: str) -> str:
    return f"{settings.PROJECT_NAME}:throttle:1:{name}"


def let_pass(redis, name: str, seconds: float) -> None:
    """Make everything counted under `name` that much older."""
    for attempt, score in redis.zrange(whole_key(name), 0, -1, withscores=True):
        redis.zadd(whole_key(name), {attempt: score - seconds * 1000})


def unreachable(url: str) -> dict[str, dict]:
    return {**settings.CACHES, "throttle": {**settings.CACHES["throttle"], "LOCATION": url}}


# --- Counting -------------------------------------------------------------------------------------


def test_past_the_limit_it_says_when_there_is_room_again():
    fill("a")
    with pytest.raises(TooMany) as refused:
        throttling.count(RATE, "a")
    assert 1 <= refused.value.retry_after_seconds <= 60
    throttling.count(RATE, "b")


@pytest.mark.smoke
def test_the_window_slides_and_has_no_edge_at_which_more_get_through(redis):
    throttling.count(RATE, "a")
    let_pass(redis, "a", 40)
    throttling.count(RATE, "a")
    throttling.count(RATE, "a")
    let_pass(redis, "a", 10)  # The first is 50 s old now, the others 10.
    with pytest.raises(TooMany) as refused:
        throttling.count(RATE, "a")
    assert refused.value.retry_after_seconds <= 10
    let_pass(redis, "a", 12)
    throttling.count(RATE, "a")
    with pytest.raises(TooMany):
        throttling.count(RATE, "a")
    assert redis.zcard(whole_key("a")) == RATE[0]  # What has left the window is not kept.


def test_who_is_refused_does_not_wait_longer_for_having_asked(redis):
    fill("a")
    for _ in range(5):
        with pytest.raises(TooMany):
            throttling.count(RATE, "a")
    let_pass(redis, "a", 61)
    fill("a")


def test_of_many_at_once_no_more_than_the_limit_get_through():
    barrier = threading.Barrier(20)

    def attempt(_: int) -> bool:
        barrier.wait()
        try:
            throttling.count(RATE, "a")
        except TooMany:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == RATE[0]


def test_what_one_count_refuses_is_counted_nowhere():
    fill("full")
    with pytest.raises(TooMany):
        throttling.count(RATE, "full", "other")
    fill("other")


@pytest.mark.smoke
def test_what_is_given_back_is_ones_own_and_may_be_done_again():
    first, *_ = fill("a")
    throttling.give_back(first)
    throttling.give_back(first)
    throttling.count(RATE, "a")
    with pytest.raises(TooMany):
        throttling.count(RATE, "a")


def test_a_rate_that_was_lowered_holds_at_once_and_says_when_there_is_room():
    for _ in range(10):
        throttling.count((10, 60), "a")
    with pytest.raises(TooMany) as refused:
        throttling.count((2, 60), "a")
    assert 1 <= refused.value.retry_after_seconds <= 60


def test_a_count_is_gone_when_its_window_is_over(redis):
    throttling.count(RATE, "a")
    assert 0 < redis.ttl(whole_key("a")) <= 60


def test_without_a_rate_redis_is_not_asked(settings):
    settings.CACHES = unreachable(f"redis://127.0.0.1:{free_port()}")
    throttling.give_back(throttling.count(None, "a"))


def test_without_redis_a_count_is_unavailable_and_logged_once(settings, caplog):
    settings.CACHES = unreachable(f"redis://127.0.0.1:{free_port()}")
    for _ in range(3):
        with pytest.raises(Unavailable):
            throttling.count(RATE, "a")
    assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:4711", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_client_is_an_ipv4_address_or_a_network_of_ipv6(address, client):
    assert client_network(address) == client


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/min", (10, 60)),
        ("1/s", (1, 1)),
        ("2/sec", (2, 1)),
        ("2/second", (2, 1)),
        ("3/m", (3, 60)),
        (" 3/Minute ", (3, 60)),
        ("4/h", (4, 3600)),
        ("4/hour", (4, 3600)),
        ("5/d", (5, 86400)),
        ("5/day", (5, 86400)),
        ("off", None),
    ],
)
def test_a_rate_is_a_number_and_a_unit_or_off(text, rate):
    assert parse_rate(text) == rate


def test_no_name_or_address_can_be_read_in_a_key():
    made = [keys.throttle_key("write", "192.0.2.7"), keys.known_clients_key("jane")]
    assert all(re.fullmatch("write:[0-9]{1,5}|known:[0-9a-f]{32}", key) for key in made)
    assert keys.throttle_key("write", "192.0.2.7") != keys.throttle_key("write", "192.0.2.8")


# --- THROTTLE_WRITES ------------------------------------------------------------------------------


@pytest.fixture
def three_a_minute(settings) -> None:
    settings.THROTTLE_WRITES = RATE


def put(client: Client, quantity: int, product, address: str = "192.0.2.1"):
    path = f"/store/basket/{product.pk}/"
    return client.put(path, {"quantity": quantity}, JSON, REMOTE_ADDR=address)


def test_past_the_limit_a_write_is_429_with_retry_after_and_reading_goes_on(
    editor, books, three_a_minute
):
    path = f"/store/products/{books[0].pk}/"
    for price in range(3):
        assert editor.patch(path, {"price": price}, JSON).status_code == 200
    refused = editor.patch(path, {"price": 9}, JSON)
    assert refused.status_code == 429
    assert refused["Content-Type"] == JSON
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert "throttled" in refused.json()["detail"]
    assert [editor.get(path).json()["price"] for _ in range(5)] == [2] * 5


def test_each_user_has_a_count_of_their_own_wherever_they_are(books, three_a_minute):
    one, other = Client(), Client()
    one.force_login(User.objects.create_user("one"))
    other.force_login(User.objects.create_user("other"))
    statuses = [put(one, 1, books[0], f"192.0.2.{number}").status_code for number in range(1, 5)]
    assert statuses == [200, 200, 200, 429]
    assert put(other, 1, books[0]).status_code == 200


def test_who_is_not_signed_in_is_counted_by_address(books, three_a_minute):
    statuses = [put(Client(), 1, books[0]).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert put(Client(), 1, books[0], "192.0.2.2").status_code == 200


def test_a_write_goes_on_without_redis(editor, books, three_a_minute, settings):
    settings.CACHES = unreachable(f"redis://127.0.0.1:{free_port()}")
    path = f"/store/products/{books[0].pk}/"
    assert [editor.patch(path, {"price": 1}, JSON).status_code for _ in range(5)] == [200] * 5


def test_writing_goes_on_while_redis_hangs_and_nobody_waits_for_it_for_long(
    open_store, editor, books
):
    server = start_redis(free_port())
    line = Line(server.port)
    try:
        store = open_store(
            "--workers=1",
            QUEUE_REDIS_URL=f"redis://127.0.0.1:{line.port}/0",
            THROTTLE_WRITES="1000/min",
            SECRET_KEY=settings.SECRET_KEY,
            CACHE_BUDGET_SECONDS="5",
        )
        assert reprice(store, editor, books[0], 1) == 200
        before = complaints(store.log)
        line.go_dead()
        started = time.monotonic()
        assert {reprice(store, editor, books[0], price) for price in range(10)} == {200}
        assert time.monotonic() - started < BOUNDED_SECONDS
        news = complaints(store.log)[len(before) :]
        (said,) = [line for line in news if "throttles" in line]
        assert "Redis, for the throttles, is down" in said
    finally:
        line.close()
        server.kill()
