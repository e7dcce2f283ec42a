"""Files kept in the database in pieces: no volume has to be shared, and no memory holds them whole."""

from collections.abc import Iterator
from itertools import count
from typing import Protocol

from store.models import Chunk, Transfer

# Far below the smallest max_allowed_packet of MySQL, 4 MB on the server and 16 MB on MariaDB's.
CHUNK_BYTES = 256 * 1024


class Readable(Protocol):
    """A file opened for reading bytes."""

    def read(self, size: int, /) -> bytes: ...


def store(transfer: Transfer, file: Readable) -> int:
    """Keep `file` as the products of `transfer`, piece by piece; return its size in bytes."""
    size = 0
    for number in count():
        body = file.read(CHUNK_BYTES)
        if not body:
            return size
        append(transfer, Chunk.Content.PRODUCTS, number, body)
        size += len(body)
    raise AssertionError  # Counting does not end.


def append(transfer: Transfer, content: Chunk.Content, number: int, body: bytes) -> None:
    """Keep a piece; a number can be used once only."""
    Chunk.objects.create(transfer=transfer, content=content, number=number, body=body)


def read(transfer: Transfer, content: Chunk.Content) -> Iterator[bytes]:
    """Yield the pieces in order, each with a query of its own."""
    chunks = Chunk.objects.filter(transfer=transfer, content=content).order_by("number")
    number = -1
    while chunk := chunks.filter(number__gt=number).values_list("number", "body").first():
        number = chunk[0]
        yield bytes(chunk[1])


def read_stored(transfer: Transfer, position: int) -> Iterator[bytes]:
    """Yield what `store()` has kept from byte `position` on."""
    products = Chunk.objects.filter(transfer=transfer, content=Chunk.Content.PRODUCTS)
    first, skipped = divmod(position, CHUNK_BYTES)
    for number in count(first):
        body = products.filter(number=number).values_list("body", flat=True).first()
        if body is None:
            return
        yield bytes(body)[skipped if number == first else 0 :]
