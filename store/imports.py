"""Importing products from a CSV file: in batches, by id, each committed with how far it has come.

An import that is begun again goes on after the last committed batch, and a file that is imported again
doubles nothing. Cached lists forget what they hold with each batch, as with any other write.
"""

import time
from collections.abc import Callable, Iterator

from django.db import connection, transaction

from store import chunks, product_csv, queues, transfers
from store.chunks import Readable
from store.models import Chunk, Product, Transfer
from store.product_csv import Batch, Lines, Malformed, Utf8

# So many bad rows are kept, of each so many cells and of each so many characters; past that it is no
# file that was meant to be imported.
MAX_REJECTED = 1000
MAX_CELLS = 8
MAX_CELL_CHARACTERS = 200
FIELDS = {"name": "name", "desc": "description", "price": "price"}


class TooManyBad(Exception):
    """More rows are bad than are kept; the message says so, for the file's owner."""


def receive(file: Readable, *, all_or_nothing: bool = False) -> Transfer:
    """Keep an uploaded file and enqueue its import; raises Unavailable with nothing kept."""
    queues.check()
    transfer = transfers.create(
        Transfer.Kind.IMPORT, Transfer.State.RECEIVING, all_or_nothing=all_or_nothing
    )
    try:
        transfer.size_bytes = chunks.store(transfer, Utf8(file))
        transfer.state = Transfer.State.WAITING
        transfer.save()
        transfers.enqueue(transfer)
    except BaseException:
        transfers.delete(transfer)
        raise
    return transfer


def run(transfer_id: int) -> bool:
    """Do the import if it is its turn; return False if it is not yet."""
    return transfers.work_on(transfer_id, import_file)


def import_file(transfer: Transfer, extend: Callable[[], None]) -> None:
    """Import what is left of the file; a file that cannot be read fails the import."""
    try:
        if transfer.all_or_nothing and not transfer.is_checked:
            _go_through(transfer, extend, store=False)
            if transfer.rows_bad:
                bad, rows = transfer.rows_bad, transfer.rows_done
                transfers.fail(transfer, f"Nothing was imported: {bad} of {rows} rows are bad.")
                return
            transfers.advance(transfer, is_checked=True, position=0, line=0, rows_done=0)
        _go_through(transfer, extend, store=True)
    except (Malformed, TooManyBad) as error:
        rest = (
            "Nothing was imported."
            if not _has_imported(transfer)
            else ("The rows before it have been imported; mend the file and import it again.")
        )
        transfers.fail(transfer, f"{error} {rest}")
    else:
        transfers.finish(transfer, rows_total=transfer.rows_done)


def rejected_rows(transfer: Transfer) -> Iterator[bytes]:
    """Yield the rows that were not imported as CSV: line, reason, then the row as it was."""
    try:
        columns = product_csv.read_header(Lines(chunks.read_stored(transfer, 0)))
    except Malformed:  # No row of it was looked at.
        columns = product_csv.Columns([])
    yield product_csv.write([["line", "reason", *columns]])
    yield from chunks.read(transfer, Chunk.Content.REJECTED)


def _go_through(transfer: Transfer, extend: Callable[[], None], *, store: bool) -> None:
    header = Lines(chunks.read_stored(transfer, 0))
    columns = product_csv.read_header(header)
    if transfer.position == 0:
        transfer.position, transfer.line = header.position, header.number
    lines = Lines(chunks.read_stored(transfer, transfer.position), transfer.position)
    started = time.monotonic()
    for batch in product_csv.batches(lines, columns, transfer.line):
        extend()
        now = time.monotonic()
        _commit(transfer, batch, columns if store else None, now - started)
        if transfer.rows_bad > MAX_REJECTED:
            raise TooManyBad(
                f"Stopped at line {batch.line}: more than {MAX_REJECTED} rows are bad."
            )
        started = now


def _commit(transfer: Transfer, batch: Batch, columns: list[str] | None, seconds: float) -> None:
    began_at, kept = transfer.position, batch.rejected[: max(0, MAX_REJECTED - transfer.rows_bad)]
    with transaction.atomic():
        transfers.advance(
            transfer,
            position=batch.position,
            line=batch.line,
            rows_done=transfer.rows_done + batch.rows,
            rows_bad=transfer.rows_bad + len(batch.rejected),
            seconds=transfer.seconds + seconds,
        )
        if columns and batch.products:
            _upsert(list(batch.products.values()), columns)
        if kept:
            body = product_csv.write(map(_shortened, kept))
            chunks.append(transfer, Chunk.Content.REJECTED, began_at, body)


def _shortened(rejected: list[str]) -> list[str]:
    line, reason, *cells = rejected
    shown = [
        cell if len(cell) <= MAX_CELL_CHARACTERS else f"{cell[:MAX_CELL_CHARACTERS]}..."
        for cell in cells[:MAX_CELLS]
    ]
    return [line, reason, *shown]


def _upsert(products: list[Product], columns: list[str]) -> None:
    """Create what is new; of what is there change the file's columns, and never when it was created."""
    has_target = connection.features.supports_update_conflicts_with_target  # MySQL takes any key.
    Product.objects.bulk_create(
        products,
        update_conflicts=True,
        update_fields=[*(FIELDS[name] for name in columns if name in FIELDS), "date_modified"],
        unique_fields=["id"] if has_target else None,
    )


def _has_imported(transfer: Transfer) -> bool:
    return transfer.rows_done > transfer.rows_bad and (
        not transfer.all_or_nothing or transfer.is_checked
    )
