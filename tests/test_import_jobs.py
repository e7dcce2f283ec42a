"""Imports as their users and operators see them: uploaded, watched, killed, resumed, one at a time."""

import csv
import io
import os
import re
import socket
import threading
from datetime import timedelta

import psutil
import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from redis import Redis

from store import imports, keys, locks, product_csv, queues, transfers
from store.catalogue import list_products_cached
from store.connections import queue_breaker
from store.models import Chunk, Product, Transfer
from store.product_query import ProductQuery
from store.transfers import Superseded
from tests.processes import WorkerProcess
from tests.relay import Relay
from tests.servers import start_redis
from tests.test_imports import imported, uploaded
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

IMPORTS = "/store/imports/"
BATCHES_BEFORE = 3
ROWS = 8_000
GOOD = "id,name,price\n1,Atlas,5\n2,Bridge,6\n"


@pytest.fixture
def rq(queue_server):
    with Redis(port=queue_server.port) as client:
        yield client


class HeldUp:
    """Workers whose imports stop, after some batches, at what they say to Redis about their lock."""

    def __init__(self, start_worker, port: int) -> None:
        self._start = start_worker
        self._workers: list[WorkerProcess] = []
        self._go_on, self._reached = threading.Event(), threading.Event()
        self._relay = Relay(port, b":lock:import", self._hold)

    def _hold(self, number: int) -> None:
        if number == 1 + BATCHES_BEFORE:  # The first is about beginning.
            self._reached.set()
            self._go_on.wait(60)

    def start_worker(self):
        url = f"redis://127.0.0.1:{self._relay.port}/0"
        self._workers.append(self._start(QUEUE_REDIS_URL=url, CACHE_BUDGET_SECONDS="150"))
        return self._workers[-1]

    def wait(self) -> None:
        assert self._reached.wait(30)

    def go_on(self) -> None:
        self._go_on.set()

    def close(self) -> None:
        self.go_on()
        for worker in self._workers:
            worker.close()
        self._relay.close()


@pytest.fixture
def held_up(start_worker, queue_server):
    held = HeldUp(start_worker, queue_server.port)
    yield held
    held.close()


def upload(client: Client, text: str = GOOD, **fields):
    file = SimpleUploadedFile("products.csv", text.encode(), "text/csv")
    return client.post(IMPORTS, {"file": file, **fields})


def many(count: int, name: str = "Book") -> str:
    return "id,name,price\n" + "".join(f"{n},{name},{n}\n" for n in range(1, count + 1))


def enqueued(text: str) -> Transfer:
    transfer = uploaded(text)
    transfers.enqueue(transfer)
    return transfer


def current(transfer: Transfer) -> Transfer:
    return Transfer.objects.get(pk=transfer.pk)


def is_done(transfer: Transfer) -> bool:
    now = current(transfer)
    assert now.state != "failed", now.error
    return now.state == "done"


def horse_of(worker) -> psutil.Process:
    """The process that does the job; beside it there is the scheduler."""
    children = psutil.Process(worker.process.pid).children()
    (horse,) = [child for child in children if os.getpgid(child.pid) == child.pid]
    return horse


def stall(transfer: Transfer) -> None:
    """Let the time pass after which nobody works on it, as it shows no sign of life."""
    long_ago = timezone.now() - transfers.STALLED - timedelta(seconds=1)
    Transfer.objects.filter(pk=transfer.pk).update(touched_at=long_ago)


def end_lease(rq: Redis) -> None:
    """Let the time pass for which a holder of the lock that was killed goes on holding it."""
    rq.delete(keys.lock_key("import"))


def retry_now(rq: Redis) -> None:
    """Let the time pass for which a job that failed, or whose turn it was not, is left alone."""
    for job_id in rq.zrange("rq:scheduled:default", 0, -1):
        rq.zadd("rq:scheduled:default", {job_id: 1})


# --- Over HTTP ------------------------------------------------------------------------------------


