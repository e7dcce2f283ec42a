"""Breaks of what keeps a process that waits for a core from blaming others."""

from tests.mutations import Break

AREA = "starvation"
CLOCK = "tests/test_process_clock.py"

BREAKS = [
    Break(
        "the process' clock goes on while it is late",
        AREA,
        "return now - late - (max(0.0, now - due) if due is not None else 0.0)",
        "return now",
        [f"{CLOCK}::test_the_clock_stands_still_while_the_interpreter_is_held"],
    ),
    Break(
        "a clock that nobody asks ticks on",
        AREA,
        "while due - self._used_at < IDLE_SECONDS:",
        "while True:",
        [f"{CLOCK}::test_a_clock_that_nobody_asks_ends_its_thread_and_begins_again"],
    ),
    Break(
        "lateness is not counted",
        AREA,
        "metrics.late_seconds.observe(late_by := max(0.0, woke - due))",
        "late_by = max(0.0, woke - due)",
        [f"{CLOCK}::test_how_late_it_is_can_be_seen_from_outside"],
    ),
    Break(
        "a timeout while the process is late counts as a try",
        AREA,
        "was_late = isinstance(error, RedisTimeoutError) and watch.was_late",
        "was_late = False",
        [f"{CLOCK}::test_a_timeout_while_this_process_was_late_is_neither_slow_nor_an_outage"],
    ),
    Break(
        "a ping that the process was late for opens a circuit",
        AREA,
        "            if not watch.was_late:\n                raise\n",
        "            raise\n",
        [f"{CLOCK}::test_a_ping_that_this_process_was_late_for_opens_no_circuit"],
    ),
    Break(
        "what times out is asked again though the process is in time",
        AREA,
        "            if not watch.was_late:\n                raise\n",
        "            pass\n",
        [f"{CLOCK}::test_a_call_that_fails_in_good_time_is_not_repeated"],
    ),
    Break(
        "a budget is spent by the process' own lateness",
        AREA,
        "self._spent_seconds += watch.own_seconds",
        "self._spent_seconds += time.monotonic() - started",
        [f"{CLOCK}::test_a_budget_is_not_spent_by_this_process_own_lateness"],
    ),
    Break(
        "who is over budget on a busy machine reads the database",
        AREA,
        "return self._watch.was_late and process_clock.now() < self._deadline",
        "return False",
        [f"{CLOCK}::test_who_is_over_budget_while_this_process_is_late_goes_on"],
    ),
    Break(
        "who leads and is over budget leaves the others to read",
        AREA,
        "return self._go_past(error)  # for all who ride along: nobody has to ask again",
        "raise",
        [f"{CLOCK}::test_who_leads_and_is_over_budget_reads_for_all_who_wait"],
    ),
    Break(
        "who has loaded and is over budget does not store",
        AREA,
        "place = self._ask(",
        "place = self.ask(",
        ["tests/test_aside.py::test_who_has_loaded_stores_whatever_redis_has_taken_before"],
    ),
    Break(
        "a filler that is late loses its claim",
        AREA,
        "if left > 0 and ends_at - self._ends_at > self.seconds * LATE_PART:",
        "if False:",
        [f"{CLOCK}::test_a_filler_that_is_late_keeps_its_claim_for_so_much_longer"],
    ),
    Break(
        "a filler that hangs keeps its claim",
        AREA,
        "if left > 0 and ends_at - self._ends_at > self.seconds * LATE_PART:",
        "if True:",
        [f"{CLOCK}::test_a_filler_that_hangs_does_not_keep_its_claim"],
    ),
    Break(
        "another's claim is extended",
        AREA,
        "if redis.call('MGET', KEYS[1])[1] == ARGV[1] then\n  redis.call('SET'",
        "if true then\n  redis.call('SET'",
        [f"{CLOCK}::test_only_the_claim_of_the_token_is_extended"],
    ),
]
