"""The queues and their workers: JSON only, retried, bounded, back by themselves after an outage."""

import json
import os
import pickle
import sys
import time
import zlib
from contextlib import nullcontext
from types import SimpleNamespace

import psutil
import pytest
from django.core.management import call_command
from redis import Redis
from rq import Worker
from rq.exceptions import ShutDownImminentException
from rq.job import JobStatus
from rq.registry import ScheduledJobRegistry

from freshcache.circuit_breaker import Unavailable
from freshcache.runtime import cache_of
from store import jobs, keys, queues, timetable, worker
from store.allowed_jobs import ALLOWED
from store.worker import StoreWorker
from tests.servers import start_redis
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

BOUNDED_SECONDS = 10  # a busy machine's; what waits for no timeout takes milliseconds


@pytest.fixture
def rq(queue_server):
    with Redis(port=queue_server.port) as client:
        yield client


def status(job_id: str) -> JobStatus | None:
    job = queues.find(job_id)
    return job.get_status() if job else None


# --- Workers --------------------------------------------------------------------------------------


def test_a_worker_that_is_told_nothing_does_the_jobs_of_all_queues_the_default_one_first(
    start_worker, rq
):
    queues.enqueue("store.jobs.clear_sessions", job_id="later", queue=queues.LOW)
    queues.enqueue("store.jobs.repair_cached_lists", job_id="first")
    worker = start_worker("--burst")
    assert worker.process.wait(timeout=30) == 0, worker.log.read_text()
    assert status("first") == status("later") == JobStatus.FINISHED
    first, later = (queues.find(job_id) for job_id in ("first", "later"))
    assert first.return_value() == {"checked": 0, "repaired": 0}
    assert first.ended_at <= later.started_at


def test_everything_about_a_job_is_json_and_kept_for_a_bounded_time(start_worker, rq):
    queues.enqueue("store.jobs.clear_sessions", job_id="good")
    stored = zlib.decompress(rq.hget("rq:job:good", "data"))
    assert json.loads(stored) == ["store.jobs.clear_sessions", None, [], {}]
    start_worker("--burst").process.wait(timeout=30)
    assert 0.9 * keys.JOB_RESULT_SECONDS < rq.ttl("rq:job:good") <= keys.JOB_RESULT_SECONDS
    for key in rq.scan_iter("rq:*"):
        if rq.type(key) == b"hash":
            assert not any(value.startswith(b"\x80\x04") for value in rq.hvals(key)), key


def test_a_job_that_fails_is_tried_again_after_growing_pauses_and_then_given_up(start_worker, rq):
    queues.enqueue("store.jobs.run_import", "no number", job_id="bad")
    before = time.time()
    for tried, pause in enumerate(queues.RETRY_PAUSES_SECONDS, start=1):
        start_worker("--burst").process.wait(timeout=30)
        assert status("bad") == JobStatus.SCHEDULED
        assert queues.find("bad").retries_left == len(queues.RETRY_PAUSES_SECONDS) - tried
        registry = ScheduledJobRegistry("default", connection=rq)
        assert registry.get_scheduled_time("bad").timestamp() - before >= pause - 1
        rq.zadd("rq:scheduled:default", {"bad": 1})  # Its time has come.
    start_worker("--burst").process.wait(timeout=30)
    assert status("bad") == JobStatus.FAILED
    assert 0.9 * keys.JOB_FAILURE_SECONDS < rq.ttl("rq:job:bad") <= keys.JOB_FAILURE_SECONDS


