"""Breaks of the copies of sessions in Redis, and of their circuit breaker."""

from tests.mutations import Break

AREA = "sessions"
SESSIONS = "tests/test_sessions.py"

BREAKS = [
    Break(
        "a session's copy is not noted in an outage",
        AREA,
        (
            "        process_cache.outage.leave_outdated(str(self.make_key(key)))\n"
            "        return False"
        ),
        "        return False",
        [f"{SESSIONS}::test_a_logout_in_an_outage_is_made_up_for_after_it"],
    ),
    Break(
        "a session's copy that could not be replaced is kept",
        AREA,
        "lambda: RedisCache.set(self, key, value, *args, **kwargs)",
        "lambda: GuardedCache.set(self, key, value, *args, **kwargs)",
        [f"{SESSIONS}::test_a_copy_that_could_not_be_changed_is_deleted_after_the_outage"],
    ),
    Break(
        "a session's copy is changed in an outage",
        AREA,
        (
            "            if not process_cache.outage.lasts:\n"
            "                process_cache.outage.note_change"
        ),
        "            if True:\n                process_cache.outage.note_change",
        [f"{SESSIONS}::test_while_redis_is_left_alone_no_copy_is_read_or_written"],
    ),
    Break(
        "what another primary may not know is trusted",
        AREA,
        "process_cache.outage.note_change(str(self.make_key(key)))",
        "pass",
        [f"{SESSIONS}::test_copies_that_a_new_primary_may_not_know_are_deleted"],
    ),
    Break(
        "in an outage copies are looked for",
        AREA,
        "        if process_cache.outage.lasts:\n            return otherwise",
        "        if False:\n            return otherwise",
        [f"{SESSIONS}::test_while_redis_is_left_alone_no_copy_is_read_or_written"],
    ),
    Break(
        "each request waits for a Redis that fails",
        AREA,
        "            process_cache.outage.note_failure(error)\n            return otherwise",
        "            return otherwise",
        [f"{SESSIONS}::test_who_finds_redis_gone_has_it_left_alone"],
    ),
    Break(
        "whether a session is there is an error of the server",
        AREA,
        "return bool(self._ask(lambda: super(SessionCache, self).has_key(key), otherwise=False))",
        "return bool(self.has_key(key))",
        [f"{SESSIONS}::test_who_finds_redis_gone_has_it_left_alone"],
    ),
]
