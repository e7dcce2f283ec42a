"""Count who is shown the past: who reads the list after a write of their own, or because of an event.

A read goes to another worker than the write before it, or after an event to either, while both have
copies. `sends_back` says whether a client does what browsers and the pages' scripts do: it sends back the
cookie of a write, or what an event has as `seen`. The store is to keep connections (`--keep-alive`).
"""

import http.client
import itertools
import json
from collections.abc import Iterator, Mapping
from http.cookies import SimpleCookie

from django.test import Client as SignedIn

from tests.listeners import listening
from tests.processes import Answer, StoreProcess
from tests.visitors import CSRF_TOKEN, cache_milliseconds, cookies

LIST = "/store/cached/"
WORKERS = 2


class Client:
    """A client with a connection to each of the two workers of a store, which it uses in turn."""

    def __init__(self, store: StoreProcess) -> None:
        lines: dict[int, http.client.HTTPConnection] = {}
        while len(lines) < WORKERS:
            line = http.client.HTTPConnection(store.address, store.port, timeout=30)
            line.request("GET", "/healthz")
            line.getresponse().read()
            (worker,) = store.sockets(line.sock.getsockname()[1])
            if worker in lines:
                line.close()
            else:
                lines[worker] = line
        self._lines = list(lines.values())
        self._next = itertools.cycle(self._lines)

    def price(self, product: int, headers: Mapping[str, str]) -> int:
        """Return what the list says that a product costs."""
        return self._read(next(self._next), product, headers)[0]

    def warm(self, product: int, price: int) -> None:
        """Return once both workers have a copy with that price."""
        for line in self._lines:
            while self._read(line, product, {}) != (price, 0.0):
                pass

    def reprice(self, product: int, price: int, editor: SignedIn) -> dict[str, str]:
        """Change a price; return the header that brings back the cookies of the answer."""
        line = next(self._next)
        headers = {**cookies(editor), "X-CSRFToken": CSRF_TOKEN, "Content-Type": "application/json"}
        line.request("PATCH", f"/store/products/{product}/", json.dumps({"price": price}), headers)
        response = line.getresponse()
        said = response.read()
        assert response.status == 200, said
        jar = SimpleCookie("; ".join(response.headers.get_all("Set-Cookie", [])))
        return {"Cookie": "; ".join(f"{name}={one.value}" for name, one in jar.items())}

    def close(self) -> None:
        for line in self._lines:
            line.close()

    def _read(
        self, line: http.client.HTTPConnection, product: int, headers: Mapping[str, str]
    ) -> tuple[int, float]:
        """Return a price, and how many milliseconds Redis took, which a copy does not ask."""
        line.request("GET", LIST, headers=dict(headers))
        response = line.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        price = next(one["price"] for one in answer.json["results"] if one["id"] == product)
        return price, cache_milliseconds(answer)


def old_after_own_writes(
    store: StoreProcess,
    product: int,
    prices: Iterator[int],
    editor: SignedIn,
    *,
    count: int,
    sends_back: bool,
) -> int:
    """Return how many of `count` writes were not in the list that their client read next."""
    client, old = Client(store), 0
    for price in itertools.islice(prices, count):
        brought = client.reprice(product, price, editor)
        old += client.price(product, brought if sends_back else {}) != price
        client.warm(product, price)
    client.close()
    return old


def old_after_events(
    store: StoreProcess, product: int, prices: Iterator[int], *, count: int, sends_back: bool
) -> int:
    """Return how many of `count` events told of what the list that was read then did not have."""
    from store.models import Product

    client, old = Client(store), 0
    with listening(store.port) as (listener,):
        for price in itertools.islice(prices, count):
            one = Product.objects.get(pk=product)
            one.price = price
            one.save()
            heard = listener.next()
            brought = {"X-Store-Seen": heard.data["seen"]} if sends_back else {}
            old += client.price(product, brought) != price
            client.warm(product, price)
    client.close()
    return old
