"""Breaks of the copies of sessions in Redis, and of their circuit breaker."""

from tests.mutations import Break

AREA = "sessions"
SESSIONS = "tests/test_sessions.py"

BREAKS = [
    Break(
        "a session's copy is not noted in an outage",
        AREA,
        "        cache_of().outage.leave_outdated(whole_key)\n        return False",
        "        return False",
        [f"{SESSIONS}::test_a_logout_in_an_outage_is_made_up_for_after_it"],
    ),
    Break(
        "a reader stores whatever has been deleted meanwhile",
        AREA,
        "if redis.call('MGET', KEYS[1])[1] ~= ARGV[1] then return 0 end",
        "",
        [f"{SESSIONS}::test_a_slow_reader_puts_nothing_back_that_has_changed"],
    ),
    Break(
        "a writer stores what a logout has deleted meanwhile",
        AREA,
        "        self._cache.delete(self.cache_key)",
        "        self._cache.set(self.cache_key, self._session, self.get_expiry_age())",
        [f"{SESSIONS}::test_a_slow_writer_puts_nothing_back_after_a_logout"],
    ),
    Break(
        "a changed session keeps its copy",
        AREA,
        "        self._cache.delete(self.cache_key)",
        "        pass",
        [f"{SESSIONS}::test_a_slow_reader_puts_nothing_back_that_has_changed"],
    ),
    Break(
        "a session's copy is changed in an outage",
        AREA,
        (
            "            if not cache_of().outage.is_open:\n"
            "                cache_of().outage.note_change"
        ),
        "            if True:\n                cache_of().outage.note_change",
        [f"{SESSIONS}::test_while_redis_is_left_alone_no_copy_is_read_or_written"],
    ),
    Break(
        "what another primary may not know is trusted",
        AREA,
        "cache_of().outage.note_change(whole_key)",
        "pass",
        [f"{SESSIONS}::test_copies_that_a_new_primary_may_not_know_are_deleted"],
    ),
    Break(
        "in an outage copies are looked for",
        AREA,
        "        if cache_of().outage.is_open:\n            return otherwise",
        "        if False:\n            return otherwise",
        [f"{SESSIONS}::test_while_redis_is_left_alone_no_copy_is_read_or_written"],
    ),
    Break(
        "each request waits for a Redis that fails",
        AREA,
        "            cache_of().outage.note_failure(error)\n            return otherwise",
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
