"""Variants whose keys collide: each slot has three neighbours that make room."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from django.core.cache import caches

from freshcache import keys, maintenance
from freshcache.circuit_breaker import Unavailable
from freshcache.result import Item, Outcome
from tests.test_aside import LIMITS, item, key, never, process
from tests.test_aside import in_background as in_background
from tests.test_aside import load as load
from tests.test_aside import no_outage_outlives_its_test as no_outage_outlives_its_test
from tests.test_aside_copies import keep, keeping, tracking  # noqa: F401
from tests.waiting import wait_for

pytestmark = [pytest.mark.engines, pytest.mark.contract]

MAX_VARIANTS = 1000
GROUP = [f"product:slot:{number}" for number in range(4)]


def items_at(*homes: str, **changes) -> list[Item]:
    """Return items of queries of which each has its home where it is asked for."""
    queries = (f"query {number}" for number in itertools.count())
    names = ((query, keys.entry_keys("product", query, MAX_VARIANTS)) for query in queries)
    found: Iterator[tuple[str, keys.EntryKeys]] = names
    return [
        next(item(query=query, names=at, **changes) for query, at in found if at.entry == home)
        for home in homes
    ]


def fill(*wanted: Item) -> None:
    for one in wanted:
        assert process().fetch(one, one.query.encode, LIMITS).outcome is Outcome.MISS


def is_hit(one: Item) -> bool:
    found = process().fetch(one, lambda: b"from the source", LIMITS, may_store=False)
    assert found.body in (one.query.encode(), b"from the source")
    return found.outcome is Outcome.HIT


def places() -> dict[str, str]:
    """Return what is served where."""
    served = maintenance.served("product")
    return {names.entry: entry.query for names, entry in served}


@pytest.mark.parametrize("homes", [GROUP[:1] * 2, GROUP[3:] * 3, GROUP[1:2] * 4, GROUP[:2] * 2])
def test_queries_that_share_a_slot_or_a_group_all_hit(homes, redis):
    wanted = items_at(*homes)
    fill(*wanted)
    for one in [*wanted, *wanted, *reversed(wanted)]:
        assert process().fetch(one, never, LIMITS).body == one.query.encode()
    assert set(places()) <= set(GROUP)


def test_the_last_slots_have_neighbours_too():
    found = {keys.entry_keys("product", str(number), 30).places for number in range(1000)}
    assert {names[0] for names in found} == {f"product:slot:{number}" for number in range(11)}
    assert all(len(set(names)) == keys.PLACES for names in found)
    assert keys.entry_keys("product", "query", 10).places == ("product:slot:0",)
    assert keys.entry_keys("product").places == ("product",)


@pytest.mark.parametrize("least", range(4))
def test_one_too_many_replaces_what_is_least_in_use_and_nothing_else(least, redis):
    *four, fifth = items_at(*GROUP, GROUP[1])
    fill(*four)
    for number in range(4):
        redis.pexpire(key(GROUP[number]), 5_400_000 - 60_000 * (number == least))
    fill(fifth)
    assert [is_hit(one) for one in four] == [number != least for number in range(4)]
    assert is_hit(fifth)


def test_where_nothing_expires_chance_says_what_makes_room(redis):
    *four, fifth = items_at(*GROUP[:1] * 5, ttl_seconds=None)
    displaced = set()
    for _ in range(20):  # In each generation it is another one's turn.
        process().forget("product")
        fill(*four, fifth)
        assert is_hit(fifth)
        displaced |= {one.query for one in four} - set(places().values())
    assert len(displaced) > 1


@pytest.mark.parametrize("spoil", ["delete", "garbage", "list", "forget"])
def test_a_place_without_a_served_entry_is_free(spoil, redis):
    *four, fifth = items_at(*GROUP, GROUP[0])
    fill(*four)
    if spoil == "forget":
        process().forget("product")
    else:
        redis.delete(key(GROUP[2]))
        if spoil == "garbage":
            redis.set(key(GROUP[2]), b"\x00garbage")
        elif spoil == "list":
            redis.rpush(key(GROUP[2]), "x")
    fill(fifth)
    where = GROUP[0] if spoil == "forget" else GROUP[2]
    assert places()[where] == fifth.query
    assert spoil == "forget" or [is_hit(one) for one in four] == [True, True, False, True]


def test_an_entry_is_refreshed_where_it_is(redis):
    first, second = items_at(*GROUP[:1] * 2)
    fill(first, second)
    before = places()
    redis.delete(key(GROUP[0]))
    (where,) = (name for name, query in before.items() if query == second.query)
    redis.pexpire(key(where), 1000)
    refreshed = process().fetch(second, second.query.encode, LIMITS)
    assert refreshed.outcome is Outcome.REFRESH
    assert places() == {where: second.query}


def test_an_entry_that_is_not_whole_is_replaced_wherever_it_is(redis):
    first, second = items_at(*GROUP[:1] * 2)
    fill(first, second)
    for name in places():
        redis.append(key(name), "more")
    fill(first, second)
    assert len(places()) == 2


# --- Several at once ------------------------------------------------------------------------------


def test_one_loads_whatever_becomes_of_its_place_meanwhile(load, in_background, redis):
    wanted, *others = items_at(GROUP[0], *GROUP[1:], GROUP[1])
    filling, waiting = process(), process()
    is_waiting = threading.Event()
    waiting.sleep = lambda seconds: (is_waiting.set(), time.sleep(seconds))
    load.hold()
    first = in_background(filling.fetch, wanted, load, LIMITS)
    assert load.reached.wait(30)
    second = in_background(waiting.fetch, wanted, never, LIMITS)
    assert is_waiting.wait(30)
    fill(*others)  # One of them has taken the place.
    assert wanted.names.entry in places()
    load.released.set()
    assert (first.result().outcome, second.result().outcome) == (Outcome.MISS, Outcome.COALESCED)
    assert (first.result().body, second.result().body, load.calls) == (b"1", b"1", 1)


def test_a_place_that_is_taken_at_the_last_moment_is_not_taken_again(redis, monkeypatch):
    late, early, *others = items_at(GROUP[0], *GROUP[1:], GROUP[1])
    fill(*others)
    busy = process()
    find_place = busy.entries._place
    once = iter([True])

    def find_and_lose(*arguments):
        place = find_place(*arguments)
        if next(once, False):
            fill(early)
            assert places()[place] == early.query
            redis.delete(key(GROUP[3]))
        return place

    monkeypatch.setattr(busy.entries, "_place", find_and_lose)
    assert busy.fetch(late, lambda: b"late", LIMITS).outcome is Outcome.MISS
    assert places()[GROUP[3]] == late.query
    assert is_hit(early)


def test_a_place_that_is_taken_again_and_again_holds_nobody_up(redis, monkeypatch):
    wanted, other = items_at(*GROUP[:2])
    busy = process()
    find_place = busy.entries._place

    def find_and_lose(*arguments):
        place = find_place(*arguments)
        redis.set(key(place), str(random.random()))
        return place

    monkeypatch.setattr(busy.entries, "_place", find_and_lose)
    assert busy.fetch(wanted, lambda: b"1", LIMITS).outcome is Outcome.MISS
    assert process().fetch(wanted, never, LIMITS).body == b"1"
    fill(other)


def test_what_is_displaced_in_redis_is_dropped_in_this_process(tracking, redis):  # noqa: F811
    first, second = items_at(*GROUP[:1] * 2)
    fill(first, second)
    copies, filled_at = tracking.copies, time.monotonic()
    # What is still announced of these entries would drop their copies later.
    wait_for(
        lambda: tracking.fetch(first, never, LIMITS) and copies._messages.complete_until > filled_at
    )
    for one in (first, second):
        wait_for(
            lambda one=one: (
                tracking.fetch(one, never, LIMITS) and copies.find_in(one.names.places, one.query)
            )
        )
    era = copies.era()
    redis.delete(key(GROUP[0]))
    wait_for(lambda: not copies.find_in(first.names.places, first.query))
    # A late check hides all copies for a moment; with the connection, all of them are lost.
    wait_for(lambda: copies.find_in(second.names.places, second.query) or copies.era() != era)


def test_what_this_process_stores_outside_its_slot_is_kept_here(tracking, redis):  # noqa: F811
    first, second = items_at(*GROUP[:1] * 2)
    fill(first)
    assert tracking.fetch(second, lambda: b"2", LIMITS).outcome is Outcome.MISS
    found = tracking.copies.find_in(second.names.places, second.query)
    assert found is None or found.entry.body == b"2"  # None: no check has come yet
    assert not tracking.copies._expected - {place for place in GROUP if place in places()}


# --- The last good values -------------------------------------------------------------------------


def test_the_last_good_value_is_found_in_any_place_and_is_no_other_querys(redis):
    *four, fifth = items_at(*GROUP[:1] * 5)
    fill(*four)
    redis.delete(*map(key, GROUP))

    def down() -> bytes:
        raise Unavailable

    for one in four:
        stale = process().fetch(one, down, LIMITS)
        assert (stale.outcome, stale.body) == (Outcome.STALE, one.query.encode())
    with pytest.raises(Unavailable):
        process().fetch(fifth, down, LIMITS)


# --- Costs and bounds -----------------------------------------------------------------------------


@pytest.mark.alone  # It counts all commands of the suite's Redis.
@pytest.mark.parametrize(
    ("wanted", "fills", "hits"),
    [
        ("main", ["MGET", "PTTL", "SET", "MGET", "EVALSHA", "WATCH", "MGET", "EXEC"], 2),
        ("home", None, 5),
        ("elsewhere", None, 7),
    ],
)
def test_what_a_hit_and_a_miss_ask_of_redis(wanted, fills, hits, redis):
    at_home, elsewhere = items_at(*GROUP[:1] * 2)
    fill(at_home, elsewhere, item())  # Scripts are loaded.
    one = {"main": item(), "home": at_home, "elsewhere": elsewhere}[wanted]

    def commands() -> Counter:
        found = redis.info("commandstats")
        return Counter({name[8:].upper(): stats["calls"] for name, stats in found.items()})

    def asked_by(do) -> Counter:
        before = commands()
        do()
        after = commands() - before
        del after["INFO"]
        return after

    assert sum(asked_by(lambda: process().fetch(one, never, LIMITS)).values()) == hits
    if fills:
        process().forget("product")
        found = asked_by(lambda: process().fetch(one, lambda: b"new", LIMITS))
        counted = {name: found[name] for name in fills}
        # One MGET and one GETRANGE, SET and DEL are of the scripts and of the transaction.
        assert counted == {**Counter(fills), "MGET": 4, "SET": 4}
        assert found["GETRANGE"] == 1


def test_many_queries_and_writes_leave_few_keys_and_never_anothers_body(redis, in_background):
    dice = random.Random(7)
    limit = 30
    names = {str(number): keys.entry_keys("product", str(number), limit) for number in range(40)}
    written = acknowledged = 0

    def read(query: str) -> None:
        at_least = acknowledged
        asked = item(query=query, names=names[query])
        found = process().fetch(asked, lambda: f"{query} {written}".encode(), LIMITS)
        whose, _, when = found.body.decode().partition(" ")
        assert whose == query
        assert int(when) >= at_least

    for seed in range(60):
        reads = [
            in_background(read, query)
            for query in dice.choices(list(names), weights=range(40), k=6)
        ]
        if not seed % 10:
            written += 1
            process().forget("product")
            acknowledged = written
        for one in reads:
            one.result()
    prefix = caches["default"].make_key("product:slot:")
    assert len(list(redis.scan_iter(f"{prefix}*"))) <= limit - keys.RESERVED_KEYS
