"""One host's clock is five minutes behind, the other's five minutes ahead.

Each gunicorn's clock is set by clock.c, for its workers, too; what has elapsed is left alone.
"""

import contextlib
import email.utils
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from MySQLdb.cursors import Cursor

from tests.listeners import Listener
from tests.processes import Server
from tests.scale.fleet import BOOK, PORT, Editor, Fleet, clock_off_by
from tests.test_copies import LAG_SECONDS, warm
from tests.visitors import cookies, is_hit, prices, reprice, send
from tests.waiting import wait_for
from tests.witnesses import Readers, Writers, late_reads

SKEW_SECONDS = 300


@pytest.fixture
def skewed(whole_fleet: Fleet) -> Fleet:
    if not shutil.which("cc"):
        pytest.skip("no C compiler for clock.c; `make test-scale` installs one where it may")
    return whole_fleet


def set_clocks(fleet: Fleet, **variables: str) -> tuple[Server, Server]:
    behind, ahead = fleet.webs
    behind.ensure(CLOCK=str(-SKEW_SECONDS), **variables)
    ahead.ensure(CLOCK=str(SKEW_SECONDS), **variables)
    fleet.redis.flushall()
    return behind, ahead


def clock(host: Server) -> float:
    date = host.get("/healthz").headers["Date"]
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()


def test_the_clocks_are_off(skewed):
    behind, ahead = set_clocks(skewed)
    assert clock(behind) == pytest.approx(-SKEW_SECONDS, abs=5)
    assert clock(ahead) == pytest.approx(SKEW_SECONDS, abs=5)


def test_entries_expire_and_age_by_redis_clock_alone(skewed):
    hosts = set_clocks(skewed, CACHE_TTL="4", LOCAL_CACHE="off")
    assert hosts[0].get("/store/cached/").status == 201
    for _ in range(2):
        for host in hosts:
            answer = host.get("/store/cached/")
            assert is_hit(answer)
            assert 0 <= int(answer.headers["Age"]) <= 4
    time.sleep(4)
    assert [host.get("/store/cached/").status for host in reversed(hosts)] == [201, 200]


def test_no_host_serves_what_is_old_whatever_its_clock_says(skewed):
    hosts = set_clocks(skewed)
    editor = Editor(hosts[0])
    for host in hosts:
        warm(host)
    ways = [Readers(host) for host in hosts]
    with contextlib.ExitStack() as stack:
        for readers in ways:
            stack.enter_context(readers)
        with Writers(hosts, editor, [BOOK]) as writers:
            time.sleep(5)
    for readers in ways:
        readers.assert_all_answered()
        assert late_reads(readers.reads, writers.writes, LAG_SECONDS) == []


@pytest.mark.parametrize("first", [0, 1])
def test_who_signs_in_on_one_host_is_signed_in_on_the_other(skewed, first):
    hosts = set_clocks(skewed)
    editor = Editor(hosts[first])
    skewed.redis.flushall()  # The database's copy has a date.
    for host in (hosts[1 - first], hosts[first]):
        assert reprice(host, editor, BOOK, 70) == 200
    assert prices(hosts[0].get("/store/cached/"))[0] == 70


@pytest.mark.parametrize("first", [0, 1])
def test_a_visitor_is_known_on_both_hosts(skewed, first):
    hosts = set_clocks(skewed)
    seen = hosts[first].get("/store/products/1/")
    cookie = {"Cookie": seen.headers["Set-Cookie"].partition(";")[0]}
    again = hosts[1 - first].get("/store/products/2/", cookie)
    assert "Set-Cookie" not in again.headers
    for host in hosts:
        names = [one["id"] for one in host.get("/store/products/recent/", cookie).json["results"]]
        assert names == [2, 1]


def test_looks_on_both_sides_of_a_full_hour_make_one_ranking(skewed):
    minutes = 61 - datetime.now(UTC).minute
    hosts = skewed.webs
    hosts[0].ensure(LOCAL_CACHE="off")
    hosts[1].ensure(LOCAL_CACHE="off", CLOCK=str(60 * minutes))
    skewed.redis.flushall()
    for number, host in enumerate(hosts):
        for _ in range(2 + number):
            host.get(f"/store/products/{1 + number}/")
    for host in hosts:
        skewed.redis.delete("django_redis:ranking", "django_redis:0:product:generation")
        found = host.get("/store/products/popular/").json["results"]
        assert [(one["product"]["id"], one["views"]) for one in found] == [(2, 3), (1, 2)]


