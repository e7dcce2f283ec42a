"""Products as CSV: what a file must look like, row by row, and what is wrong with a row.

UTF-8 (a byte order mark is skipped), any line ends, a header with `id` and `name` and, if they are to
be changed, `desc` and `price`. The rules for a product are the API's.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from store.models import MAX_ID, MAX_PRICE, Product

COLUMNS = ("id", "name", "desc", "price")
REQUIRED = ("id", "name")
MAX_LINE_BYTES = 1_000_000
BATCH_ROWS = 1000
BATCH_BYTES = 1_000_000
MAX_NAME_LENGTH = 255
csv.field_size_limit(MAX_LINE_BYTES)  # By default 131,072, less than descriptions may have.


class Malformed(Exception):
    """The file cannot be read on; the message says where and why, for its owner."""


@dataclass
class Batch:
    """Rows that belong together, and where the file goes on after them."""

    products: dict[int, Product] = field(
        default_factory=dict
    )  # Of rows with one id the last counts.
    rejected: list[list[str]] = field(default_factory=list)  # line, reason, the row's own columns
    rows: int = 0
    position: int = 0
    line: int = 0


class Lines:
    """The lines of a file from byte `position` on; `position` moves along."""

    def __init__(self, chunks: Iterable[bytes], position: int = 0) -> None:
        self.position = position
        self._lines = _split(chunks)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.position += len(line)
        # Bytes that are no UTF-8 come through, to be found in their row and given back as they were.
        return line.decode(errors="surrogateescape")


def read_header(lines: Lines) -> list[str]:
    """Return the columns that the first line of a file names; raises Malformed."""
    try:
        first = next(lines, "").removeprefix("\ufeff")
        columns = [name.strip().lower() for name in next(_reader([first]), [])]
    except csv.Error as error:
        raise Malformed(f"Line 1: {error}.") from error
    if unknown := [name for name in columns if name not in COLUMNS]:
        known = ", ".join(COLUMNS)
        raise Malformed(f'Line 1: the column "{printable(unknown[0])}" is none of {known}.')
    if missing := [name for name in REQUIRED if name not in columns]:
        raise Malformed(f'Line 1: the column "{missing[0]}" is missing.')
    if len(set(columns)) < len(columns):
        raise Malformed("Line 1: a column is there twice.")
    return columns


def batches(lines: Lines, columns: list[str], line: int) -> Iterator[Batch]:
    """Yield the rows after line number `line` in batches; raises Malformed.

    A row that is not right is among the rejected; only a file whose rows cannot be told apart, or have
    no end, is Malformed, once the rows before that place have been yielded.
    """
    reader, began_at = _reader(lines), lines.position
    batch, before, read_to = Batch(), 0, began_at
    try:
        for values in reader:
            if values:  # else an empty line
                batch.rows += 1
                try:
                    product = product_of(values, columns)
                    batch.products[product.pk] = product
                except ValueError as error:
                    batch.rejected.append([str(line + before + 1), str(error), *values])
            before, read_to = reader.line_num, lines.position
            if batch.rows >= BATCH_ROWS or lines.position - began_at >= BATCH_BYTES:
                batch.position, batch.line = lines.position, line + before
                yield batch
                batch, began_at = Batch(), lines.position
    except csv.Error as error:
        if batch.rows:
            batch.position, batch.line = read_to, line + before
            yield batch
        raise Malformed(f"Line {line + before + 1}: {error}.") from error
    batch.position, batch.line = lines.position, line + before
    yield batch


def product_of(values: list[str], columns: list[str]) -> Product:
    """Return the product that a row describes; raises ValueError with the reason if it is not right."""
    if len(values) != len(columns):
        raise ValueError(f"it has {len(values)} columns, not {len(columns)}")
    row = dict(zip(columns, values, strict=True))
    for column, value in row.items():
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{column} is not UTF-8")
        if "\0" in value:
            raise ValueError(f"{column} has a null character")
    if not row["name"].strip():
        raise ValueError("name is empty")
    if len(row["name"]) > MAX_NAME_LENGTH:
        raise ValueError(f"name is longer than {MAX_NAME_LENGTH} characters")
    price = row.get("price", "").strip()
    return Product(
        pk=_number("id", row["id"].strip(), 1, MAX_ID),
        name=row["name"],
        description=row.get("desc", ""),
        price=_number("price", price, 0, MAX_PRICE) if price else None,
    )


def write(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")


def printable(text: str) -> str:
    """Return `text` short and with nothing in it that a terminal or JSON would stumble over."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:50])


def _number(column: str, text: str, lowest: int, highest: int) -> int:
    # Plain digits only: int() takes 1_000 and other alphabets' digits as well.
    if not re.fullmatch(r"[0-9]{1,20}", text) or not lowest <= int(text) <= highest:
        raise ValueError(f'{column} "{printable(text)}" is no number from {lowest} to {highest}')
    return int(text)


def _reader(lines: Iterable[str]) -> Any:  # csv does not name the type.
    return csv.reader(lines, strict=True)


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).splitlines(keepends=True)
        rest = lines.pop() if lines else b""  # It may go on, or be the first half of "\r\n".
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            raise csv.Error(f"a line of more than {MAX_LINE_BYTES:,} bytes")
    if rest:
        yield rest
