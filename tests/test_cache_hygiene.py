"""What is in Redis is bounded, of one variant each, and never pickled."""

import pickle
import pickletools
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, StringIO
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection
from django.http import QueryDict
from django.test import Client
from redis import Redis

from freshcache import keys
from freshcache.circuit_breaker import Unavailable
from freshcache.entry import GENERATION_CHARACTERS, Entry
from store import catalogue
from store.models import Product
from store.product_query import ProductQuery
from store.regions import products
from store.serializers import ProductQuerySerializer
from tests import depth
from tests.configuration import configure
from tests.servers import PATIENT_BUDGET_SECONDS, free_port, start_redis
from tests.test_http_caching import database_out_of_reach

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

QUERY_STRINGS = 10_000 if depth.IS_FULL else 1_000
MAX_SEARCH = 100
# The longest name of an entry, with room for the number of its slot; the prefix comes on top.
LONGEST_NAME = len("product:slot:0000000:stale")


def keys_of(redis: Redis, project: str) -> list[str]:
    return [key.decode() for key in redis.scan_iter(f"{project}:*", count=1000)]


# --- Bounded keys ---------------------------------------------------------------------------------


def query_string(number: int) -> str:
    """Return one of endless different query strings; all of them are allowed."""
    return (
        f"search=word {number}",
        f"search={quote('ß漢🎁' * 8)}{number}",
        f"search={number:0{MAX_SEARCH}}",
        f"offset={number}",
        f"min_price={number}&max_price={number * 7}",
        f"ordering=-name&limit={number % 1000 + 1}&offset={number}",
        f"search=%{number}&utm_source=mail-{number}",
        f"search=a{number}%3A%2A%0A%7B{number}%7D",
    )[number % 8]