def test_a_worker_goes_on_by_itself_when_redis_has_been_restarted(
    start_worker, queue_server, rq, settings
):
    worker = start_worker()
    queue_server.kill()
    wait_for(lambda: "could not connect" in worker.log.read_text())
    anew = start_redis(queue_server.port)
    try:
        wait_for(lambda: enqueued("after"))
        wait_for(lambda: status("after") == JobStatus.FINISHED, seconds=60)
        wait_for(lambda: ScheduledJobRegistry("low", connection=rq).count, seconds=60)
        assert worker.process.poll() is None
    finally:
        worker.close()
        anew.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_worker_that_is_killed_leaves_no_scheduler_behind(start_worker, rq):
    worker = start_worker()
    process = psutil.Process(worker.process.pid)
    wait_for(lambda: process.children() and rq.exists("rq:scheduler-lock:default"))
    children = process.children(recursive=True)
    process.kill()
    wait_for(lambda: not any(child.is_running() for child in children))
    assert not rq.exists("rq:scheduler-lock:default")


def test_a_worker_that_has_nothing_to_do_says_nothing(start_worker):
    worker = start_worker("--burst")
    assert worker.process.wait(timeout=30) == 0
    assert "Listening on" in worker.log.read_text()
    assert "cleaning registries" not in worker.log.read_text()


def test_a_worker_can_be_stopped_while_redis_is_down(start_worker, queue_server):
    worker = start_worker()
    queue_server.kill()
    wait_for(lambda: "could not connect" in worker.log.read_text())
    assert worker.close() == 0, worker.log.read_text()


def enqueued(job_id: str) -> bool:
    try:
        queues.enqueue("store.jobs.clear_sessions", job_id=job_id)
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_only_a_job_under_way_is_stopped_in_the_middle(moment, monkeypatch):
    said: list[str] = []

    def ask(now: str) -> None:
        if now == moment:
            worker._stopping.ask()

    def as_rq_does(_self, job, _queue) -> bool:
        ask("before")
        said.append(job.perform())
        ask("after")
        return True

    def perform() -> str:
        ask("during")
        return "done"

    monkeypatch.setattr(worker, "_stopping", worker._Stopping())
    monkeypatch.setattr(Worker, "perform_job", as_rq_does)
    one = StoreWorker.__new__(StoreWorker)
    with nullcontext() if moment == "after" else pytest.raises(ShutDownImminentException):
        one.perform_job(SimpleNamespace(perform=perform), None)
    assert said == (["done"] if moment == "after" else [])


def test_a_job_makes_up_for_lost_invalidations_before_its_process_ends(rq, monkeypatch):
    done = []
    monkeypatch.setattr(Worker, "perform_job", lambda self, job, queue: done.append("job"))
    monkeypatch.setattr(cache_of().outage, "settle", lambda: done.append("settled"))
    queues.enqueue("store.jobs.clear_sessions", job_id="one")
    StoreWorker(["default"], connection=rq).perform_job(queues.find("one"), None)
    assert done == ["job", "settled"]


# --- What is not the store's ----------------------------------------------------------------------


def perform(rq, **fields) -> str:
    """Write a job as whoever can write to Redis may, have it done here, and return how it went."""
    queues.enqueue("store.jobs.clear_sessions", job_id="foreign")
    rq.hset("rq:job:foreign", mapping={"retries_left": 10**6, **fields})
    worker = StoreWorker(
        ["default"],
        connection=rq,
        job_class="store.allowed_jobs.StoreJob",
        serializer="rq.serializers.JSONSerializer",
    )
    job, queue = worker.queue_class.dequeue_any(
        worker.queues, None, rq, job_class=worker.job_class, serializer=worker.serializer
    )
    worker.prepare_execution(job)
    worker.perform_job(job, queue)
    return queues.find("foreign").get_status()


