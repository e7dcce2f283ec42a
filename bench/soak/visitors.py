"""Who uses the store meanwhile: readers, buyers, editors, a clerk who imports and exports."""

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException

from tests.processes import Server
from tests.scale.fleet import Editor
from tests.scale.load import Ask, Visitor, changes, signed_in_headers
from tests.visitors import send

PRODUCTS = 200
IMPORTED = range(1001, 1051)
NEEDS_REDIS = ("/store/basket/", "/store/imports/", "/store/exports/", "/store/jobs/")


def reads(dice: random.Random) -> Iterator[Ask]:
    """Hits mostly; filters that few ask for, products, pages, rankings."""
    while True:
        number = dice.randint(1, PRODUCTS)
        paths = {
            "/store/cached/": 10,
            f"/store/cached/?min_price={dice.randint(0, 300)}&limit=20": 3,
            f"/store/cached/?search=Book+{dice.choice('ABCDEFGH')}": 2,
            f"/store/products/{number}/": 3,
            f"/shop/{number}/": 1,
            "/shop/": 1,
            "/store/products/popular/": 1,
            "/store/?limit=5": 1,
        }
        yield Ask("GET", dice.choices(list(paths), list(paths.values()))[0])


def purchases(dice: random.Random) -> Iterator[Ask]:
    while True:
        path = f"/store/basket/{dice.randint(1, 20)}/"
        yield Ask("PUT", path, json.dumps({"quantity": dice.randint(1, 9)}))
        yield Ask("GET", "/store/basket/")
        yield Ask("DELETE", path, right=(200, 204, 404))  # An outage may have kept it out.


def crowd(server: Server, editor: Editor, seed: int) -> list[Visitor]:
    dice = [random.Random(f"{seed} {number}") for number in range(6)]
    signed_in = signed_in_headers(editor)
    # They keep the cookie by which they are known; what is kept of others is gone after an hour.
    known = {"Cookie": server.get("/store/products/1/").headers["Set-Cookie"].partition(";")[0]}
    return [
        *(Visitor(server, reads(one), known, pause_seconds=0.02) for one in dice[:3]),
        Visitor(server, reads(dice[3]), known, on_one_connection=1, pause_seconds=0.05),
        Visitor(server, purchases(dice[4]), signed_in, pause_seconds=0.1),
        Visitor(server, changes(range(2, 50)), signed_in, pause_seconds=0.2),
    ]


class Clerk:
    """Imports and exports in turn and, at the end, waits for all of it to be done."""

    def __init__(self, server: Server, editor: Editor) -> None:
        self.accepted: list[str] = []
        self._server, self._editor = server, editor
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Clerk":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def unfinished(self, patience_seconds: float) -> list[str]:
        """Wait for what was accepted; return what failed or is not done yet after so long."""
        deadline = time.monotonic() + patience_seconds
        while (left := self._states()) and time.monotonic() < deadline:
            time.sleep(1)
        return left

    def _states(self) -> list[str]:
        found = []
        for path in ("/store/imports/", "/store/exports/"):
            answer = self._server.get(path, signed_in_headers(self._editor))
            if answer.status != 200:
                return [f"{path}: {answer.status}"]
            found += [
                f"{path}{one['id']}/: {one['state']} {one['error'] or ''}"
                for one in answer.json
                if one["state"] != "done"
            ]
        return found

    def _work(self) -> None:
        for number in itertools.count(1):
            if self._ended.wait(5):
                return
            with suppress(OSError, HTTPException):
                if number % 2:
                    sent = send(
                        self._server, self._editor, "POST", "/store/imports/", *_file(number)
                    )
                else:
                    sent = send(
                        self._server,
                        self._editor,
                        "POST",
                        "/store/exports/",
                        "{}",
                        "application/json",
                    )
                if sent == 202:
                    self.accepted.append("import" if number % 2 else "export")


def _file(number: int) -> tuple[str, str]:
    """Return a form with a file of products, and its content type."""
    rows = "".join(f"{one},Imported {one},{number}\r\n" for one in IMPORTED)
    head = 'Content-Disposition: form-data; name="file"; filename="books.csv"'
    body = f"--edge\r\n{head}\r\n\r\nid,name,price\r\n{rows}\r\n--edge--\r\n"
    return body, "multipart/form-data; boundary=edge"