def test_endless_query_strings_leave_a_bounded_number_of_short_keys(redis, settings):
    """What the lists hold does not matter here, so that the database need not be asked for them."""
    configure(settings, MAX_VARIANTS=QUERY_STRINGS // 10)
    for number in range(QUERY_STRINGS):
        query = ProductQuerySerializer.parse(QueryDict(query_string(number))).normalised()
        products.get_or_load(query, lambda: b"[]", ttl=600)
    found = keys_of(redis, settings.PROJECT_NAME)
    assert (
        0.9 * settings.FRESHCACHE["MAX_VARIANTS"]
        < len(found)
        <= settings.FRESHCACHE["MAX_VARIANTS"]
    )
    prefix = len(f"{settings.PROJECT_NAME}:1:")
    assert max(len(key) for key in found) <= prefix + LONGEST_NAME


@pytest.mark.parametrize("max_variants", [10, 11, 50, 999])
def test_the_bound_is_what_the_setting_says(client, books, redis, settings, max_variants):
    configure(settings, MAX_VARIANTS=max_variants)
    client.get("/store/cached/")
    for number in range(80):
        assert client.get(f"/store/cached/?{query_string(number)}").status_code == 201
    assert len(keys_of(redis, settings.PROJECT_NAME)) <= max_variants


def test_all_processes_agree_on_the_slot_of_a_query():
    assert keys.entry_keys("product", '{"limit":1}').entry == "product:slot:117"


def test_unknown_parameters_make_no_keys(client, books, redis, settings):
    for number in range(50):
        client.get(f"/store/cached/?utm_{number}={number}&x={'y' * 3000}&format=json")
    prefix = f"{settings.PROJECT_NAME}"
    assert sorted(keys_of(redis, prefix)) == [
        f"{prefix}:0:product:generation",
        f"{prefix}:1:product",
        f"{prefix}:1:product:stale",
    ]


def test_a_search_too_long_is_400_before_any_cache_access(open_store, books):
    server = start_redis(port := free_port())
    url, patience = f"redis://127.0.0.1:{port}/0", {"CACHE_BUDGET_SECONDS": PATIENT_BUDGET_SECONDS}
    store = open_store(REDIS_URL=url, SECRET_KEY="x" * 50, **patience)
    with Redis(port=port) as own:

        def commands() -> dict[str, int]:
            found = own.info("commandstats")
            return {name: stats["calls"] for name, stats in found.items() if name != "cmdstat_info"}

        before = commands()
        for search in ("x" * (MAX_SEARCH + 1), "x" * 3000, quote("🎁" * (MAX_SEARCH + 1))):
            for path in ("/store/cached/", "/store/", "/store/products/"):
                answer = store.get(f"{path}?search={search}")
                assert (answer.status, list(answer.json)) == (400, ["search"])
        assert commands() == before
        assert store.get(f"/store/cached/?search={'x' * MAX_SEARCH}").status == 201
        assert commands() != before  # So what is counted above would have been seen.
    store.close()
    server.stop()


# --- Variants that share a slot -------------------------------------------------------------------


@pytest.fixture
def one_slot(settings) -> Callable[[ProductQuery], keys.EntryKeys]:
    """All variants but the main one share one slot."""
    configure(settings, MAX_VARIANTS=10)
    return lambda query: keys.entry_keys("product", query.normalised(), 10)


QUERIES = [
    ProductQuery(limit=1),
    ProductQuery(limit=2),
    ProductQuery(ordering="-id"),
    ProductQuery(search="book b"),
    ProductQuery(search="nothing"),
    ProductQuery(min_price=1500),
]


def names_in(query: ProductQuery) -> list[str]:
    listed = catalogue.list_products_cached(query)
    return [product["name"] for product in orjson.loads(listed.fetched.body)]


def expected_names() -> list[list[str]]:
    return [
        [row["name"] for row in orjson.loads(catalogue.list_products(query).fetched.body)]
        for query in QUERIES
    ]


def test_variants_that_share_a_slot_get_their_own_results(books, one_slot):
    assert len({one_slot(query).entry for query in QUERIES}) == 1
    expected = expected_names()
    for _ in range(3):
        assert [names_in(query) for query in QUERIES] == expected
        assert [names_in(query) for query in reversed(QUERIES)] == expected[::-1]


def test_variants_that_share_a_slot_get_their_own_results_at_the_same_time(books, one_slot):
    expected = expected_names()

    def read_many(seed: int) -> list[tuple[int, list[str]]]:
        try:
            picked = [(seed + step * (seed + 1)) % len(QUERIES) for step in range(60)]
            return [(number, names_in(QUERIES[number])) for number in picked]
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as executor:
        for found in executor.map(read_many, range(6)):
            assert found == [(number, expected[number]) for number, _ in found]


def test_a_variant_is_not_bridged_by_another_one_of_its_slot(books, one_slot, redis, settings):
    for query in QUERIES[:2]:
        names_in(query)
    redis.delete(f"{settings.PROJECT_NAME}:1:{one_slot(QUERIES[0]).entry}")
    with database_out_of_reach():
        with pytest.raises(Unavailable):
            names_in(QUERIES[0])
        assert names_in(QUERIES[1]) == ["Book A", "Book B"]  # Its stale copy is there.


# --- No pickle ------------------------------------------------------------------------------------

PROTOCOLS = [bytes([number]) for number in range(2, pickle.HIGHEST_PROTOCOL + 1)]
READERS: dict[bytes, Callable[[Redis, bytes], Any]] = {
    b"string": lambda redis, key: [redis.get(key)],
    b"hash": lambda redis, key: [part for pair in redis.hgetall(key).items() for part in pair],
    b"list": lambda redis, key: redis.lrange(key, 0, -1),
    b"set": lambda redis, key: list(redis.smembers(key)),
    b"zset": lambda redis, key: redis.zrange(key, 0, -1),
    b"stream": lambda redis, key: [
        value for _, fields in redis.xrange(key) for value in fields.values()
    ],
}


def values_of(redis: Redis, project: str) -> dict[str, list[bytes]]:
    """Return every value below the suite's prefix, of whatever type, by its key."""
    return {
        key.decode(): READERS[redis.type(key)](redis, key)
        for key in redis.scan_iter(f"{project}:*")
    }


def parts_of(value: bytes) -> list[bytes]:
    """Return `value` and what could be packed in it: an entry's body, anything compressed."""
    parts = [value, value.partition(b"\n")[2]]
    for part in parts[:]:
        try:
            parts.append(zlib.decompress(part))
        except zlib.error:
            continue
    return parts


def is_pickled(value: bytes) -> bool:
    """Say whether `value` is, or packs, a pickle: one by its first opcode, or opcodes all through."""
    return any(_is_a_pickle(part) for part in parts_of(value) if part)


def _is_a_pickle(value: bytes) -> bool:
    if value[:1] == pickle.PROTO and value[1:2] in PROTOCOLS:
        return True
    stream = BytesIO(value)
    try:
        with warnings.catch_warnings(action="ignore"):  # Of escapes in what is no pickle's string.
            # It checks the stack too; older protocols have no prefix.
            pickletools.dis(stream, StringIO())
    except (ValueError, IndexError):
        return False
    return stream.tell() == len(value)


def exercise_everything(editor: Client) -> None:
    """Use all that writes to Redis: lists, sessions by signing in, the API, the admin, the caches."""
    User.objects.create_superuser("chief", password="secret")
    admin = Client()
    assert (
        admin.post(
            "/admin/login/?next=/admin/", {"username": "chief", "password": "secret"}
        ).status_code
        == 302
    )
    added = admin.post("/admin/store/product/add/", {"name": "new", "price": 5}, follow=True)
    assert "was added successfully" in added.text
    editor.post("/store/products/", {"name": "newer", "price": 5}, "application/json")
    for accept in ("application/json", "text/html"):
        for query in ("", "?limit=1", "?search=book", "?ordering=-price&min_price=1"):
            for client in (editor, admin, Client()):
                client.get(f"/store/cached/{query}", headers={"accept": accept})
    Client().get("/readyz")
    caches["default"].set("counter", 1, 60)
    caches["default"].set("text", {"a": [1, 2.5, None, "é"]}, 60)


@pytest.mark.smoke
def test_nothing_in_redis_is_pickled(editor, books, redis, settings):
    exercise_everything(editor)
    values = values_of(redis, settings.PROJECT_NAME)
    assert sum(":session:" in key for key in values) == 2
    assert sum(":product" in key for key in values) == 2 * 4 + 1
    for key, found in values.items():
        for value in found:
            assert not is_pickled(value), key


def test_everything_in_redis_is_json_or_an_entry(editor, books, redis, settings):
    exercise_everything(editor)
    for key, found in values_of(redis, settings.PROJECT_NAME).items():
        for value in found:
            if key.endswith(":generation"):
                assert len(bytes.fromhex(value.decode())) * 2 == GENERATION_CHARACTERS
            elif ":1:product" in key:
                entry = Entry.decode(value)
                assert entry, key
                assert isinstance(orjson.loads(entry.body), list)
            else:
                orjson.loads(value)


def test_sessions_are_json_that_names_the_user(editor, redis, settings):
    editor.get("/store/basket/")
    found = [
        value
        for key, value in values_of(redis, settings.PROJECT_NAME).items()
        if ":session:" in key
    ]
    assert len(found) == 1
    assert orjson.loads(found[0][0])["_auth_user_id"] == str(User.objects.get().pk)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "thing", [1, "text", {"a": [1]}, None, Product(name="one"), ProductQuery(), b"\x00" * 9]
)
def test_the_scan_finds_pickles(redis, settings, protocol, thing):
    key, pickled = f"{settings.PROJECT_NAME}:1:planted", pickle.dumps(thing, protocol)
    entry = Entry("0" * GENERATION_CHARACTERS, "", 'W/"x"', 0.1, 1000, pickled)
    for value in (
        pickled,
        zlib.compress(pickled),
        entry.encode(),
        entry.encode(compress=True),
    ):
        redis.set(key, value)
        assert is_pickled(values_of(redis, settings.PROJECT_NAME)[key][0])


def test_the_scan_takes_nothing_else_for_a_pickle():
    harmless = [b"", b"1", b"{}", b"[1,2]", b'"text."', b"0.", b"f" * 32, b"null", b"\x80", b"true"]
    assert [value for value in harmless if is_pickled(value)] == []
