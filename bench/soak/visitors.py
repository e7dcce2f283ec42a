"""Who uses the store meanwhile: readers, buyers, editors, a clerk who imports and exports."""

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator

from tests.processes import Server
from tests.scale.fleet import Editor
from tests.scale.load import Ask, Visitor, changes, signed_in_headers
from tests.visitors import answer_to
from tests.witnesses import PATH, Failure, check_status, noting

PRODUCTS = 200
IMPORTED = range(1001, 1051)
NEEDS_REDIS = ("/store/basket/", "/store/imports/", "/store/exports/", "/store/jobs/")


def reads(dice: random.Random) -> Iterator[Ask]:
    """Hits mostly; filters that few ask for, products, pages, rankings."""
    while True:
        number = dice.randint(1, PRODUCTS)
        asks = {
            Ask("GET", PATH, least=PRODUCTS): 10,
            Ask("GET", f"{PATH}?min_price={dice.randint(0, 300)}&limit=20", least=1): 3,
            Ask("GET", f"{PATH}?search=Book+{dice.choice('ABCDEFGH')}", least=0): 2,
            Ask("GET", f"/store/products/{number}/"): 3,
            Ask("GET", f"/shop/{number}/"): 1,
            Ask("GET", "/shop/"): 1,
            Ask("GET", "/store/products/popular/"): 1,
            Ask("GET", "/store/?limit=5", least=5): 1,
        }
        yield dice.choices(list(asks), list(asks.values()))[0]


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
        self.accepted: list[str] = []  # where to ask how each is getting on
        self.failures: list[Failure] = []
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
        left = dict.fromkeys(self.accepted, "not looked at")
        while left and time.monotonic() < deadline:
            states = {path: self._state(path) for path in left}
            left = {path: state for path, state in states.items() if state != "done"}
            if left:
                time.sleep(1)
        return [f"{path}: {state}" for path, state in left.items()]

    def _state(self, path: str) -> str:
        answer = self._server.get(path, signed_in_headers(self._editor))
        if answer.status != 200:
            return f"status {answer.status}"
        found = answer.json
        return f"{found['state']} {found['error'] or ''}".strip()

    def _work(self) -> None:
        for number in itertools.count(1):
            if self._ended.wait(5):
                return
            if number % 2:
                self._send("/store/imports/", *_file(number))
            else:
                self._send("/store/exports/", "{}", "application/json")

    def _send(self, path: str, body: str, content_type: str) -> None:
        with noting(self.failures, "POST", path):
            answer = answer_to(self._server, self._editor, "POST", path, body, content_type)
            check_status(answer.status, (202,))
            self.accepted.append(answer.headers["Location"])


def _file(number: int) -> tuple[str, str]:
    """Return a form with a file of products, and its content type."""
    rows = "".join(f"{one},Imported {one},{number}\r\n" for one in IMPORTED)
    head = 'Content-Disposition: form-data; name="file"; filename="books.csv"'
    body = f"--edge\r\n{head}\r\n\r\nid,name,price\r\n{rows}\r\n--edge--\r\n"
    return body, "multipart/form-data; boundary=edge"
