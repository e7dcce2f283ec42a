"""Breaks of lifetimes: jitter, refreshes ahead, and what is left of an entry."""

from tests.mutations import Break

AREA = "expiry"
ASIDE = "tests/test_aside.py"

BREAKS = [
    Break(
        "entries never expire",
        AREA,
        "pipeline.set(self._key(place), data, px=entry.ttl_ms)",
        "pipeline.set(self._key(place), data)",
        [f"{ASIDE}::test_entries_expire_apart_and_never_after_their_ttl"],
    ),
    Break(
        "entries made together expire together",
        AREA,
        "(1 - random.random() * JITTER)",
        "1",
        [f"{ASIDE}::test_entries_expire_apart_and_never_after_their_ttl"],
    ),
    Break(
        "jitter makes entries live longer",
        AREA,
        "(1 - random.random() * JITTER)",
        "(1 + random.random() * JITTER)",
        [f"{ASIDE}::test_entries_expire_apart_and_never_after_their_ttl"],
    ),
    Break(
        "no refresh window for slow fills",
        AREA,
        "min(max(entry.ttl_ms * REFRESH_WINDOW, entry.fill_seconds * 2000), entry.ttl_ms / 2)",
        "entry.ttl_ms * REFRESH_WINDOW",
        [f"{ASIDE}::test_a_slow_fill_is_refreshed_in_good_time_but_no_entry_for_most_of_its_life"],
    ),
    Break(
        "a very slow fill is refreshed all the time",
        AREA,
        "min(max(entry.ttl_ms * REFRESH_WINDOW, entry.fill_seconds * 2000), entry.ttl_ms / 2)",
        "max(entry.ttl_ms * REFRESH_WINDOW, entry.fill_seconds * 2000)",
        [f"{ASIDE}::test_a_slow_fill_is_refreshed_in_good_time_but_no_entry_for_most_of_its_life"],
    ),
    Break(
        "the refresh window is for slow fills only",
        AREA,
        "min(max(entry.ttl_ms * REFRESH_WINDOW, entry.fill_seconds * 2000), entry.ttl_ms / 2)",
        "min(entry.fill_seconds * 2000, entry.ttl_ms / 2)",
        [f"{ASIDE}::test_a_slow_fill_is_refreshed_in_good_time_but_no_entry_for_most_of_its_life"],
    ),
    Break(
        "an entry of a longer lifetime stays",
        AREA,
        "if ttl_seconds is not None and (left_ms is None or left_ms > ttl_seconds * 1000):",
        "if False:",
        [f"{ASIDE}::test_an_entry_from_before_a_lifetime_was_set_is_refreshed"],
    ),
    Break(
        "a refresh that fails is an error",
        AREA,
        "except (Unavailable, NotThisTime):\n            return hit",
        "except NotThisTime:\n            return hit",
        [f"{ASIDE}::test_a_refresh_that_fails_leaves_the_entry_served"],
    ),
    Break(
        "a refresh over its budget is no hit",
        AREA,
        "except (Unavailable, NotThisTime):\n            return hit",
        "except Unavailable:\n            return hit",
        [f"{ASIDE}::test_a_refresh_that_is_over_budget_leaves_the_entry_served"],
    ),
    Break(
        "the last good value lives no longer than its entry",
        AREA,
        "ttl_ms + self.item.stale_seconds * 1000",
        "ttl_ms",
        [f"{ASIDE}::test_the_last_good_value_is_kept_for_the_time_that_it_may_bridge"],
    ),
    Break(
        "the last good value is kept for ever",
        AREA,
        "stale.data, px=stale.ttl_ms",
        "stale.data",
        [f"{ASIDE}::test_the_last_good_value_is_kept_for_the_time_that_it_may_bridge"],
    ),
    Break(
        "an entry does not say how long it has left",
        AREA,
        "ttl = None if left_ms is None else left_ms / 1000",
        "ttl = None",
        ["tests/test_http_caching.py::test_a_hit_says_how_long_it_stays"],
    ),
]