def test_a_throttle_counts_over_both_hosts_by_redis_clock(skewed):
    hosts = set_clocks(skewed, THROTTLE_WRITES="4/min")
    editor = Editor(hosts[0])
    statuses = [reprice(host, editor, BOOK, 80) for host in hosts * 3]
    assert statuses == [200] * 4 + [429] * 2


def test_an_event_of_one_host_is_heard_on_the_other_and_none_is_missed(skewed):
    hosts = set_clocks(skewed)
    editor = Editor(hosts[0])
    listener = Listener(PORT, address=hosts[0].address)
    for number in range(6):
        assert reprice(hosts[number % 2], editor, BOOK, 200 + number) == 200
    heard = [listener.next().data["price"] for _ in range(6)]
    listener.close()
    assert heard == list(range(200, 206))
    again = Listener(PORT, listener.last_id, address=hosts[1].address)
    assert reprice(hosts[0], editor, BOOK, 300) == 200
    assert again.next().data["price"] == 300
    again.close()


def upload(host: Server, rows: str) -> None:
    boundary = "a-boundary"
    disposition = 'Content-Disposition: form-data; name="file"; filename="books.csv"'
    body = f"--{boundary}\r\n{disposition}\r\n\r\n{rows}\r\n--{boundary}--\r\n"
    form = f"multipart/form-data; boundary={boundary}"
    assert send(host, Editor(host), "POST", "/store/imports/", body, form) == 202


def test_an_import_accepted_by_one_host_has_not_stalled_for_a_worker_on_the_other(skewed):
    behind, _ = set_clocks(skewed)
    upload(behind, "id,name\n1,Atlas\n")
    skewed.redis.flushall()  # Nobody knows any more that its job waits.
    resume = "from store import transfers; print(transfers.resume_stalled())"
    assert (
        skewed.manage("shell", "-v0", "-c", resume, **clock_off_by(str(SKEW_SECONDS))).strip()
        == "0"
    )


@contextlib.contextmanager
def slow_batches(fleet: Fleet) -> Iterator[Cursor]:
    """Have each batch of an import take most of a second."""
    with contextlib.closing(fleet.database()) as database, database.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER slow BEFORE UPDATE ON store_transfer FOR EACH ROW"
            " IF NEW.position <> OLD.position THEN DO SLEEP(0.7); END IF"
        )
        try:
            yield cursor
        finally:
            cursor.execute("DROP TRIGGER slow")


def test_an_import_whose_worker_is_taken_for_dead_by_its_clock_is_done_once_and_right(skewed):
    """RQ compares workers' clocks: it gives up at once the job of one that is far behind another."""
    skewed.ensure()
    host = skewed.webs[0]
    editor = Editor(host)
    rows = 25_000
    with slow_batches(skewed) as database, contextlib.ExitStack() as cleanup:
        database.execute("DELETE FROM store_chunk")
        database.execute("DELETE FROM store_transfer")  # Imports come one at a time.
        cleanup.callback(skewed.start_worker("behind", CLOCK=str(-SKEW_SECONDS)).kill)
        prices_in_turn = "".join(f"9,Atlas,{price}\n" for price in range(1, rows + 1))
        upload(host, f"id,name,price\n{prices_in_turn}")
        (job,) = host.get("/store/imports/", cookies(editor)).json

        def progress() -> dict[str, Any]:
            return host.get(f"/store/jobs/{job['id']}/", cookies(editor)).json

        wait_for(lambda: progress()["progress"]["rows_done"] >= 2000, 60)
        ahead = skewed.start_worker("ahead", CLOCK=str(SKEW_SECONDS))
        cleanup.callback(ahead.kill)
        key = f"rq:job:{job['id']}"
        wait_for(lambda: skewed.redis.hget(key, "status") == b"scheduled", 60)
        assert progress()["state"] == "running"
        skewed.redis.zadd("rq:scheduled:default", {job["id"]: 1})  # It is tried again at once.
        wait_for(lambda: f"run_import({job['id'].partition('-')[2]})" in ahead.log.read_text(), 60)
        assert progress()["state"] == "running"
        wait_for(lambda: progress()["state"] != "running", 60)
        done = progress()
        database.execute("SELECT attempt FROM store_transfer")
        attempts = database.fetchall()
    assert (done["state"], done["result"]) == ("done", {"imported": rows, "rejected": 0})
    assert attempts == ((1,),)
    assert prices(host.get("/store/cached/"))[8] == rows
