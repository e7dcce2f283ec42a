"""Breaks of live events: none is lost, none comes early, none comes twice."""

from tests.mutations import Break

AREA = "events"
EVENT_FEED = "tests/test_event_feed.py"
EVENTS = "tests/test_events.py"

BREAKS = [
    Break(
        "events are out before the cached lists are forgotten",
        AREA,
        '    "freshcache",\n    "pages",\n    "store",',
        '    "pages",\n    "store",\n    "freshcache",',
        [f"{EVENTS}::test_the_cached_lists_are_forgotten_before_the_event_is_out"],
    ),
    Break(
        "an event that could not be announced is lost",
        AREA,
        "            self._owe(error)\n",
        "            del error\n",
        [f"{EVENTS}::test_a_redis_that_refuses_is_told_of_once_and_asked_again"],
    ),
    Break(
        "what happens while a bulk is on its way is lost",
        AREA,
        "            self._owed += waits  #",
        "            pass  #",
        [f"{EVENTS}::test_what_is_announced_while_a_bulk_is_on_its_way_is_owed_as_well"],
    ),
    Break(
        "writes wait for a Redis that owes",
        AREA,
        "        if waits:\n            self._see_to_it()\n            return\n",
        "",
        [f"{EVENTS}::test_what_is_announced_while_a_bulk_is_on_its_way_is_owed_as_well"],
    ),
    Break(
        "nobody's bell rings",
        AREA,
        (
            "            pipeline.publish(keys.events_key(), len(found))\n"
            "            pipeline.execute()"
        ),
        "            pipeline.execute()",
        [f"{EVENTS}::test_a_transaction_is_announced_in_one_go_its_bulk_event_last"],
    ),
    Break(
        "the stream grows without bound",
        AREA,
        (
            "                    maxlen=keys.EVENTS_CAP + 1,\n"
            "                    approximate=False,\n"
        ),
        "",
        [f"{EVENT_FEED}::test_up_to_the_cap_nothing_is_missed_and_beyond_it_there_is_a_reset"],
    ),
    Break(
        "one event fewer than the cap is kept",
        AREA,
        "maxlen=keys.EVENTS_CAP + 1",
        "maxlen=keys.EVENTS_CAP",
        [f"{EVENT_FEED}::test_up_to_the_cap_nothing_is_missed_and_beyond_it_there_is_a_reset"],
    ),
    Break(
        "the stream is kept for ever",
        AREA,
        "            pipeline.expire(keys.events_key(), keys.EVENTS_AGE_SECONDS)\n",
        "",
        [f"{EVENTS}::test_events_are_kept_for_a_day"],
    ),
    Break(
        "a gap in the stream goes unnoticed",
        AREA,
        "return entries[1:] if entries and entries[0].id == last_id else None",
        "return entries[1:] if entries else []",
        [f"{EVENT_FEED}::test_a_flushed_stream_is_a_reset_for_all"],
    ),
    Break(
        "a place that is not there leads to nothing",
        AREA,
        "return [Entry(entries[-1].id, RESET, reset)] if entries else []",
        "return []",
        [f"{EVENT_FEED}::test_up_to_the_cap_nothing_is_missed_and_beyond_it_there_is_a_reset"],
    ),
    Break(
        "who comes back hears the last event twice",
        AREA,
        "return entries[index + 1 :]",
        "return entries[index:]",
        [f"{EVENT_FEED}::test_who_comes_back_hears_what_was_missed_once_and_then_goes_on"],
    ),
    Break(
        "clients without bound",
        AREA,
        "            if self._followers >= max_clients:",
        "            if False:",
        [f"{EVENT_FEED}::test_there_are_no_more_than_are_let"],
    ),
    Break(
        "a client that goes makes no room",
        AREA,
        "            self._followers -= 1\n",
        "",
        [f"{EVENT_FEED}::test_there_are_no_more_than_are_let"],
    ),
    Break(
        "nobody who waits is woken",
        AREA,
        "                    self._changed.notify_all()\n",
        "",
        [f"{EVENT_FEED}::test_who_waits_is_woken_by_an_event"],
    ),
]
