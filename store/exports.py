"""Exporting all products to a CSV file that an import takes back, page by page, each committed.

A page is as the database was at its moment; what is created or changed meanwhile may be in the file or
not, and each product is there at most once.
"""

import time
from collections.abc import Callable, Iterator

from django.db import transaction

from store import chunks, product_csv, queues, transfers
from store.models import Chunk, Product, Transfer

PAGE_ROWS = 1000
FIELDS = ("id", "name", "description", "price")


class NotFinished(Exception):
    """The file is not there yet, or never will be."""


def request() -> Transfer:
    """Enqueue an export; raises Unavailable with nothing kept."""
    queues.check()
    transfer = transfers.create(
        Transfer.Kind.EXPORT, Transfer.State.WAITING, rows_total=Product.objects.count()
    )
    try:
        transfers.enqueue(transfer)
    except BaseException:
        transfers.delete(transfer)
        raise
    return transfer


def run(transfer_id: int) -> bool:
    """Do the export if it is its turn; return False if it is not yet."""
    return transfers.work_on(transfer_id, export_products)


def export_products(transfer: Transfer, extend: Callable[[], None]) -> None:
    """Export what is not in the file yet."""
    if transfer.size_bytes == 0:
        _commit(transfer, product_csv.write([product_csv.COLUMNS]))
    started = time.monotonic()
    while rows := _page(transfer.position):
        extend()
        body, taken = bytearray(), 0
        for row in rows:
            body += product_csv.write([row])
            taken += 1
            if len(body) >= product_csv.BATCH_BYTES:
                break
        now = time.monotonic()
        _commit(
            transfer,
            bytes(body),
            position=rows[taken - 1][0],
            rows_done=transfer.rows_done + taken,
            seconds=transfer.seconds + now - started,
        )
        started = now
    transfers.finish(transfer, rows_total=transfer.rows_done)


def content(transfer: Transfer) -> Iterator[bytes]:
    """Return the file in pieces; raises NotFinished."""
    if transfer.state != Transfer.State.DONE:
        raise NotFinished(f"The export is {transfer.state}.")
    return chunks.read(transfer, Chunk.Content.PRODUCTS)


def _page(after: int) -> list[tuple[int, str, str, int | None]]:
    products = Product.objects.filter(pk__gt=after).order_by("pk")
    return list(products.values_list(*FIELDS)[:PAGE_ROWS])


def _commit(transfer: Transfer, body: bytes, **changes: float) -> None:
    number = transfer.size_bytes
    with transaction.atomic():
        transfers.advance(transfer, size_bytes=number + len(body), **changes)
        chunks.append(transfer, Chunk.Content.PRODUCTS, number, body)
