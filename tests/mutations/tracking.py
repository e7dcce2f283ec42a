"""Breaks of what a process hears of changes, and of when it has heard all."""

from tests.mutations import Break

AREA = "tracking"
COPIES = "tests/test_copies.py"

BREAKS = [
    Break(
        "only changes of entries are announced",
        AREA,
        "for prefix in self._prefixes() for part",
        "for prefix in self._prefixes()[:1] for part",
        ["tests/test_aside.py::test_a_write_of_another_process_is_announced"],
    ),
    Break(
        "all is known until a ping is answered",
        AREA,
        "self.complete_until = asked_at",
        "self.complete_until = time.monotonic()",
        [f"{COPIES}::test_all_is_known_from_before_a_ping_was_sent_not_until_it_is_answered"],
    ),
    Break(
        "copies are served however long nothing was heard",
        AREA,
        "if now - self.complete_until < self._max_lag_seconds:",
        "if self.complete_until > NEVER:",
        [f"{COPIES}::test_a_line_that_goes_dead_ends_the_serving_within_the_lag"],
    ),
    Break(
        "a process that serves nothing tracks on",
        AREA,
        "while time.monotonic() - self._used_at < IDLE_SECONDS:\n                self._check",
        "while True:\n                self._check",
        [f"{COPIES}::test_a_process_that_serves_nothing_tracks_nothing"],
    ),
    Break(
        "a lost connection leaves the copies",
        AREA,
        ("            self.complete_until = NEVER\n            self._listener.forget_all()\n"),
        "            self.complete_until = NEVER\n",
        [f"{COPIES}::test_a_lost_connection_drops_all_copies_and_is_made_anew"],
    ),
    Break(
        "a flush is not heard of",
        AREA,
        (
            "        if keys is None:  # The whole database has been flushed.\n"
            "            self._listener.forget_all()"
        ),
        ("        if keys is None:  # The whole database has been flushed.\n            pass"),
        [f"{COPIES}::test_what_changes_in_redis_is_dropped"],
    ),
    Break(
        "names are not told from their prefix",
        AREA,
        "return next((key.removeprefix(one) for one in self._prefixes() if key.startswith(one)), key)",
        "return key",
        [f"{COPIES}::test_what_changes_in_redis_is_dropped"],
    ),
]
