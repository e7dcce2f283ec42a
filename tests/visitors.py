"""Those who use a store over HTTP: crowds that come at once, and an editor who is signed in."""

import http.client
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

from django.test import Client

from store.models import Product
from tests.processes import Answer, Server
from tests.waiting import wait_for

CSRF_TOKEN = "x" * 32


def ask_at_once(store: Server, count: int = 16, path: str = "/store/cached/") -> list[Answer]:
    """Return the answers of `count` requests that begin together, enough to reach every worker."""
    barrier = threading.Barrier(count)

    def ask(_: int) -> Answer:
        barrier.wait()
        return store.get(path)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def prices(answer: Answer) -> list[int | None]:
    return [product["price"] for product in answer.json["results"]]


def is_hit(answer: Answer) -> bool:
    return answer.headers["Cache-Status"].startswith("store; hit")


def serve_hits(store: Server, seconds: float = 10) -> None:
    """Return once every worker serves hits, which it has to within `seconds`."""
    wait_for(lambda: all(map(is_hit, ask_at_once(store))), seconds)


def cache_milliseconds(answer: Answer) -> float:
    found = re.match(r"cache;dur=([\d.]+), ", answer.headers["Server-Timing"])
    assert found, answer.headers["Server-Timing"]
    return float(found[1])


def cookies(editor: Client) -> dict[str, str]:
    """Return the header by which a store with the suite's SECRET_KEY knows `editor`."""
    session = editor.cookies["sessionid"].value
    return {"Cookie": f"sessionid={session}; csrftoken={CSRF_TOKEN}"}


def send(
    store: Server, editor: Client, method: str, path: str, body: str, content_type: str
) -> int:
    """Return the status of the answer to a signed-in request."""
    return answer_to(store, editor, method, path, body, content_type).status


def answer_to(
    store: Server, editor: Client, method: str, path: str, body: str, content_type: str
) -> Answer:
    """Return the answer to a signed-in request."""
    connection = http.client.HTTPConnection(store.address, store.port, timeout=30)
    headers = {**cookies(editor), "X-CSRFToken": CSRF_TOKEN, "Content-Type": content_type}
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def press(
    store: Server, path: str, fields: Mapping[str, str] | None = None, **headers: str | None
) -> Answer:
    """Post a form as a page's script does; `headers` come on top, with _ for -; None takes one away."""
    sent: dict[str, str | None] = {
        "Cookie": f"csrftoken={CSRF_TOKEN}; {store.demo_cookie}",
        "X-CSRFToken": CSRF_TOKEN,
        "Accept": "application/json",
        "Content-Type": "application/x-www-form-urlencoded",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connection = http.client.HTTPConnection(store.address, store.port, timeout=30)
    try:
        kept = {name: value for name, value in sent.items() if value is not None}
        connection.request("POST", path, body=urlencode(fields or {}), headers=kept)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def reprice(store: Server, editor: Client, product: Product, price: int) -> int:
    """Change a price through the store's API; return the status of the answer."""
    path = f"/store/products/{product.pk}/"
    return send(store, editor, "PATCH", path, f'{{"price": {price}}}', "application/json")


def complaints(log: Path) -> list[str]:
    """Return what a store logged as worse than usual."""
    worse = re.compile(r"WARNING|ERROR|CRITICAL|Traceback")
    return [line for line in log.read_text().splitlines() if worse.search(line)]
