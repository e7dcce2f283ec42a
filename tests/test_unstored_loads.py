"""What was loaded and not stored, as another process wrote meanwhile: served while that is no lie yet."""

import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from freshcache.cache import Cache
from freshcache.entry import Entry
from freshcache.local_cache import Copy
from freshcache.result import Outcome
from tests.test_aside import LIMITS, MAIN, Loader, never, process
from tests.test_aside import in_background as in_background
from tests.test_aside import load as load
from tests.test_aside import no_outage_outlives_its_test as no_outage_outlives_its_test
from tests.test_aside_copies import heard
from tests.test_aside_copies import keeping as keeping
from tests.test_aside_copies import tracking as tracking
from tests.test_copies import NOT_THE_POINT_SECONDS

pytestmark = [pytest.mark.engines, pytest.mark.contract]

LAG_SECONDS = NOT_THE_POINT_SECONDS
GENERATION = "product:generation"


def load_beside(
    reader: Cache, load: Loader, in_background, do: Callable[[], object], **options: bool
) -> Future:
    """Have `reader` load, `do` something meanwhile, and return once it has loaded."""
    load.hold()
    reading = in_background(reader.fetch, MAIN, load, LIMITS, **{"may_load_later": True, **options})
    assert load.reached.wait(30)
    do()
    load.released.set()
    reading.result()
    return reading


def write_elsewhere() -> None:
    process().forget("product")


def found(reader: Cache) -> bytes | None:
    copy = reader.copies.find(MAIN.names.entry, "")
    return copy.entry.body if copy else None


@pytest.mark.parametrize("writes", [1, 3])
def test_what_another_process_wrote_during_a_load_leaves_it_to_serve(
    writes, tracking, load, in_background
):
    def write() -> None:
        for _ in range(writes):
            write_elsewhere()
            process().generation("product")  # Another reader has come.

    reading = load_beside(tracking, load, in_background, write)
    assert reading.result().outcome is Outcome.BYPASS
    heard(tracking)
    hit = tracking.fetch(MAIN, never, LIMITS)
    assert (hit.outcome, hit.body) == (Outcome.HIT, b"1")


def test_after_a_write_of_this_process_what_was_loading_is_not_served(
    tracking, load, in_background
):
    load_beside(tracking, load, in_background, lambda: tracking.forget("product"))
    assert found(tracking) is None


def test_a_later_write_of_this_process_ends_it(tracking, load, in_background):
    load_beside(tracking, load, in_background, write_elsewhere)
    tracking.forget("product")
    assert found(tracking) is None
    assert tracking.fetch(MAIN, lambda: b"new", LIMITS).body == b"new"


def test_what_needs_its_request_is_not_kept(tracking, load, in_background):
    load_beside(tracking, load, in_background, write_elsewhere, may_load_later=False)
    assert found(tracking) is None


def test_what_was_loading_when_the_line_was_lost_is_not_kept(tracking, load, in_background):
    def lose() -> None:
        write_elsewhere()
        tracking.copies.forget_all()

    load_beside(tracking, load, in_background, lose)
    assert found(tracking) is None


def test_a_write_at_the_last_moment_leaves_no_message_expected(tracking, monkeypatch):
    find_place = tracking.entries._place

    def find_late(*arguments: object) -> str:
        write_elsewhere()
        return find_place(*arguments)

    monkeypatch.setattr(tracking.entries, "_place", find_late)
    assert tracking.fetch(MAIN, lambda: b"1", LIMITS).outcome is Outcome.BYPASS
    assert not tracking.copies._expected


def outdated(reader: Cache, began_at: float, generation: str = "a" * 32) -> None:
    copies = reader.copies
    entry = Entry(generation, "", "tag", 0.001, None, b"[loaded]")
    copy = Copy(entry, GENERATION, None, None, lambda: None)
    copies.keep_outdated(copies.era(), began_at, MAIN.names.places, copy)


def served_until(reader: Cache) -> float:
    return reader.copies._outdated[MAIN.names.entry].served_until


def check(reader: Cache, token: str, asked_at: float) -> None:
    reader.copies.checked({GENERATION: token}, asked_at, asked_at)


def test_it_is_served_for_the_lag_from_the_beginning_of_its_load(tracking):
    now = time.monotonic()
    check(tracking, "a" * 32, now - 2)
    check(tracking, "b" * 32, now)
    outdated(tracking, now - 1)
    assert served_until(tracking) == now - 1 + LAG_SECONDS
    tracking.copies.forget(GENERATION)
    outdated(tracking, now - LAG_SECONDS, "d" * 32)
    assert found(tracking) is None


def test_it_is_served_for_the_lag_from_when_its_generation_was_last_seen(tracking):
    now = time.monotonic()
    check(tracking, "a" * 32, now - 2)
    check(tracking, "a" * 32, now - 1)
    check(tracking, "b" * 32, now)
    outdated(tracking, now - 5)
    assert served_until(tracking) == now - 1 + LAG_SECONDS


def test_what_is_fresher_stays(tracking):
    now = time.monotonic()
    copies = tracking.copies
    outdated(tracking, now)
    outdated(tracking, now - 1)
    assert served_until(tracking) == now + LAG_SECONDS
    entry = Entry("c" * 32, "", "tag", 0.001, None, b"[fresh]")
    copies.keep(copies.epoch(), MAIN.names.entry, Copy(entry, GENERATION, None, None))
    outdated(tracking, now + 1)
    assert found(tracking) == b"[fresh]"


def test_the_copy_of_another_query_makes_no_room_while_there_is_some(tracking):
    copies = tracking.copies
    for query in ("one", "other"):
        entry = Entry("a" * 32, query, "tag", 0.001, None, query.encode())
        copy = Copy(entry, GENERATION, None, None, lambda: None)
        copies.keep_outdated(copies.era(), time.monotonic(), ["slot:0", "slot:1"], copy)
    for query in ("one", "other"):
        copy = copies.find_in(["slot:0", "slot:1"], query)
        assert copy
        assert copy.entry.body == query.encode()