def call(function: object, *arguments: object, instance: object = None) -> bytes:
    return json.dumps([function, instance, arguments, {}]).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"data": call("os.mkdir", "made")},
        {"data": call("store.jobs.call_command", "flush")},  # what store.jobs has imported itself
        {"data": call("store.jobs.warming.run", "made")},
        {"data": call("store.catalogue.fill_cached_lists")},
        {"data": call("format", 1, instance="{0}")},  # a method of what JSON knows
        {"data": call("store.jobs.clear_sessions", instance="text")},
        {"data": call(["os.mkdir"], "made")},
        {"data": call(None)},
        {"data": pickle.dumps(("os.mkdir", None, ("made",), {}))},
        {"data": b"[]"},
        {"success_callback_name": "os.mkdir"},
        {"failure_callback_name": "os.mkdir", "data": call("os.mkdir", "made")},
        {"stopped_callback_name": "os.mkdir"},
        {"webhooks": json.dumps([{"url": "http://127.0.0.1:1/", "job_status": "finished"}])},
        {"data": call("x" * 100_000), "description": "x" * 100_000},
    ],
)
def test_a_job_that_is_not_the_stores_is_refused_once_and_for_good(
    rq, caplog, tmp_path, monkeypatch, fields
):
    monkeypatch.chdir(tmp_path)
    assert perform(rq, **fields) == JobStatus.FAILED
    assert not list(tmp_path.iterdir())
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "Refused job foreign" in line.getMessage()
    assert len(caplog.text) < 2000


class Folder:
    """Unpickling it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("made",)


@pytest.mark.parametrize("field", ["meta", "result"])
def test_nothing_of_a_job_is_unpickled(rq, field, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert perform(rq, **{field: pickle.dumps(Folder())}) == JobStatus.FINISHED
    assert not list(tmp_path.iterdir())


def test_every_job_of_the_stores_is_allowed():
    own = {name: value for name, value in vars(jobs).items() if callable(value)}
    public = {f"{v.__module__}.{n}" for n, v in own.items() if v.__module__ == jobs.__name__}
    assert public == set(ALLOWED)


# --- Enqueuing ------------------------------------------------------------------------------------


def test_without_redis_nothing_is_enqueued_and_nobody_waits(queue_server):
    queue_server.kill()
    started = time.monotonic()
    for ask in (
        queues.check,
        lambda: queues.enqueue("store.jobs.clear_sessions"),
        lambda: queues.find("one"),
        timetable.plan,
    ):
        with pytest.raises(Unavailable):
            ask()
    assert time.monotonic() - started < BOUNDED_SECONDS


def test_a_job_is_found_by_its_id_until_it_is_forgotten(queue_server):
    queues.enqueue("store.jobs.clear_sessions", job_id="one", queue=queues.LOW)
    assert queues.find("one").origin == "low"
    assert queues.is_waiting("one")
    assert queues.find("another") is None
    assert not queues.is_waiting("another")


# --- The timetable --------------------------------------------------------------------------------


def test_many_workers_plan_each_regular_run_once(queue_server, rq):
    registry = ScheduledJobRegistry("low", connection=rq)
    for _ in range(3):
        timetable.plan()
    planned = registry.get_job_ids()
    assert {job_id.partition("-")[0] for job_id in planned} == {
        regular.function for regular in timetable.TIMETABLE
    }
    now = time.time()
    for job_id in planned:
        assert registry.get_scheduled_time(job_id).timestamp() > now - 60
    rq.flushall()  # This server is the test's own.
    timetable.plan()
    assert registry.count >= len(timetable.TIMETABLE)


def test_a_worker_without_redis_plans_nothing_and_goes_on(queue_server, rq, caplog, monkeypatch):
    monkeypatch.setattr(StoreWorker, "clean_registries", lambda self: None)
    worker = StoreWorker(["default"], connection=rq)

    def down() -> None:
        raise Unavailable("Redis is down")

    monkeypatch.setattr(timetable, "plan", down)
    worker.run_maintenance_tasks()
    assert "Nothing regular is planned: Redis is down" in caplog.text


def test_every_regular_job_exists():
    assert all(callable(getattr(jobs, regular.function)) for regular in timetable.TIMETABLE)


def test_the_job_that_repairs_lists_does_what_check_cache_does(client, books, redis, capsys):
    client.get("/store/cached/")
    assert jobs.repair_cached_lists() == {"checked": 1, "repaired": 0}
    call_command("check_cache", "--repair")
    assert "all are right" in capsys.readouterr().out
