"""Breaks of what lets one fill for all: across processes by a claim, inside a process by a flight."""

from tests.mutations import Break

AREA = "stampede"
ASIDE = "tests/test_aside.py"
FLIGHTS = "tests/test_flights.py"

BREAKS = [
    Break(
        "a fill that another process has begun is not waited for",
        AREA,
        ("if found[2] and string.sub(found[2], 1, #ARGV[1]) == ARGV[1] then return 'held' end\n"),
        "",
        [f"{ASIDE}::test_a_process_waits_for_the_fill_of_another"],
    ),
    Break(
        "what was filled meanwhile is filled again",
        AREA,
        "  if ok and start == ARGV[5] then return 'ready' end\n",
        "",
        [f"{ASIDE}::test_a_process_waits_for_the_fill_of_another"],
    ),
    Break(
        "who waits while a write comes does not begin anew",
        AREA,
        "if found[1] ~= ARGV[1] then return 'gone' end\n",
        "",
        [f"{ASIDE}::test_who_waits_while_a_write_comes_begins_anew"],
    ),
    Break(
        "each thread leads a flight of its own",
        AREA,
        (
            "            if flight := self._under_way.get(key):\n"
            "                return flight, False\n"
        ),
        "",
        [f"{ASIDE}::test_who_shares_a_fill_asks_for_no_claim"],
    ),
    Break(
        "each thread tries again what has just failed",
        AREA,
        "            error = down\n            raise",
        "            raise",
        [f"{ASIDE}::test_who_shares_a_fill_shares_its_failure"],
    ),
    Break(
        "a later landing counts",
        AREA,
        "            if not self._landed.is_set():\n                self._result",
        "            if True:\n                self._result",
        [f"{FLIGHTS}::test_only_the_first_landing_counts"],
    ),
    Break(
        "all who lose patience take over",
        AREA,
        "first, self._taken_over = not self._taken_over, True",
        "first = True",
        [f"{FLIGHTS}::test_one_of_those_who_lose_patience_takes_over"],
    ),
    Break(
        "the end of an old flight ends a new one",
        AREA,
        "            if self._under_way.get(key) is flight:\n",
        "            if key in self._under_way:\n",
        [f"{FLIGHTS}::test_one_boards_a_flight_that_the_others_ride_until_it_has_ended"],
    ),
    Break(
        "a flight never ends",
        AREA,
        (
            "            if self._under_way.get(key) is flight:\n"
            "                del self._under_way[key]"
        ),
        "            pass",
        [f"{FLIGHTS}::test_one_boards_a_flight_that_the_others_ride_until_it_has_ended"],
    ),
    Break(
        "two reads past the cache at once",
        AREA,
        "            if before:\n                before.wait(None)\n",
        "",
        [f"{ASIDE}::test_shared_reads_begin_after_all_who_share_them_have_asked"],
    ),
    Break(
        "nobody refreshes ahead",
        AREA,
        "return left_ms is not None and left_ms < _refresh_window_ms(entry)",
        "return False",
        [f"{ASIDE}::test_one_request_refreshes_ahead_while_others_are_served"],
    ),
    Break(
        "all refresh ahead at once",
        AREA,
        "for place = 3, ARGV[4] == '0' and #KEYS or 0 do",
        "if true then",
        [f"{ASIDE}::test_one_request_refreshes_ahead_while_others_are_served"],
    ),
    Break(
        "waiting is not in ever longer pauses",
        AREA,
        "pause = max(min(pause * 1.5, LONGEST_PAUSE_SECONDS), spent)",
        "pause = max(pause, spent)",
        [f"{ASIDE}::test_waiting_does_not_spin"],
    ),
    Break(
        "pauses grow without end",
        AREA,
        "pause = max(min(pause * 1.5, LONGEST_PAUSE_SECONDS), spent)",
        "pause = max(pause * 1.5, spent)",
        [f"{ASIDE}::test_waiting_does_not_spin"],
    ),
    Break(
        "who waited counts as who filled",
        AREA,
        "if fetched and fetched.outcome in (Outcome.MISS, Outcome.REFRESH):",
        "if False:",
        [f"{ASIDE}::test_threads_of_one_process_share_a_fill"],
    ),
]
