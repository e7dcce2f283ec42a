"""One holder at a time, by a lease; and why SET NX with a plain DEL is not enough."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.conf import settings
from redis import Redis

from freshcache.circuit_breaker import Unavailable
from store import locks
from store.keys import lock_key
from store.locks import LockLost, LockNotAcquired
from tests.preloaded import ROOT
from tests.servers import free_port, start_redis
from tests.waiting import wait_for

pytestmark = [pytest.mark.engines, pytest.mark.contract]

SHORT_SECONDS = 0.1
LONG_SECONDS = 60


def wait_until_free(redis: Redis, name: str) -> None:
    wait_for(lambda: not redis.exists(lock_key(name)))


@contextmanager
def naive_lock(redis: Redis, name: str, lease_seconds: float) -> Iterator[None]:
    """The lock of many tutorials: SET NX, and at the end DEL, whoever holds it by then."""
    assert redis.set(lock_key(name), "locked", nx=True, px=int(lease_seconds * 1000))
    try:
        yield
    finally:
        redis.delete(lock_key(name))


# --- Why not SET NX and DEL -----------------------------------------------------------------------


def test_a_naive_holder_that_outlives_its_lease_deletes_anothers_lock(redis):
    with naive_lock(redis, "naive", SHORT_SECONDS):
        wait_until_free(redis, "naive")  # The work takes longer than the lease,
        second = naive_lock(redis, "naive", LONG_SECONDS)
        second.__enter__()  # so that another begins.
    # The first has ended, and with it the lock of the second, who goes on working:
    with naive_lock(redis, "naive", LONG_SECONDS):
        pass  # a third may begin beside it.


@pytest.mark.smoke
def test_a_holder_that_outlives_its_lease_leaves_anothers_lock_alone_and_hears_of_it(redis):
    first = locks.hold("right", lease_seconds=SHORT_SECONDS)
    first.__enter__()
    wait_until_free(redis, "right")
    with locks.hold("right", lease_seconds=LONG_SECONDS) as second:
        with pytest.raises(LockLost, match=r'"right" \(0.1 s\) was over before the work'):
            first.__exit__(None, None, None)
        assert second.still_mine()
        with pytest.raises(LockNotAcquired), locks.hold("right", lease_seconds=1):
            pass


# --- One at a time --------------------------------------------------------------------------------


@pytest.mark.smoke
def test_of_many_at_once_one_holds_the_lock_at_a_time():
    inside, most, done = 0, 0, 0
    barrier = threading.Barrier(8)

    def work(_: int) -> None:
        nonlocal inside, most, done
        barrier.wait()
        with locks.hold("busy", lease_seconds=LONG_SECONDS, wait_seconds=LONG_SECONDS):
            inside += 1
            most = max(most, inside)
            time.sleep(0.005)
            inside -= 1
            done += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (most, done) == (1, 8)


def test_who_cannot_have_it_is_told_which_lock_and_how_long_was_waited():
    with locks.hold("import", lease_seconds=LONG_SECONDS):
        for wait_seconds, waited in ((0, r"waited \d"), (0.3, r"waited (0\.[2-9]|[1-9])")):
            with (
                pytest.raises(LockNotAcquired, match=f'"import" is held .*{waited}'),
                locks.hold("import", lease_seconds=1, wait_seconds=wait_seconds),
            ):
                pytest.fail("it was held by somebody else")
        with locks.hold("another", lease_seconds=LONG_SECONDS):
            pass  # Its name is all that it shares.


def test_the_lock_is_free_after_the_body_and_after_its_exception(redis):
    with locks.hold("one", lease_seconds=LONG_SECONDS):
        assert redis.exists(lock_key("one"))
    assert not redis.exists(lock_key("one"))
    with pytest.raises(ZeroDivisionError), locks.hold("one", lease_seconds=LONG_SECONDS):
        raise ZeroDivisionError
    assert not redis.exists(lock_key("one"))


HOLDER = """
import django, time
django.setup()
from store import locks
with locks.hold("killed", lease_seconds=1):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_delays_the_next_by_no_more_than_its_lease(redis):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "simple_django_redis.settings"}
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert redis.pttl(lock_key("killed")) <= 1000
        with locks.hold("killed", lease_seconds=LONG_SECONDS, wait_seconds=LONG_SECONDS) as lock:
            assert lock.still_mine()


