"""What is announced: one event for each product, one `bulk` for all else, as soon as it is committed."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from redis import Redis

from freshcache.circuit_breaker import Unavailable
from store import event_announcer, events, keys
from store.event_announcer import Announcer, announcer
from store.events import MOST_IN_A_TRANSACTION
from store.models import Product
from tests.configuration import configure
from tests.line import Line
from tests.servers import HANGING_READ_SECONDS, free_port, start_redis
from tests.test_freshness import raw_sql
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

Announced = Callable[[], list[dict]]


@pytest.fixture
def announced(books: list[Product], redis: Redis) -> Announced:
    """Return what has been announced since the books were there, or since it was asked last."""
    redis.delete(keys.events_key())

    def read() -> list[dict]:
        found = [json.loads(fields[b"event"]) for _, fields in redis.xrange(keys.events_key())]
        redis.delete(keys.events_key())
        return found

    return read


def names(found: list[dict]) -> list[str]:
    return [event["event"] for event in found]


# --- One product ----------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_product_that_is_saved_or_deleted_makes_an_event_with_what_it_is(announced):
    product = Product.objects.create(name="new", price=5)
    pk = product.pk
    product.price = None
    product.save()
    product.delete()
    created, updated, deleted = announced()
    tokens = {event.pop("seen") for event in (created, updated, deleted)}
    assert len(tokens) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", token) for token in tokens)
    assert datetime.fromisoformat(created.pop("at")) <= datetime.fromisoformat(updated.pop("at"))
    assert created == {"event": "created", "id": pk, "name": "new", "price": 5}
    assert updated == {"event": "updated", "id": pk, "name": "new", "price": None}
    assert deleted.pop("at").endswith("Z")
    assert deleted == {"event": "deleted", "id": pk, "name": "new", "price": None}


def test_whether_a_product_is_new_is_told_by_what_the_database_did(announced, books):
    Product(pk=books[0].pk, name="the same", date_created=books[0].date_created).save()
    Product(pk=books[0].pk + 1000, name="another").save()
    Product.objects.get_or_create(name="a third")
    Product.objects.update_or_create(pk=books[1].pk, defaults={"price": 7})
    assert names(announced()) == ["updated", "created", "created", "updated"]


def test_a_save_that_writes_nothing_is_no_event(announced, books):
    books[0].save(update_fields=[])
    assert announced() == []


def test_writes_through_the_api_and_the_admin_are_told(announced, editor, books, admin_client):
    created = editor.post("/store/products/", {"name": "new"}, "application/json").json()
    path = f"/store/products/{created['id']}/"
    editor.patch(path, {"price": 6}, "application/json")
    editor.delete(path)
    admin_client.post(f"/admin/store/product/{books[0].pk}/delete/", {"post": "yes"})
    assert names(announced()) == ["created", "updated", "deleted", "deleted"]


@pytest.mark.parametrize("described", [True, False])
def test_what_an_object_does_not_tell_is_not_told(announced, books, described):
    if described:
        product = Product.objects.only("id", "name", "price").get(pk=books[0].pk)
        product.save(update_fields=["price"])
    else:
        product = Product.objects.only("id", "price").get(pk=books[0].pk)
        product.price = F("price") + 1
        product.save(update_fields=["price"])
    assert names(announced()) == ["updated" if described else "bulk"]


# --- Everything else ------------------------------------------------------------------------------


def bulk_update(book: Product) -> None:
    book.price = 77
    Product.objects.bulk_update([book], ["price"])


BULK_WRITES = {
    "QuerySet.update": lambda book: Product.objects.filter(pk=book.pk).update(price=77),
    "QuerySet.delete": lambda book: Product.objects.filter(pk=book.pk).delete(),
    "_raw_delete": lambda book: Product.objects.filter(pk=book.pk)._raw_delete("default"),
    "bulk_create": lambda book: Product.objects.bulk_create([Product(name="new")]),
    "bulk_update": bulk_update,
    "raw SQL": raw_sql,
}
every_bulk_write = pytest.mark.parametrize("write", BULK_WRITES.values(), ids=BULK_WRITES.keys())


@every_bulk_write
def test_a_write_that_knows_no_ids_is_one_bulk_event(announced, books, write):
    write(books[0])
    assert names(announced()) == ["bulk"]


@pytest.mark.smoke
@every_bulk_write
def test_such_writes_of_one_transaction_are_one_bulk_event(announced, books, write):
    with transaction.atomic():
        for book in books:
            write(book)
        assert announced() == []
    assert names(announced()) == ["bulk"]


@every_bulk_write
def test_what_is_rolled_back_is_not_announced(announced, books, write):
    with transaction.atomic():
        write(books[0])
        books[1].save()
        transaction.set_rollback(True)
    with transaction.atomic():
        with transaction.atomic():
            write(books[0])
            books[1].save()
            transaction.set_rollback(True)
        books[2].save()
    assert names(announced()) == ["updated"]


def test_a_bulk_delete_does_not_read_what_it_deletes(announced, books):
    with CaptureQueriesContext(connection) as queries:
        Product.objects.filter(pk=books[0].pk).delete()
    assert not [query["sql"] for query in queries if "SELECT" in query["sql"]]


def test_loading_a_fixture_is_one_bulk_event(announced, tmp_path):
    fixture = tmp_path / "products.json"
    call_command("dumpdata", "store.product", output=str(fixture))
    call_command("loaddata", str(fixture), verbosity=0)
    assert names(announced()) == ["bulk"]


def test_a_transaction_is_announced_in_one_go_its_bulk_event_last(announced, books, redis):
    with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(keys.events_key())
        pubsub.get_message(timeout=5)
        with transaction.atomic():
            Product.objects.update(price=3)
            books[0].save()
            Product.objects.update(price=4)
            books[1].delete()
        assert names(announced()) == ["updated", "deleted", "bulk"]
        rings = [pubsub.get_message(timeout=seconds) for seconds in (5, 0.1)]
    assert rings[0]["data"] == b"3"
    assert rings[1] is None


@pytest.mark.parametrize(("more", "kinds"), [(0, {"updated"}), (1, {"bulk"})])
def test_more_than_a_hundred_products_of_a_transaction_are_one_bulk_event(
    announced, books, more, kinds
):
    with transaction.atomic():
        for _ in range(MOST_IN_A_TRANSACTION + more):
            books[0].save()
    found = names(announced())
    assert set(found) == kinds
    assert len(found) == (1 if more else MOST_IN_A_TRANSACTION)


# --- What fails -----------------------------------------------------------------------------------


def test_a_save_that_fails_hides_no_later_write(announced, books):
    with pytest.raises(ValueError, match="many"):
        Product(name="a book", price="many").save()
    assert announced() == []
    Product.objects.update(price=1)
    assert names(announced()) == ["bulk"]


def test_a_save_that_fails_in_the_database_announces_no_product(announced, books):
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Product(name=None).save()
        books[0].save()
    assert names(announced()) == ["updated"]


def test_what_somebody_else_writes_during_a_save_that_fails_is_announced(announced, books):
    with pytest.raises(RuntimeError), events.of_one(books[0]):
        Product.objects.update(price=1)
        raise RuntimeError
    assert names(announced()) == ["bulk"]


def test_other_tables_are_no_events(announced, books, django_user_model):
    django_user_model.objects.create_user("someone")
    assert announced() == []


@pytest.mark.mysql
def test_what_mysql_commits_by_itself_is_announced(announced, books):
    with pytest.raises(RuntimeError), transaction.atomic():
        Product.objects.update(price=27)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS commits_what_was_open (id INT)")
        raise RuntimeError
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE commits_what_was_open")
    assert names(announced()) == ["bulk"]


# --- The cache comes first ------------------------------------------------------------------------


def commands(redis: Redis, write: Callable[[], object]) -> list[str]:
    """Return the commands that Redis got with our keys while `write()` ran."""
    marker = f"{django_settings.PROJECT_NAME}:the end"
    with redis.monitor() as monitor:
        write()
        redis.exists(marker)
        found = []
        for command in monitor.listen():
            if marker in command["command"]:
                return found
            if django_settings.PROJECT_NAME in command["command"]:
                found.append(command["command"].split()[0].upper())
    raise AssertionError


def in_a_transaction(book: Product) -> None:
    with transaction.atomic():
        book.save()


@pytest.mark.parametrize(
    "write",
    [Product.save, in_a_transaction, BULK_WRITES["QuerySet.update"]],
    ids=["save", "a transaction", "update"],
)
def test_the_cached_lists_are_forgotten_before_the_event_is_out(books, redis, write):
    connection.ensure_connection()
    found = commands(redis, lambda: write(books[0]))
    assert [name for name in found if name in ("DEL", "PUBLISH")] == ["DEL", "PUBLISH"]


def test_who_reads_the_cached_list_because_of_an_event_gets_the_new_one(books, client, redis):
    stop = threading.Event()
    stale: list[tuple[int, int]] = []

    def read_on_each_event() -> None:
        with Redis.from_url(django_settings.REDIS_URL) as other, other.pubsub() as pubsub:
            pubsub.subscribe(keys.events_key())
            ready.set()
            while not stop.is_set():
                message = pubsub.get_message(timeout=0.1)
                if message and message["type"] == "message":
                    (_, fields), *_ = other.xrevrange(keys.events_key(), count=1)
                    told = json.loads(fields[b"event"])["price"]
                    found = client.get("/store/cached/").json()["results"][0]["price"]
                    if found < told:
                        stale.append((told, found))
        connection.close()

    ready = threading.Event()
    reader = threading.Thread(target=read_on_each_event)
    reader.start()
    ready.wait()
    for price in range(2000, 2030):
        books[0].price = price
        books[0].save()
    stop.set()
    reader.join()
    assert stale == []


# --- Redis down -----------------------------------------------------------------------------------


@pytest.fixture
def line(settings) -> Iterator[Line]:
    """The line to a Redis of our own, which events are announced on."""
    configure(settings, READ_SECONDS=HANGING_READ_SECONDS)
    server = start_redis(free_port())
    line = Line(server.port)
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{line.port}/0"
    yield line
    line.mend()
    wait_for(lambda: announcer.settle() or not announcer.owes)
    line.close()
    server.stop()


def stream(line: Line) -> list[str]:
    with Redis(port=line._target) as redis:
        found = redis.xrange(keys.events_key())
    return [json.loads(fields[b"event"])["event"] for _, fields in found]


@pytest.mark.parametrize("fail", [Line.cut, Line.go_dead], ids=["cut", "dead"])
def test_a_write_goes_on_without_redis_and_a_bulk_event_makes_up_for_its_own(
    books, line, fail, settings
):
    books[0].save()
    fail(line)
    for _ in range(100):  # None but the first may wait for Redis.
        books[0].save()
    assert announcer.owes
    line.mend()
    wait_for(lambda: not announcer.owes)
    books[0].save()
    assert {"bulk", "updated"} <= set(stream(line)[1:])


def test_a_redis_that_refuses_is_told_of_once_and_asked_again(books, line, caplog):
    with Redis(port=line._target) as redis:
        redis.set(keys.events_key(), "something else's")
        books[0].save()
        books[0].save()
        assert announcer.owes
        redis.delete(keys.events_key())
    wait_for(lambda: not announcer.owes)
    assert stream(line) == ["bulk"]
    refusals = [record for record in caplog.records if "Redis refuses events" in record.message]
    assert len(refusals) == 1


def test_what_is_announced_while_a_bulk_is_on_its_way_is_owed_as_well(books, redis, monkeypatch):
    announcer, appended = Announcer(), []

    def append(events) -> None:
        appended.append([event["event"] for event in events])
        if appended == [["bulk"]]:  # Clients that read now may miss what comes meanwhile.
            announcer.announce([{"event": "created"}])

    monkeypatch.setattr(event_announcer.event_stream, "append", append)
    monkeypatch.setattr(announcer, "_see_to_it", lambda: None)
    announcer._owe(Unavailable())
    assert not announcer.settle()
    assert announcer.owes
    assert announcer.settle()
    assert appended == [["bulk"], ["bulk"]]


def test_events_are_kept_for_a_day(books, redis):
    redis.persist(keys.events_key())
    books[0].save()
    assert 0 < redis.ttl(keys.events_key()) <= keys.EVENTS_AGE_SECONDS


def test_a_process_that_ends_tries_once_more(line, caplog):
    line.cut()
    ending = Announcer()
    ending.reset_after_fork()
    ending.announce([{"event": "created"}])
    ending._settle_at_exit()
    assert "Ending with an event that nobody was told of." in caplog.text
    line.mend()
    wait_for(ending.settle)
    assert stream(line)[-1] == "bulk"


def test_a_job_that_is_done_waits_for_redis_to_take_what_it_owes(line):
    line.cut()
    ending = Announcer()
    ending.announce([{"event": "created"}])
    assert ending.owes
    threading.Timer(0.5, line.mend).start()
    assert ending.settle_within(60)
    assert stream(line) == ["bulk"]
