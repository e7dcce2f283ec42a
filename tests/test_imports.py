"""What an import takes and refuses, what it does to products, and that it can be resumed anywhere."""

import csv
import io
import tracemalloc
from itertools import islice

import pytest
from django.core.management.color import no_style
from django.db import connection

from store import chunks, imports, product_csv, transfers
from store.models import MAX_ID, MAX_PRICE, Chunk, Product, Transfer
from store.serializers import ProductSerializer
from store.transfers import Superseded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]


def uploaded(text: str | bytes, **fields) -> Transfer:
    body = text if isinstance(text, bytes) else text.encode()
    transfer = transfers.create(Transfer.Kind.IMPORT, Transfer.State.WAITING, **fields)
    transfer.size_bytes = chunks.store(transfer, product_csv.Utf8(io.BytesIO(body)))
    transfer.save()
    return transfer


def imported(text: str | bytes, **fields) -> Transfer:
    transfer = uploaded(text, **fields)
    imports.import_file(transfer, lambda: None)
    transfer.refresh_from_db()
    return transfer


def rejected(transfer: Transfer) -> str:
    return b"".join(imports.rejected_rows(transfer)).decode(errors="surrogateescape")


def reasons(transfer: Transfer) -> list[str]:
    return [row[1] for row in list(csv.reader(io.StringIO(rejected(transfer), newline="")))[1:]]


def rows() -> list[tuple]:
    return list(Product.objects.order_by("id").values_list("id", "name", "description", "price"))


# --- What becomes of good rows --------------------------------------------------------------------


def test_rows_are_created_or_changed_by_their_id(books):
    old, new_id = books[0], books[-1].pk + 10
    transfer = imported(f"id,name,desc,price\n{old.pk},Atlas,maps,5\n{new_id},Bridge,,\n")
    assert transfer.state == "done"
    assert rows()[0] == (old.pk, "Atlas", "maps", 5)
    assert rows()[-1] == (new_id, "Bridge", "", None)
    assert Product.objects.count() == len(books) + 1
    changed = Product.objects.get(pk=old.pk)
    assert changed.date_created == old.date_created
    assert changed.date_modified > old.date_modified


def test_importing_a_file_again_doubles_nothing():
    text = "id,name,price\n" + "".join(f"{number},Book,{number}\n" for number in range(1, 50))
    imported(text)
    before = rows()
    assert imported(text).state == "done"
    assert rows() == before


def test_columns_that_the_file_does_not_have_stay_as_they_are(books):
    imported(f"name,id\nAtlas,{books[0].pk}\n")
    assert rows()[0] == (books[0].pk, "Atlas", books[0].description, books[0].price)


def test_of_rows_with_the_same_id_the_last_counts():
    assert imported("id,name\n1,first\n2,other\n1,last\n").rows_done == 3
    assert rows() == [(1, "last", "", None), (2, "other", "", None)]


def test_the_next_product_that_is_created_gets_an_id_of_its_own():
    imported(f"id,name\n{MAX_ID},highest\n")
    assert Product.objects.create(name="next").pk > MAX_ID
    Product.objects.all().delete()
    sequence = [{"table": Product._meta.db_table, "column": "id"}]
    with connection.cursor() as cursor:  # Other tests go on with small ids.
        for sql in connection.ops.sequence_reset_by_name_sql(no_style(), sequence):
            cursor.execute(sql)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_a_byte_order_mark_quotes_and_empty_lines_are_understood(end):
    lines = ["\ufeffid,name,desc", '1,"A, ""b""","two', 'lines"', "", "2,Ž🎈,x"]
    assert imported(end.join(lines)).rows_bad == 0
    assert rows() == [(1, 'A, "b"', f"two{end}lines", None), (2, "Ž🎈", "x", None)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_where_a_piece_of_the_file_ends_does_not_matter(monkeypatch, size):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", size)
    text = 'id,name,desc\r\n1,"Ž\r\nb",x\r\n2,Ž🎈,"a ""q"""\r\nx,bad,\r\n3,c,'
    transfer = imported(text)
    assert rows() == [(1, "Ž\r\nb", "x", None), (2, "Ž🎈", 'a "q"', None), (3, "c", "", None)]
    assert rejected(transfer).splitlines()[1].startswith("5,")
    assert transfer.position == transfer.size_bytes == len(text.encode())


AS_SAVED = {
    "a column without a name": "id,name,price,\n1,Book,5,\n2,Other,,\n",
    "two of them": "id,name,price,,\n1,Book,5,,\n2,Other,,,\n",
    "two of them, not in each row": "id,name,price,,\n1,Book,5\n2,Other,, \n",
    "the delimiter named ahead": "sep=;\nid;name;price\n1;Book;5\n2;Other;\n",
    "nothing ahead": "\n,,\n ,,\nid,name,price\n1,Book,5\n2,Other,\n",
    "rows of nothing": "id,name,price\n,,\n1,Book,5\n , ,\n2,Other,\n,,\n",
    "semicolons": "id;name;price\n1;Book;5\n2;Other;\n;;\n",
    "tabs": "id\tname\tprice\n1\tBook\t5\n2\tOther\t\n",
    "all in quotes": '"id";"name";"price"\n"1";"Book";"5"\n"2";"Other";""\n',
    "Persian digits": "id,name,price\n1,Book,\u06f5\n2,Other,\n",
}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r"])
@pytest.mark.parametrize("text", AS_SAVED.values(), ids=AS_SAVED)
def test_files_as_spreadsheets_save_them_are_taken(monkeypatch, text, end, encoding):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 7)
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    transfer = imported((mark + text.replace("\n", end)).encode(encoding), all_or_nothing=True)
    assert (transfer.state, transfer.rows_done, transfer.error) == ("done", 2, "")
    assert rows() == [(1, "Book", "", 5), (2, "Other", "", None)]


