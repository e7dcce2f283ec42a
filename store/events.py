"""Live events: what has happened to products, announced as soon as it is committed.

One product that is saved or deleted makes an event of its own, `created`, `updated` or `deleted`, with
id, name and price; everything else that writes to the table (`update()`, `bulk_create()`, the `delete()`
of a query, fixtures, raw SQL) makes one `bulk` for each transaction. Both are seen in the SQL that is
sent, as the cache sees them; no signal would tell of the second kind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from freshcache.table_watch import MOST_NOTES, TableWatch
from store.event_announcer import BULK, announcer

if TYPE_CHECKING:
    from store.models import Product

TABLE = "store_product"  # Product's; the model itself needs this module.
# What a statement of a save or a delete makes of its product.
EVENTS = {"INSERT": "created", "UPDATE": "updated", "DELETE": "deleted"}
MOST_IN_A_TRANSACTION = MOST_NOTES - 1  # More than these are one `bulk`.


def watch_writes() -> None:
    """From now on every write to the product table is announced; the cache has to watch first."""
    _writes.install()


def announce_late_write() -> None:
    """Announce that a write has taken effect of which nobody knows what it was."""
    _announce([None])


@contextmanager
def of_one(product: "Product") -> Iterator[None]:
    """Announce what the body writes as an event of this one product."""
    before = _describe(product)  # A product that is deleted has no id afterwards.
    with _writes.apart() as seen:
        yield
    if seen.connection is None:
        return  # Nothing was written: `save(update_fields=[])`.
    event = EVENTS.get(seen.last_word)
    known = before if event == "deleted" else _describe(product)
    _writes.note({"event": event, **known} if event and known else None, seen.connection)


def _describe(product: "Product") -> dict[str, Any] | None:
    """Return what an event says of a product, or None if the object does not tell.

    It need not have all fields (`only()`), and may have `F("price") + 1` for a price.
    """
    found = {name: vars(product).get(name) for name in ("id", "name", "price")}
    told = isinstance(found["id"], int) and isinstance(found["name"], str)
    has_price = "price" in vars(product) and isinstance(found["price"], int | None)
    return found if told and has_price else None


def _announce(notes: list[dict[str, Any] | None]) -> None:
    """Announce a transaction; `notes` has an event for each product, and None for all other writes."""
    events = [note for note in notes if note is not None]
    if len(events) > MOST_IN_A_TRANSACTION:
        events = []
    if len(events) < len(notes):
        events.append({"event": BULK})
    announcer.announce(events)


_writes = TableWatch([TABLE], _announce)