def test_an_upload_is_accepted_imported_by_a_worker_and_can_be_watched(
    editor, start_worker, queue_server
):
    answer = upload(editor, GOOD + "x,bad,\n")
    assert answer.status_code == 202
    job = answer.json()["job"]
    assert answer["Location"] == job == f"/store/jobs/import-{answer.json()['id']}/"
    waiting = editor.get(job).json()
    assert (waiting["state"], waiting["result"], waiting["error"]) == ("waiting", None, None)
    assert waiting["progress"]["bytes_total"] == len(GOOD + "x,bad,\n")

    start_worker("--burst").process.wait(timeout=30)

    done = editor.get(job).json()
    assert (done["state"], done["result"]) == ("done", {"imported": 2, "rejected": 1})
    assert done["progress"]["rows_done"] == done["progress"]["rows_total"] == 3
    assert done["progress"]["rows_per_second"] > 0
    assert editor.get(IMPORTS).json() == [done]
    rejected = editor.get(f"{IMPORTS}{answer.json()['id']}/rejected/")
    assert rejected["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(rejected.getvalue().decode())))
    assert rows[0] == ["line", "reason", "id", "name", "price"]
    assert (rows[1][0], rows[1][2:]) == ("4", ["x", "bad", ""])
    assert Product.objects.count() == 2


def test_a_failed_import_says_why_in_a_sentence(editor):
    transfer = imported("id,name\nx,bad\n", all_or_nothing=True)
    status = editor.get(f"/store/jobs/import-{transfer.pk}/").json()
    assert status["state"] == "failed"
    assert status["error"] == "Nothing was imported: 1 of 1 rows are bad."


def test_how_much_is_left_is_told_while_it_runs(editor):
    transfer = uploaded(many(10))
    Transfer.objects.filter(pk=transfer.pk).update(
        state="running", position=transfer.size_bytes // 4, rows_done=2, seconds=4.0
    )
    progress = editor.get(f"/store/jobs/import-{transfer.pk}/").json()["progress"]
    assert (progress["rows_done"], progress["rows_per_second"]) == (2, 0.5)
    assert 11 < progress["seconds_left"] < 14
    Transfer.objects.filter(pk=transfer.pk).update(all_or_nothing=True)  # It is gone through twice.
    progress = editor.get(f"/store/jobs/import-{transfer.pk}/").json()["progress"]
    assert 25 < progress["seconds_left"] < 30


def test_only_staff_who_may_add_and_change_products_import(client, editor, queue_server):
    staff = Client()
    staff.force_login(User.objects.create_user("staff", is_staff=True))
    customer = Client()
    customer.force_login(User.objects.create_user("customer"))
    transfer = uploaded(GOOD)
    for path in (
        IMPORTS,
        f"{IMPORTS}{transfer.pk}/rejected/",
        f"/store/jobs/import-{transfer.pk}/",
    ):
        assert [one.get(path).status_code for one in (client, customer, staff)] == [403, 403, 200]
    assert [upload(one).status_code for one in (client, customer, staff)] == [403, 403, 403]
    without_token = Client(enforce_csrf_checks=True)
    without_token.cookies = editor.cookies
    assert upload(without_token).status_code == 403
    assert Transfer.objects.count() == 1


def test_what_is_no_upload_is_refused(editor, queue_server):
    assert editor.post(IMPORTS, {}).json() == {"file": ["No file was submitted."]}
    assert upload(editor, "").json() == {"file": ["The submitted file is empty."]}
    assert upload(editor, all_or_nothing="perhaps").status_code == 400
    assert editor.post(IMPORTS, {"file": GOOD}, "application/json").status_code == 415
    assert editor.get(f"{IMPORTS}7/rejected/").status_code == 404


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(open_store):
    store = open_store("--workers", "1", IMPORT_MAX_BYTES="1000000")
    with socket.create_connection(("127.0.0.1", store.port), timeout=30) as client:
        head = f"POST {IMPORTS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n"
        client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_without_redis_an_upload_is_a_503_and_nothing_of_it_is_kept(editor, queue_server):
    queue_server.kill()
    answer = upload(editor)
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert not Transfer.objects.exists()


def test_an_upload_that_cannot_be_enqueued_is_gone_again(editor, queue_server, monkeypatch):
    monkeypatch.setattr(queues, "check", queue_server.kill)  # It goes down just after.
    assert upload(editor).status_code == 503
    assert not Transfer.objects.exists()
    assert not Chunk.objects.exists()


# --- The status of jobs ---------------------------------------------------------------------------


def test_jobs_of_all_kinds_have_a_status_and_unknown_ones_are_a_404(editor, start_worker):
    queues.enqueue("store.jobs.repair_cached_lists", job_id="good")
    queues.enqueue("store.jobs.run_import", "no number", job_id="bad")
    assert editor.get("/store/jobs/good/").json()["state"] == "waiting"
    queues.find("bad").save()
    start_worker("--burst").process.wait(timeout=30)
    good = editor.get("/store/jobs/good/").json()
    assert (good["state"], good["result"]) == ("done", {"checked": 0, "repaired": 0})
    assert editor.get("/store/jobs/bad/").json()["state"] == "waiting"  # It will be tried again.
    job = queues.find("bad")
    job.set_status("failed")
    failed = editor.get("/store/jobs/bad/").json()
    assert failed["error"] == "The job failed; the worker's log says why."
    for unknown in ("import-0", "export-12", "nothing", "a:b", "%10%F3\u00ed", "x" * 200):
        assert editor.get(f"/store/jobs/{unknown}/").status_code == 404, unknown


def test_without_redis_imports_still_have_a_status_and_other_jobs_are_a_503(editor, queue_server):
    transfer = imported(GOOD)
    queue_server.kill()
    assert editor.get(f"/store/jobs/import-{transfer.pk}/").json()["state"] == "done"
    assert editor.get("/store/jobs/other/").status_code == 503


# --- Killed, stopped, lost ------------------------------------------------------------------------


def test_an_import_whose_process_is_killed_is_resumed(held_up, rq):
    transfer = enqueued(many(ROWS))
    worker = held_up.start_worker()
    held_up.wait()
    assert 0 < current(transfer).rows_done < ROWS
    horse_of(worker).kill()
    held_up.go_on()
    wait_for(lambda: rq.zcard("rq:scheduled:default"))
    end_lease(rq)
    retry_now(rq)
    wait_for(lambda: is_done(transfer), seconds=60)
    assert current(transfer).attempt == 2
    assert current(transfer).rows_done == Product.objects.count() == ROWS


def test_an_import_whose_worker_is_killed_with_everything_is_resumed_by_another(
    held_up, start_worker, rq
):
    transfer = enqueued(many(ROWS))
    worker = held_up.start_worker()
    held_up.wait()
    for process in psutil.Process(worker.process.pid).children(recursive=True):
        process.kill()
    worker.process.kill()
    worker.process.wait(timeout=30)
    assert transfers.resume_stalled() == 0  # It has shown a sign of life not long ago.
    stall(transfer)
    assert transfers.resume_stalled() == 1
    assert transfers.resume_stalled() == 0
    end_lease(rq)
    start_worker()
    wait_for(lambda: is_done(transfer), seconds=60)
    assert Product.objects.count() == ROWS


def test_a_worker_that_is_asked_to_stop_stops_at_once_and_the_import_goes_on(
    held_up, start_worker, rq
):
    transfer = enqueued(many(ROWS))
    worker = held_up.start_worker()
    held_up.wait()
    worker.process.terminate()
    wait_for(lambda: rq.zcard("rq:scheduled:default"))
    held_up.go_on()
    assert worker.close() == 0, worker.log.read_text()
    assert 0 < current(transfer).rows_done < ROWS
    end_lease(rq)
    retry_now(rq)
    start_worker()
    wait_for(lambda: is_done(transfer), seconds=60)
    assert Product.objects.count() == ROWS


def test_an_import_outlives_a_redis_that_loses_everything(held_up, queue_server):
    transfer = enqueued(many(ROWS))
    worker = held_up.start_worker()
    held_up.wait()
    queue_server.kill()
    held_up.go_on()
    wait_for(lambda: "begins anew" in worker.log.read_text())
    assert re.search(r"begins anew: \w+Error: .*127.0.0.1:\d+", worker.log.read_text())
    anew = start_redis(queue_server.port)
    try:
        stall(transfer)
        queue_breaker.reset()
        assert transfers.resume_stalled() == 1
        wait_for(lambda: is_done(transfer), seconds=60)
        assert worker.process.poll() is None
    finally:
        worker.close()
        anew.kill()


def test_what_comes_no_further_is_given_up_and_says_so(editor, queue_server):
    transfer = uploaded(GOOD)

    def fails(transfer, extend) -> None:
        raise OSError("no disk")

    for _ in range(transfers.MAX_FRUITLESS_ATTEMPTS):
        with pytest.raises(OSError, match="no disk"):
            transfers.work_on(transfer.pk, fails)
    assert imports.run(transfer.pk)
    status = editor.get(f"/store/jobs/import-{transfer.pk}/").json()
    assert status["state"] == "failed"
    assert status["error"] == "Given up after 4 attempts that came no further."


def test_what_comes_further_is_not_given_up(queue_server):
    transfer = uploaded(GOOD)

    def comes_further(begun, extend) -> None:
        transfers.advance(begun, line=begun.line + 1)
        raise OSError("no disk")

    for _ in range(transfers.MAX_FRUITLESS_ATTEMPTS + 1):
        with pytest.raises(OSError, match="no disk"):
            transfers.work_on(transfer.pk, comes_further)
    assert imports.run(transfer.pk)
    assert is_done(transfer)


def test_only_what_nobody_works_on_is_resumed(queue_server, rq):
    transfer = enqueued(GOOD)
    stall(transfer)
    assert transfers.resume_stalled() == 0  # Its turn comes.
    rq.flushall()
    transfers._touch(transfer)
    assert transfers.resume_stalled() == 0  # Somebody works on it.
    stall(transfer)
    assert transfers.resume_stalled() == 1


# --- One at a time --------------------------------------------------------------------------------


def test_two_workers_do_two_imports_one_after_the_other_in_their_order(held_up, rq):
    first, second = enqueued(many(ROWS, "first")), enqueued(many(ROWS // 2, "second"))
    for _ in range(2):
        held_up.start_worker()
    held_up.wait()
    wait_for(lambda: rq.zcard("rq:scheduled:default"))
    assert current(first).state == "running"
    assert (current(second).state, current(second).rows_done) == ("waiting", 0)
    held_up.go_on()
    wait_for(lambda: is_done(first))
    wait_for(lambda: retry_now(rq) or is_done(second), seconds=60)
    names = Product.objects.order_by("id").values_list("name", flat=True)
    assert list(names) == ROWS // 2 * ["second"] + ROWS // 2 * ["first"]


def test_an_import_waits_for_the_one_before_it_and_for_no_export(queue_server):
    transfers.create(Transfer.Kind.EXPORT, Transfer.State.WAITING)
    first, second = uploaded(GOOD), uploaded(GOOD)
    assert not imports.run(second.pk)
    assert current(second).state == "waiting"
    assert imports.run(first.pk)
    assert imports.run(second.pk)
    assert is_done(second)


def test_an_attempt_is_fenced_by_the_next_one(rq):
    transfer = uploaded(GOOD)

    def takes_longer_than_its_lease(begun, extend) -> None:
        end_lease(rq)
        assert transfers.work_on(
            transfer.pk, lambda *_: None
        )  # Another goes on, and comes no further.
        imports.import_file(begun, lambda: None)

    with pytest.raises(Superseded):
        transfers.work_on(transfer.pk, takes_longer_than_its_lease)
    assert not Product.objects.exists()


def test_what_ends_while_its_turn_comes_is_not_begun(queue_server, monkeypatch):
    transfer = uploaded(GOOD)

    def ends_meanwhile(_: Transfer) -> bool:
        Transfer.objects.filter(pk=transfer.pk).update(state="done")
        return False

    monkeypatch.setattr(transfers, "_has_predecessor", ends_meanwhile)
    assert imports.run(transfer.pk)
    assert not Product.objects.exists()


def test_while_another_holds_the_lock_an_import_waits_and_shows_a_sign_of_life(queue_server):
    transfer = uploaded(GOOD)
    Transfer.objects.filter(pk=transfer.pk).update(touched_at=timezone.now() - timedelta(hours=1))
    with locks.hold("import", lease_seconds=60):
        assert not imports.run(transfer.pk)
    assert timezone.now() - current(transfer).touched_at < timedelta(minutes=1)
    assert current(transfer).state == "waiting"
    assert imports.run(transfer.pk)
    assert imports.run(transfer.pk)  # Once more does no harm.
    assert is_done(transfer)


def test_an_import_that_loses_its_lock_stops(rq):
    transfer = uploaded(many(5_000))

    def lose_it(begun, extend) -> None:
        imports.import_file(begun, lambda: (extend(), rq.delete(keys.lock_key("import"))))

    with pytest.raises(locks.LockLost):
        transfers.work_on(transfer.pk, lose_it)
    assert current(transfer).rows_done == product_csv.BATCH_ROWS


# --- The cache ------------------------------------------------------------------------------------


def test_readers_of_the_cached_list_keep_up_with_the_batches(start_worker, rq):
    lines = 60_000
    text = "id,name,price\n" + "".join(f"1,Book,{line}\n" for line in range(1, lines + 1))
    transfer = enqueued(text)
    start_worker()
    reads = 0
    while not is_done(transfer):
        # A batch is seen in the database just before its invalidation; the ones before it are past.
        known = current(transfer).rows_done - product_csv.BATCH_ROWS
        body = list_products_cached(ProductQuery()).fetched.body
        price = 0 if body == b"[]" else int(body.partition(b'"price":')[2].partition(b",")[0])
        assert price >= known
        reads += 1
    assert reads > 5