def test_lines_ahead_of_the_header_count():
    transfer = imported("sep=,\n\nid,name\n1,good\nx,bad\n")
    assert rejected(transfer).splitlines()[1].startswith("5,")
    assert imported("\n\nid,nmae\n").error.startswith('Line 3: the column "nmae"')
    assert imported("\n" * 100 + "id,name\n").error.startswith("Line 11: ")


# --- Bad rows -------------------------------------------------------------------------------------

BAD = {
    "0,x,,": "id",
    "-1,x,,": "id",
    ",x,,": "id",
    "1.0,x,,": "id",
    "1_0,x,,": "id",
    "\u0663,x,,": "id",
    f"{MAX_ID + 1},x,,": "id",
    "1,,,": "name is empty",
    "1,  ,,": "name is empty",
    f"1,{'x' * 256},,": "name is longer than 255 characters",
    "1,a\0b,,": "name has a null character",
    "1,x,a\0b,": "desc has a null character",
    "1,x,,-1": "price",
    f"1,x,,{MAX_PRICE + 1}": "price",
    "1,x,,cheap": "price",
    "1,x,,1.5": "price",
    "1,x,": "it has 3 columns",
    "1,x,,,": "it has 5 columns",
}


@pytest.mark.parametrize(("row", "reason"), BAD.items())
def test_a_bad_row_is_reported_with_its_line_and_reason_and_the_others_are_imported(row, reason):
    transfer = imported(f"id,name,desc,price\n8,before,,\n{row}\n9,after,,\n")
    assert (transfer.state, transfer.rows_done, transfer.rows_bad) == ("done", 3, 1)
    assert [name for _, name, *_ in rows()] == ["before", "after"]
    header, bad = rejected(transfer).split("\r\n")[:2]
    assert header == "line,reason,id,name,desc,price"
    assert bad.split(",")[0] == "3"
    assert reason in bad


@pytest.mark.parametrize("row", [row for row in BAD if row.count(",") == 3 and row[0] == "1"])
def test_what_is_a_bad_row_is_a_bad_product_for_the_api_too(row):
    _, name, desc, price = row.split(",")
    serializer = ProductSerializer(data={"name": name, "desc": desc, "price": price or None})
    assert serializer.is_valid() == row.startswith(("1.0", "1_0"))


def test_what_is_no_utf_8_is_a_bad_row_and_given_back_as_it_was():
    transfer = imported(b"id,name\n1,good\n2,b\xffd\n3,good\n")
    assert (transfer.rows_done, transfer.rows_bad) == (3, 1)
    assert b"".join(imports.rejected_rows(transfer)).endswith(b"3,name is not UTF-8,2,b\xffd\r\n")


def test_as_many_bad_rows_as_may_be_are_kept_of_all_batches(monkeypatch):
    monkeypatch.setattr(product_csv, "BATCH_ROWS", 400)
    transfer = imported("id,name\n" + "x,y\n" * imports.MAX_REJECTED)
    kept = rejected(transfer).splitlines()[1:]
    assert [int(line.split(",")[0]) for line in kept] == list(range(2, imports.MAX_REJECTED + 2))
    assert transfer.state == "done"