@pytest.mark.parametrize("lease_seconds", [0, -1])
def test_a_lock_without_a_lease_is_refused(redis, lease_seconds):
    with (
        pytest.raises(ValueError, match=f"lease_seconds is {lease_seconds}"),
        locks.hold("for ever", lease_seconds=lease_seconds),
    ):
        pytest.fail("a holder that dies would hold it for ever")


# --- The lease ------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_extending_begins_the_lease_anew(redis):
    with locks.hold("long", lease_seconds=LONG_SECONDS) as lock:
        redis.pexpire(lock_key("long"), 10_000)
        lock.extend()
        assert 50_000 < redis.pttl(lock_key("long")) <= LONG_SECONDS * 1000
        assert lock.still_mine()


def test_another_thread_of_the_holder_may_extend_for_it(redis):
    with locks.hold("beating", lease_seconds=LONG_SECONDS) as lock, ThreadPoolExecutor(1) as pool:
        redis.pexpire(lock_key("beating"), 10_000)
        pool.submit(lock.extend).result()
        assert redis.pttl(lock_key("beating")) > 50_000


def test_after_its_lease_a_holder_can_see_so_and_cannot_extend(redis):
    with pytest.raises(LockLost), locks.hold("lost", lease_seconds=SHORT_SECONDS) as lock:
        wait_until_free(redis, "lost")
        assert not lock.still_mine()
        with locks.hold("lost", lease_seconds=LONG_SECONDS) as other:
            assert not lock.still_mine()
            with pytest.raises(LockLost):
                lock.extend()
            assert other.still_mine()
        lock.extend()


def test_a_lost_lease_does_not_hide_the_exception_of_the_body(redis, caplog):
    with pytest.raises(ZeroDivisionError), locks.hold("late", lease_seconds=SHORT_SECONDS):
        wait_until_free(redis, "late")
        raise ZeroDivisionError
    assert "was over before the work was" in caplog.text


# --- Redis down -----------------------------------------------------------------------------------


@pytest.fixture
def server(settings):
    """A Redis of this test's own for the locks."""
    executor = start_redis(free_port())
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{executor.port}/0"
    yield executor
    executor.kill()


def test_without_redis_there_is_no_lock_and_no_work(server):
    server.kill()
    started = time.monotonic()
    with (
        pytest.raises(Unavailable, match='cannot be asked about the lock "import"'),
        locks.hold("import", lease_seconds=1, wait_seconds=LONG_SECONDS),
    ):
        pytest.fail("the work began without the lock")
    assert time.monotonic() - started < LONG_SECONDS / 2


def test_a_holder_that_loses_redis_is_told_when_it_asks_and_its_work_still_counts(server, caplog):
    with locks.hold("import", lease_seconds=LONG_SECONDS) as lock:
        server.kill()
        for ask in (lock.still_mine, lock.extend):
            with pytest.raises(Unavailable, match='lock "import"'):
                ask()
    assert 'The lock "import" ends with its lease' in caplog.text


def test_who_extended_and_loses_redis_has_the_new_lease(server, caplog):
    with locks.hold("import", lease_seconds=LONG_SECONDS) as lock:
        lock._leased_until = 0.0  # The first lease is over.
        lock.extend()
        server.kill()
    assert 'The lock "import" ends with its lease' in caplog.text


def test_a_holder_that_loses_redis_past_its_lease_has_lost_the_lock(server, redis):
    with pytest.raises(LockLost), locks.hold("import", lease_seconds=SHORT_SECONDS):
        with Redis(port=server.port) as own:
            wait_until_free(own, "import")
        server.kill()
        time.sleep(SHORT_SECONDS)


def test_without_redis_the_exception_of_the_body_is_not_hidden_either(server):
    with pytest.raises(ZeroDivisionError), locks.hold("import", lease_seconds=LONG_SECONDS):
        server.kill()
        raise ZeroDivisionError


def test_locks_are_where_nothing_is_evicted(server, redis):
    with locks.hold("import", lease_seconds=LONG_SECONDS), Redis(port=server.port) as own:
        assert own.exists(lock_key("import"))
        assert not redis.exists(lock_key("import"))
        assert lock_key("import") == f"{settings.PROJECT_NAME}:lock:import"
