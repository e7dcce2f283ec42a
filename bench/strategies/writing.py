"""Changes products as it is told on its input, in a Django process of its own as an editor's would be.

Each line is a command with whole numbers; each answer a line of JSON. Times are of the monotonic clock,
which all processes of a machine share.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import django

django.setup()

from django.db import connection  # noqa: E402

from store.models import Product  # noqa: E402

PAUSE_SECONDS = 0.1  # at most, between two writes of a race


def save(product_id: int, price: int) -> float:
    product = Product.objects.get(pk=product_id)
    product.price = price
    product.save()
    return time.monotonic()


def update(product_id: int, price: int) -> float:
    Product.objects.filter(pk=product_id).update(price=price)
    return time.monotonic()


def outside(product_id: int, price: int) -> float:
    """Change a price as another program would: through a connection that Django knows nothing of."""
    raw = connection.get_new_connection(connection.get_connection_params())
    cursor = raw.cursor()
    cursor.execute(f"UPDATE {Product._meta.db_table} SET price = {price} WHERE id = {product_id}")
    raw.commit()
    raw.close()
    return time.monotonic()


def steady(interval_ms: int, duration_ms: int) -> int:
    """Save a product every so often; return how often."""
    (first,) = ids(1)
    started = time.monotonic()
    count = 0
    while (due := count * interval_ms / 1000) < duration_ms / 1000:
        time.sleep(max(0.0, started + due - time.monotonic()))
        save(first, 1000 + count)
        count += 1
    return count


def race(writers: int, duration_ms: int) -> list[tuple[int, int, float]]:
    """Have each writer raise the price of a product of its own again and again.

    Returns (id, price, when it was acknowledged) of every write.
    """
    ends_at = time.monotonic() + duration_ms / 1000

    def write(product_id: int) -> list[tuple[int, int, float]]:
        price, done = 1_000_000, []
        while time.monotonic() < ends_at:
            price += 1
            done.append((product_id, price, save(product_id, price)))
            time.sleep(random.uniform(0, PAUSE_SECONDS))
        connection.close()
        return done

    with ThreadPoolExecutor(writers) as pool:
        return [one for done in pool.map(write, ids(writers)) for one in done]


def ids(count: int) -> list[int]:
    return list(Product.objects.order_by("id").values_list("id", flat=True)[:count])


COMMANDS: dict[str, Callable[..., object]] = {
    "save": save,
    "update": update,
    "outside": outside,
    "steady": steady,
    "race": race,
    "ids": ids,
}


def main() -> None:
    for line in sys.stdin:
        command, *numbers = line.split()
        print(json.dumps(COMMANDS[command](*map(int, numbers))), flush=True)


if __name__ == "__main__":
    main()
