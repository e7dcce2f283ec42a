"""Breaks of what bridges an outage, of Redis or of the source, without serving what may be old."""

from tests.mutations import Break

AREA = "outage"
ASIDE = "tests/test_aside.py"
BREAKER = "tests/test_breaker.py"
SESSIONS = "tests/test_sessions.py"

BREAKS = [
    Break(
        "no last good value",
        AREA,
        ("            if stale := self._last_good():\n                return stale\n"),
        "",
        [f"{ASIDE}::test_the_last_good_value_bridges_an_outage_of_the_source"],
    ),
    Break(
        "stale is served for any exception",
        AREA,
        "        except Unavailable:\n            if stale",
        "        except Exception:\n            if stale",
        [f"{ASIDE}::test_the_last_good_value_bridges_nothing_but_an_outage_of_the_source"],
    ),
    Break(
        "the stale copy of another query is served",
        AREA,
        "read_stale(self.item.names, self.item.query)",
        "read_stale(self.item.names, None)",
        [f"{ASIDE}::test_the_last_good_value_of_another_query_bridges_nothing"],
    ),
    Break(
        "stale is served though it is turned off",
        AREA,
        "if not self.item.stale_seconds or self.shared.outage.is_open:",
        "if self.shared.outage.is_open:",
        [f"{ASIDE}::test_the_last_good_value_bridges_nothing_but_an_outage_of_the_source"],
    ),
    Break(
        "what Redis held before its outage is served",
        AREA,
        "if not self.item.stale_seconds or self.shared.outage.is_open:",
        "if not self.item.stale_seconds:",
        [f"{ASIDE}::test_what_redis_held_before_an_outage_of_both_bridges_nothing"],
    ),
    Break(
        "the last good value is served compressed",
        AREA,
        'if header["compressed"]:',
        "if False:",
        [f"{ASIDE}::test_the_last_good_value_bridges_an_outage_of_the_source"],
    ),
    Break(
        "a failing Redis is asked again",
        AREA,
        "        self.shared.outage.note_failure(error)\n        return self._shared_load(",
        "        return self._shared_load(",
        [f"{ASIDE}::test_redis_failing_at_any_step_ends_in_an_answer_from_the_source"],
    ),
    Break(
        "a Redis that cannot store is asked again",
        AREA,
        "            self._leave_claim(error, generation, token)\n            place",
        "            place",
        [f"{ASIDE}::test_redis_failing_at_any_step_ends_in_an_answer_from_the_source"],
    ),
    Break(
        "reads ask Redis in an outage",
        AREA,
        ('if self.shared.outage.is_open:\n            return self._shared_load("cache-down")'),
        'if False:\n            return self._shared_load("cache-down")',
        [f"{ASIDE}::test_in_an_outage_redis_is_left_alone"],
    ),
    Break(
        "writes ask Redis in an outage",
        AREA,
        "if self.outage.has_pending_invalidations:  # Redis will be told of everything.",
        "if False:",
        [f"{ASIDE}::test_in_an_outage_redis_is_left_alone"],
    ),
    Break(
        "generations are asked for in an outage",
        AREA,
        (
            "        if self.outage.is_open:\n"
            "            return None\n"
            "        try:\n"
            "            return self.outage"
        ),
        "        try:\n            return self.outage",
        [f"{ASIDE}::test_in_an_outage_redis_is_left_alone"],
    ),
    Break(
        "a busy pool counts as an outage",
        AREA,
        "if isinstance(error, NotThisTime) or (is_refusal",
        "if (is_refusal",
        [f"{ASIDE}::test_all_connections_in_use_is_no_outage"],
    ),
    Break(
        "the budget for Redis has no end",
        AREA,
        "if not self._has_room(self._spent_seconds + self.limits.command_seconds):",
        "if False:",
        [f"{ASIDE}::test_a_request_over_its_budget_reads_the_source"],
    ),
    Break(
        "what was spent on Redis is not added up",
        AREA,
        "self._spent_seconds += watch.own_seconds",
        "self._spent_seconds = 0.0",
        [f"{ASIDE}::test_a_refresh_that_is_over_budget_leaves_the_entry_served"],
    ),
    Break(
        "a lost invalidation is not noted",
        AREA,
        "self._invalidation_lost |= invalidation_lost\n",
        "pass\n",
        [f"{ASIDE}::test_a_write_that_no_connection_was_free_for_is_made_up_for"],
    ),
    Break(
        "an invalidation is forgotten when a try fails",
        AREA,
        "self._invalidation_lost |= owed\n",
        "pass\n",
        [f"{ASIDE}::test_a_lost_invalidation_is_made_up_for_before_the_cache_is_used_again"],
    ),
    Break(
        "an invalidation lost on the way back is forgotten",
        AREA,
        "if self._invalidation_lost or self._outdated:  # since these were made up for",
        "if False:",
        [
            "tests/test_redis_outages.py::test_an_invalidation_that_gets_lost_on_the_way_back_is_not_forgotten"
        ],
    ),
    Break(
        "an outage ends without new generations",
        AREA,
        "                self._renew_all()\n",
        "                pass\n",
        [f"{ASIDE}::test_a_redis_that_takes_no_writes_forgets_all_the_same_and_is_left_alone"],
    ),
    Break(
        "a full Redis is not told to forget",
        AREA,
        "                self._forget_all()\n                owed = False\n",
        "                owed = False\n",
        [f"{ASIDE}::test_a_redis_that_takes_no_writes_forgets_all_the_same_and_is_left_alone"],
    ),
    Break(
        "an outage ends with what is cached from before it",
        AREA,
        "renews = owed or self._began is not None",
        "renews = owed",
        ["tests/test_blips.py::test_after_an_outage_nothing_from_before_it_is_served"],
    ),
    Break(
        "generations are renewed with NX after an outage",
        AREA,
        "self._key(keys.generation_key(region), keys.UNVERSIONED), new_token()\n",
        ("self._key(keys.generation_key(region), keys.UNVERSIONED), new_token(), nx=True\n"),
        [f"{ASIDE}::test_new_generations_alone_make_entries_be_forgotten"],
    ),
    Break(
        "old copies of sessions are not deleted",
        AREA,
        "                self._delete(key)\n",
        "                pass\n",
        [f"{SESSIONS}::test_a_copy_that_could_not_be_deleted_is_deleted_after_the_outage"],
    ),
    Break(
        "a session's copy is not noted for a failover",
        AREA,
        "                cache_of().outage.note_change(whole_key)\n",
        "",
        [f"{SESSIONS}::test_copies_that_a_new_primary_may_not_know_are_deleted"],
    ),
    Break(
        "what changed before a failover is not made up for",
        AREA,
        "self._outdated |= {key: None for at, key in list(self._changed) if at > since}",
        "pass",
        [f"{SESSIONS}::test_copies_that_a_new_primary_may_not_know_are_deleted"],
    ),
    Break(
        "sessions ask Redis in an outage",
        AREA,
        "if cache_of().outage.is_open:\n            return otherwise",
        "if False:\n            return otherwise",
        [f"{SESSIONS}::test_while_redis_is_left_alone_no_copy_is_read_or_written"],
    ),
    Break(
        "everybody tries what a breaker guards",
        AREA,
        "            self._next_try = self._clock() + RETRY_SECONDS\n            return True",
        "            return True",
        [f"{BREAKER}::test_one_call_a_second_tries_what_is_down_until_one_succeeds"],
    ),
    Break(
        "a failure does not open a breaker",
        AREA,
        "                self._open(error)\n",
        "",
        [f"{BREAKER}::test_one_call_a_second_tries_what_is_down_until_one_succeeds"],
    ),
    Break(
        "a breaker that is open never tries again",
        AREA,
        "if self._next_try is not None and self._clock() < self._next_try:",
        "if self._next_try is not None:",
        [f"{BREAKER}::test_one_call_a_second_tries_what_is_down_until_one_succeeds"],
    ),
    Break(
        "success does not close a breaker",
        AREA,
        "        self._close()\n        return result",
        "        return result",
        [f"{BREAKER}::test_one_call_a_second_tries_what_is_down_until_one_succeeds"],
    ),
    Break(
        "an answer does not close a breaker",
        AREA,
        "            if verdict is Verdict.ANSWERED:\n                self._close()\n",
        "",
        [f"{BREAKER}::test_whatever_was_answered_closes_a_breaker_that_is_half_open"],
    ),
    Break(
        "any exception is an outage",
        AREA,
        "            if not isinstance(error, self._failures):\n                raise\n",
        "",
        [f"{BREAKER}::test_an_answer_that_is_no_failure_reaches_the_caller"],
    ),
    Break(
        "the one who tries is refused a second question",
        AREA,
        'if getattr(self._local, "is_inside", False):',
        "if False:",
        [f"{BREAKER}::test_the_one_call_that_tries_may_ask_within_itself"],
    ),
]