@pytest.mark.parametrize("all_or_nothing", [False, True])
def test_after_very_many_bad_rows_an_import_stops_and_says_so(monkeypatch, all_or_nothing):
    monkeypatch.setattr(product_csv, "BATCH_ROWS", 400)
    text = "id,name\n1,good\n" + "x,y\n" * 5000 + "2,good\n"
    transfer = imported(text, all_or_nothing=all_or_nothing)
    assert transfer.state == "failed"
    assert transfer.error.startswith("Stopped at line 1201: more than 1000 rows are bad. ")
    assert transfer.error.endswith("Nothing was imported.") == all_or_nothing
    assert len(rejected(transfer).splitlines()) == 1 + imports.MAX_REJECTED
    assert len(rows()) == (0 if all_or_nothing else 1)


@pytest.mark.parametrize("row", ["x," + "y" * 50_000, "x" * 90_000 + ",y", "x" + ",y" * 40_000])
def test_of_a_bad_row_a_bounded_part_is_kept(row):
    transfer = imported(f"id,name\n{row}\n")
    assert transfer.rows_bad == 1
    assert len(rejected(transfer)) < 2000


# --- Files that cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'Line 1: the column "id" is missing. Nothing was imported.'),
        ("name\nx\n", 'Line 1: the column "id" is missing. Nothing was imported.'),
        ("id,name,colour\n", 'Line 1: the column "colour" is none of id, name, desc, price. '),
        ("id,name,id\n", "Line 1: a column is there twice. "),
        ('id,"name\n1,x\n', "Line 1: unexpected end of data. Nothing was imported."),
        ("x" * 1_400_000, "Line 1: a line of more than 1,000,000 bytes. Nothing was imported."),
        (
            b"i\0d\0",
            'Line 1: this is not UTF-8. Save the file as "CSV UTF-8". Nothing was imported.',
        ),
        ("id name\n1 x\n", 'Line 1: the column "id name" is none of '),
        (b"id,\x1b[31m\n", 'Line 1: the column "?[31m" is none of '),
        ('id,name\n1,"never closed\n2,x\n', "Line 2: unexpected end of data. "),
        ('id,name\n1,"a"b\n', "Line 2: ',' expected after '\"'. Nothing was imported."),
        ("id,name\n1," + "x" * 1_400_000, "Line 2: a line of more than 1,000,000 bytes. "),
        ('id,name\n1,"' + "x\n" * 600_000, "Line 2: field larger than field limit (1000000). "),
    ],
)
def test_a_file_whose_rows_cannot_be_told_fails_with_a_sentence(text, error):
    transfer = imported(text)
    assert transfer.state == "failed"
    assert transfer.error.startswith(error)
    assert rows() == []
    assert rejected(transfer).startswith("line,reason")


@pytest.mark.parametrize("batch_rows", [2, 1000])
def test_the_rows_before_the_place_that_cannot_be_read_have_been_imported(monkeypatch, batch_rows):
    monkeypatch.setattr(product_csv, "BATCH_ROWS", batch_rows)
    transfer = imported('id,name\n1,a\n2,b\nx,bad\n3,c\n\n4,"d\n5,e\n')
    assert transfer.error.startswith("Line 7: unexpected end of data. The rows before it have been")
    assert [name for _, name, *_ in rows()] == ["a", "b", "c"]
    assert rejected(transfer).splitlines()[1].startswith("4,")
    assert (transfer.rows_done, transfer.rows_bad) == (4, 1)


# --- All or nothing -------------------------------------------------------------------------------


def test_all_or_nothing_imports_nothing_if_one_row_is_bad(books):
    before = rows()
    text = "id,name\n" + "".join(f"{number},new\n" for number in range(1, 2500)) + "x,bad\n"
    transfer = imported(text, all_or_nothing=True)
    assert transfer.error == "Nothing was imported: 1 of 2500 rows are bad."
    assert rejected(transfer).splitlines()[1].startswith("2501,")
    assert rows() == before


def test_all_or_nothing_imports_everything_if_no_row_is_bad(monkeypatch):
    monkeypatch.setattr(product_csv, "BATCH_ROWS", 2)
    transfer = imported("id,name\n1,a\n2,b\n3,c\n", all_or_nothing=True)
    assert (transfer.state, transfer.rows_done, transfer.rows_total) == ("done", 3, 3)
    assert len(rows()) == 3


