"""Exports: what is in the file, that an import takes it back, and that they are resumed like imports."""

import csv
import io

import pytest
from redis import Redis

from store import chunks, exports, imports, product_csv, transfers
from store.keys import lock_key
from store.locks import LockLost
from store.models import Product, Transfer
from tests.test_imports import Killed, rows, uploaded

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.engines,
    pytest.mark.contract,
]

EXPORTS = "/store/exports/"


def exported() -> Transfer:
    transfer = transfers.create(Transfer.Kind.EXPORT, Transfer.State.WAITING)
    exports.export_products(transfer, lambda: None)
    return Transfer.objects.get(pk=transfer.pk)


def file_of(transfer: Transfer) -> bytes:
    return b"".join(exports.content(transfer))


def test_an_export_is_done_by_a_worker_and_downloaded_by_staff(client, editor, books, start_worker):
    assert client.post(EXPORTS).status_code == 403
    answer = editor.post(EXPORTS)
    assert answer.status_code == 202
    path = f"{EXPORTS}{answer.json()['id']}/"
    assert editor.get(path).status_code == 409
    assert editor.get(path).json() == {"detail": "The export is waiting."}
    start_worker("--burst").process.wait(timeout=30)
    done = editor.get(answer["Location"]).json()
    assert (done["state"], done["progress"]["rows_total"]) == ("done", 3)
    assert editor.get(EXPORTS).json() == [done]
    download = editor.get(path)
    body = download.getvalue()
    assert download["Content-Length"] == str(len(body)) == str(done["result"]["bytes"])
    assert list(csv.reader(io.StringIO(body.decode())))[:2] == [
        ["id", "name", "desc", "price"],
        [str(books[0].pk), "Book A", "book A description", "1000"],
    ]
    assert client.get(path).status_code == 403
    assert editor.get(f"{EXPORTS}12345/").status_code == 404


def test_an_import_takes_back_what_an_export_wrote(monkeypatch):
    monkeypatch.setattr(exports, "PAGE_ROWS", 2)
    long = "maps " * 100_000
    odd = ['"quoted", with a comma', " spaces ", "lines\r\nand\nlines\r", "Ž🎈", "=1+1"]
    for number, text in enumerate(odd):
        Product.objects.create(name=text.strip(), description=text, price=number or None)
    Product.objects.create(name="long", description=long, price=5)
    before = rows()
    body = file_of(exported())
    Product.objects.update(name="changed", description="", price=7)
    transfer = uploaded(body)
    imports.import_file(transfer, lambda: None)
    assert Transfer.objects.get(pk=transfer.pk).rows_bad == 0
    assert rows() == before


def test_an_empty_store_is_a_file_with_a_header():
    assert file_of(exported()) == b"id,name,desc,price\r\n"


@pytest.mark.parametrize("pages", range(4))
def test_an_export_that_was_killed_goes_on_where_it_was(books, monkeypatch, pages):
    monkeypatch.setattr(exports, "PAGE_ROWS", 1)
    transfer = transfers.create(Transfer.Kind.EXPORT, Transfer.State.WAITING)
    calls = iter(range(pages))

    def kill_after_some() -> None:
        if next(calls, None) is None:
            raise Killed

    try:
        exports.export_products(transfer, kill_after_some)
    except Killed:
        exports.export_products(Transfer.objects.get(pk=transfer.pk), lambda: None)
    assert file_of(Transfer.objects.get(pk=transfer.pk)) == file_of(exported())


def test_a_page_that_fails_leaves_nothing_of_itself(books, monkeypatch):
    transfer = transfers.create(Transfer.Kind.EXPORT, Transfer.State.WAITING)

    def full(*args) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(chunks, "append", full)
        with pytest.raises(OSError, match="full"):
            exports.export_products(transfer, lambda: None)
    assert Transfer.objects.get(pk=transfer.pk).size_bytes == 0


def test_an_export_that_loses_its_lock_stops(books, monkeypatch, queue_server):
    monkeypatch.setattr(exports, "PAGE_ROWS", 1)
    transfer = transfers.create(Transfer.Kind.EXPORT, Transfer.State.WAITING)

    def lose_it(begun, extend) -> None:
        with Redis(port=queue_server.port) as rq:
            exports.export_products(begun, lambda: (extend(), rq.delete(lock_key("export"))))

    with pytest.raises(LockLost):
        transfers.work_on(transfer.pk, lose_it)
    assert Transfer.objects.get(pk=transfer.pk).rows_done == 1


def test_a_file_that_is_not_whole_is_not_given_out():
    transfer = transfers.create(Transfer.Kind.EXPORT, Transfer.State.RUNNING)
    with pytest.raises(exports.NotFinished, match="The export is running"):
        exports.content(transfer)


def test_large_products_are_spread_over_more_pieces(books, monkeypatch):
    whole = file_of(exported())
    monkeypatch.setattr(product_csv, "BATCH_BYTES", 10)
    assert file_of(exported()) == whole


def test_without_redis_no_export_is_kept(editor, queue_server, monkeypatch):
    monkeypatch.setattr("store.queues.check", queue_server.kill)
    assert editor.post(EXPORTS).status_code == 503
    assert not Transfer.objects.exists()
