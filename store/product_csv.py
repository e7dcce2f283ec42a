"""Products as CSV: what a file must look like, row by row, and what is wrong with a row.

UTF-8 or, with a byte order mark, UTF-16; any line ends; commas, semicolons or tabs; a header with `id`
and `name` and, if they are to be changed, `desc` and `price`. The rules for a product are those of all
doors (product_rules).
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from store.chunks import Readable
from store.models import MAX_ID, MAX_PRICE, Product
from store.product_rules import product_name, whole_number

COLUMNS = ("id", "name", "desc", "price")
REQUIRED = ("id", "name")
MAX_LINE_BYTES = 1_000_000
BATCH_ROWS = 1000
BATCH_BYTES = 1_000_000
DELIMITERS = ",;\t"
MAX_LINES_BEFORE = 10
BEFORE_HEADER = re.compile(r'(?:"?sep=[,;\t]"?|[,;\t" ]*)[\r\n]+', re.IGNORECASE)
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
    """The lines of a file from byte `position` on; `position` moves along, and `number` counts them."""

    def __init__(self, chunks: Iterable[bytes], position: int = 0) -> None:
        self.position, self.number = position, 0
        self._lines = _split(chunks)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.position += len(line)
        self.number += 1
        # Bytes that are no UTF-8 come through, to be found in their row and given back as they were.
        return line.decode(errors="surrogateescape")


class Columns(list[str]):
    """The columns of a file in their order, and what is between them.

    Spreadsheets may add columns without a name, and with nothing in them, at the end.
    """

    def __init__(self, names: Iterable[str], delimiter: str = ",", nameless: int = 0) -> None:
        super().__init__(names)
        self.delimiter = delimiter
        self.nameless = nameless


class Utf8:
    """A file that is read as UTF-8: one in UTF-16, as its mark says, is translated."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._ready = file.read(2)
        utf_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
        encoding = utf_16.get(self._ready)
        self._decoder = None
        if encoding:
            self._ready = b""
            # What is not right is found in its row.
            self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, and fewer only at the end of the file."""
        while len(self._ready) < size and (body := self._file.read(size)):
            if self._decoder:
                body = self._decoder.decode(body).encode(errors="surrogatepass")
            self._ready += body
        found, self._ready = self._ready[:size], self._ready[size:]
        return found


def read_header(lines: Lines) -> Columns:
    """Return the columns that the first line of a file names; raises Malformed.

    Before it there may be a few lines with nothing in them, and Excel's own that names the delimiter.
    """
    try:
        header = next(lines, "").removeprefix("\ufeff")
        while lines.number <= MAX_LINES_BEFORE and BEFORE_HEADER.fullmatch(header):
            header = next(lines, "")
        where = f"Line {lines.number or 1}"
        if "\0" in header:
            raise Malformed(f'{where}: this is not UTF-8. Save the file as "CSV UTF-8".')
        columns = _columns(header)
    except csv.Error as error:
        raise Malformed(f"Line {lines.number or 1}: {error}.") from error
    if unknown := [name for name in columns if name not in COLUMNS]:
        known = ", ".join(COLUMNS)
        raise Malformed(f'{where}: the column "{printable(unknown[0])}" is none of {known}.')
    if missing := [name for name in REQUIRED if name not in columns]:
        raise Malformed(f'{where}: the column "{missing[0]}" is missing.')
    if len(set(columns)) < len(columns):
        raise Malformed(f"{where}: a column is there twice.")
    return columns


def _columns(header: str) -> Columns:
    """Return the columns by the delimiter with which all are known; else by the comma."""
    for delimiter in DELIMITERS:
        with suppress(csv.Error):
            columns = _columns_by(delimiter, header)
            if columns and set(columns) <= set(COLUMNS):
                return columns
    return _columns_by(",", header)


def _columns_by(delimiter: str, header: str) -> Columns:
    names = [name.strip().lower() for name in next(_reader([header], delimiter), [])]
    named = names.copy()
    while named and not named[-1]:
        named.pop()
    return Columns(named, delimiter, nameless=len(names) - len(named))


def batches(lines: Lines, columns: list[str], line: int) -> Iterator[Batch]:
    """Yield the rows after line number `line` in batches; raises Malformed.

    A row that is not right is among the rejected; only a file whose rows cannot be told apart, or have
    no end, is Malformed, once the rows before that place have been yielded.
    """
    columns = columns if isinstance(columns, Columns) else Columns(columns)
    reader, began_at = _reader(lines, columns.delimiter), lines.position
    batch, before, read_to = Batch(), 0, began_at
    try:
        for values in reader:
            if any(map(str.strip, values)):  # else an empty line, or ",,," as spreadsheets write it
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


def product_of(values: list[str], columns: Columns) -> Product:
    """Return the product that a row describes; raises ValueError with the reason if it is not right."""
    beyond = values[len(columns) :]  # Spreadsheets leave some of these out in some rows.
    if len(beyond) <= columns.nameless and not any(map(str.strip, beyond)):
        values = values[: len(columns)]
    if len(values) != len(columns):
        raise ValueError(f"it has {len(values)} columns, not {len(columns)}")
    row = dict(zip(columns, values, strict=True))
    for column, value in row.items():
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{column} is not UTF-8")
        if "\0" in value:
            raise ValueError(f"{column} has a null character")
    name = product_name(row["name"])
    price = row.get("price", "").strip()
    return Product(
        pk=_number("id", row["id"].strip(), 1, MAX_ID),
        name=name,
        description=row.get("desc", ""),
        price=_price(price) if price else None,
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


def _price(text: str) -> int:
    try:
        price = whole_number(text)
    except ValueError:
        price = -1
    if not 0 <= price <= MAX_PRICE:
        raise ValueError(f'price "{printable(text)}" is no number from 0 to {MAX_PRICE}')
    return price


def _reader(lines: Iterable[str], delimiter: str) -> Any:  # csv does not name the type.
    return csv.reader(lines, strict=True, delimiter=delimiter)


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
