"""A process that keeps copies beside others on the same Redis: what it may keep, and until when."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from freshcache import runtime
from freshcache.cache import Cache
from freshcache.local_cache import LocalCache
from freshcache.outage import Outage
from freshcache.redis.entries import RedisEntries
from freshcache.redis.errors import NotThisTime
from freshcache.result import Outcome
from store.regions import products
from tests.test_aside import LIMITS, MAIN, item, key, never, process
from tests.test_aside import in_background as in_background
from tests.test_aside import load as load
from tests.test_aside import no_outage_outlives_its_test as no_outage_outlives_its_test
from tests.test_copies import NOT_THE_POINT_SECONDS, track
from tests.waiting import wait_for

pytestmark = [pytest.mark.engines, pytest.mark.contract]


@pytest.fixture
def keeping(monkeypatch) -> Iterator[Cache]:
    """A process that keeps copies, and asks ten times a second whether it has heard all."""
    monkeypatch.setattr(
        "freshcache.invalidation_listener.PINGS_IN_A_LAG", NOT_THE_POINT_SECONDS * 10
    )
    entries = RedisEntries()
    copies = LocalCache(
        entries.own_connection, entries.prefixes, NOT_THE_POINT_SECONDS, max_bytes=1_000_000
    )
    nothing = lambda: None  # noqa: E731
    yield Cache(entries, Outage(nothing, nothing), copies=copies)
    copies._messages._used_at = float("-inf")


@pytest.fixture
def tracking(keeping) -> Cache:
    track(keeping.copies)
    return keeping


def heard(process: Cache) -> None:
    """Return once it has heard of all that has happened, and will not ask again for a moment."""
    now = time.monotonic()
    wait_for(lambda: process.copies._messages.complete_until > now)


def copy_of(process: Cache) -> Any:
    return process.copies.find(MAIN.names.entry, "")


def keep(process: Cache, load: Callable[[], bytes], **options: Any) -> Any:
    """Have it read the entry, until it has a copy: none is kept that it was just asking beside."""
    wait_for(lambda: process.fetch(MAIN, load, LIMITS, **options) and copy_of(process))
    return copy_of(process)


def then(method: Callable[..., Any], do: Callable[[], object]) -> Callable[..., Any]:
    """Return what calls `method`, and then `do`, before it returns."""

    def both(*arguments: Any, **keywords: Any) -> Any:
        result = method(*arguments, **keywords)
        do()
        return result

    return both


def test_what_is_read_is_kept_until_another_process_has_written(tracking, load):
    process().fetch(MAIN, load, LIMITS)
    assert keep(tracking, never).entry.body == b"1"
    process().forget("product")
    heard(tracking)
    assert copy_of(tracking) is None


def test_what_was_not_stored_is_not_kept(tracking, load, in_background):
    load.hold()
    slow = in_background(tracking.fetch, MAIN, load, LIMITS)
    assert load.reached.wait(30)
    process().forget("product")
    heard(tracking)
    load.released.set()
    assert slow.result().detail == "not-stored"
    assert copy_of(tracking) is None


def test_what_a_write_makes_old_right_after_it_was_stored_is_not_kept(tracking, load):
    def write() -> None:
        process().forget("product")
        heard(tracking)

    process().generation("product")
    heard(tracking)
    tracking.entries.put = then(tracking.entries.put, write)
    assert tracking.fetch(MAIN, load, LIMITS).outcome is Outcome.MISS
    assert copy_of(tracking) is None


def test_what_a_write_makes_old_right_after_it_was_read_is_not_kept(tracking, load):
    def write() -> None:
        process().forget("product")
        heard(tracking)

    process().fetch(MAIN, load, LIMITS)
    heard(tracking)
    tracking.entries.read = then(tracking.entries.read, write)
    assert tracking.fetch(MAIN, never, LIMITS).outcome is Outcome.HIT
    assert copy_of(tracking) is None


def test_a_copy_is_used_until_its_entry_is_due_for_a_refresh(tracking, load, redis: Redis):
    process().fetch(MAIN, load, LIMITS)
    copy = keep(tracking, never)
    expires_at = time.monotonic() + redis.pttl(key("product")) / 1000
    assert copy.expires_at == pytest.approx(expires_at, abs=5)
    assert copy.use_until == pytest.approx(expires_at - copy.entry.ttl_ms / 1000 / 10, abs=5)


def test_an_entry_that_lives_longer_than_it_should_is_not_kept(tracking, load):
    process().fetch(item(ttl_seconds=None), load, LIMITS)
    heard(tracking)
    assert tracking.fetch(MAIN, never, LIMITS, may_store=False).outcome is Outcome.HIT
    assert copy_of(tracking) is None


def test_a_reader_beside_a_write_of_its_process_keeps_nothing_old(tracking, load):
    process().fetch(MAIN, load, LIMITS)
    heard(tracking)
    forget = tracking.entries.forget

    def read_and_forget(family: str) -> None:
        keep(tracking, load, may_load_later=True)  # in another thread
        forget(family)

    tracking.entries.forget = read_and_forget
    tracking.forget("product")
    assert copy_of(tracking) is None


def test_a_copy_is_not_served_in_an_outage(tracking, load, monkeypatch):
    process().fetch(MAIN, load, LIMITS)
    keep(tracking, never)
    monkeypatch.setitem(runtime._caches, "default", tracking)
    assert products.find_local("").entry.body == b"1"
    tracking.outage.trip(RedisError("down"))
    assert products.find_local("") is None
    assert tracking.fetch(MAIN, lambda: b"new", LIMITS).body == b"new"


def test_a_refill_that_is_over_its_budget_is_no_outage(tracking, load):
    def fail(*arguments: object) -> None:
        raise NotThisTime

    process().fetch(MAIN, load, LIMITS)
    copy = keep(tracking, load, may_load_later=True)
    tracking.entries.read = fail
    copy.refill()
    assert not tracking.outage.is_open