def test_all_or_nothing_imports_nothing_of_a_file_that_cannot_be_read(monkeypatch):
    monkeypatch.setattr(product_csv, "BATCH_ROWS", 2)
    transfer = imported('id,name\n1,a\n2,b\n3,c\n4,"d', all_or_nothing=True)
    assert transfer.error.endswith("unexpected end of data. Nothing was imported.")
    assert rows() == []


# --- Resuming and fencing -------------------------------------------------------------------------


class Killed(BaseException):
    """What ends a worker in the middle of it."""


@pytest.mark.parametrize("all_or_nothing", [False, True])
@pytest.mark.parametrize("batches", range(1, 7))
def test_an_import_that_was_killed_goes_on_after_the_last_committed_batch(
    monkeypatch, batches, all_or_nothing
):
    monkeypatch.setattr(product_csv, "BATCH_ROWS", 2)
    bad = "" if all_or_nothing else 'x,"b\nad"\n'
    transfer = uploaded(
        f'id,name\n1,a\n2,"b\nc"\n3,c\n{bad}4,d\n5,e\n6,f\n', all_or_nothing=all_or_nothing
    )
    calls = iter(range(batches))

    def kill_after_some() -> None:
        if next(calls, None) is None:
            raise Killed

    try:
        imports.import_file(transfer, kill_after_some)
    except Killed:
        done = Transfer.objects.get(pk=transfer.pk).rows_done
        assert Product.objects.count() <= done
        imports.import_file(Transfer.objects.get(pk=transfer.pk), lambda: None)
    finished = Transfer.objects.get(pk=transfer.pk)
    assert finished.state == "done"
    assert finished.rows_done == (6 if all_or_nothing else 7)
    assert [number for number, *_ in rows()] == [1, 2, 3, 4, 5, 6]
    assert len(reasons(finished)) == (0 if all_or_nothing else 1)


def test_a_batch_that_fails_leaves_nothing_of_itself(monkeypatch):
    monkeypatch.setattr(product_csv, "BATCH_ROWS", 2)
    transfer = uploaded("id,name\n1,a\n2,b\nx,bad\n")

    def full(*args) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(chunks, "append", full)
    with pytest.raises(OSError, match="full"):
        imports.import_file(transfer, lambda: None)
    kept = Transfer.objects.get(pk=transfer.pk)
    assert (kept.rows_done, kept.rows_bad, Product.objects.count()) == (2, 0, 2)


def test_who_has_been_superseded_writes_nothing_any_more(monkeypatch):
    monkeypatch.setattr(product_csv, "BATCH_ROWS", 1)
    transfer = uploaded("id,name\n1,a\n2,b\n")

    def another_begins_before_the_second() -> None:
        if Product.objects.exists():
            Transfer.objects.filter(pk=transfer.pk).update(attempt=7)

    with pytest.raises(Superseded, match="attempt 0 is not the latest any more"):
        imports.import_file(transfer, another_begins_before_the_second)
    assert [name for _, name, *_ in rows()] == ["a"]
    assert Transfer.objects.get(pk=transfer.pk).rows_done == 1


def test_what_has_ended_is_not_written_to_any_more():
    transfer = imported("id,name\n1,a\n")
    with pytest.raises(Superseded):
        transfers.fail(transfer, "too late")
    assert Transfer.objects.get(pk=transfer.pk).state == "done"


def test_an_import_takes_no_more_memory_for_more_rows(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(product_csv, "BATCH_ROWS", 200)

    def peak_bytes(count: int) -> int:
        transfer = uploaded("id,name\n" + "".join(f"{number},x\n" for number in range(1, count)))
        tracemalloc.start()
        imports.import_file(transfer, lambda: None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(10)
    assert peak_bytes(8_000) < 2 * peak_bytes(1_000)


def test_a_batch_is_bounded_in_bytes_too():
    lines = product_csv.Lines([b"1," + b"x" * 100_000 + b"\n"] * 100)
    sizes = [batch.rows for batch in islice(product_csv.batches(lines, ["id", "name"], 1), 3)]
    assert max(sizes) <= product_csv.BATCH_BYTES / 100_000 + 1


def test_old_transfers_and_their_files_are_deleted_and_others_are_not(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    old, new, running = (imported("id,name\n1,a\n") for _ in range(3))
    Transfer.objects.exclude(pk=new.pk).update(touched_at=old.touched_at - 2 * transfers.KEPT)
    Transfer.objects.filter(pk=running.pk).update(state="running")
    assert transfers.delete_old() == 1
    assert set(Transfer.objects.values_list("pk", flat=True)) == {new.pk, running.pk}
    assert not Chunk.objects.filter(transfer_id=old.pk).exists()
