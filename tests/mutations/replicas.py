"""Breaks of which reads a replica may answer, and when."""

from tests.mutations import Break

AREA = "replicas"
REPLICAS = "tests/test_replicas.py"

BREAKS = [
    Break(
        "a fill reads a replica",
        AREA,
        "token = _is_loading.set(True)",
        "token = _is_loading.set(False)",
        [f"{REPLICAS}::test_a_fill_reads_the_primary"],
    ),
    Break(
        "in the middle of a late read the cache is filled from its replica",
        AREA,
        "(None if is_loading() else _read_from.get())",
        "_read_from.get()",
        [f"{REPLICAS}::test_a_fill_inside_a_late_read_reads_the_primary"],
    ),
    Break(
        "every read may be late",
        AREA,
        'ContextVar("may_be_late", default=False)',
        'ContextVar("may_be_late", default=True)',
        [f"{REPLICAS}::test_only_a_read_that_may_be_late_is_sent_to_a_replica"],
    ),
    Break(
        "a transaction reads a replica",
        AREA,
        "_may_be_late.get() and not watched_connections.in_transaction()",
        "_may_be_late.get()",
        [f"{REPLICAS}::test_a_transaction_reads_the_primary"],
    ),
    Break(
        "who has written reads replicas",
        AREA,
        "found = OURS.findall(cookies) if COOKIE in cookies else []",
        "found: list[str] = []",
        [f"{REPLICAS}::test_who_has_written_or_signs_in_with_each_request_reads_the_primary"],
    ),
    Break(
        "who keeps no cookies reads replicas",
        AREA,
        '    if "HTTP_AUTHORIZATION" in environ:\n',
        "    if False:\n",
        [f"{REPLICAS}::test_who_has_written_or_signs_in_with_each_request_reads_the_primary"],
    ),
    Break(
        "a write is not remembered",
        AREA,
        "            remember_write(response)\n        return response",
        "            pass\n        return response",
        [
            f"{REPLICAS}::test_a_write_reads_the_primary_and_is_remembered_for_longer_than_replicas_lag"
        ],
    ),
    Break(
        "a write is remembered for less than replicas lag",
        AREA,
        "*([settings.MYSQL_REPLICA_MAX_LAG] if settings.MYSQL_REPLICA_HOST else []),",
        "*([0.0] if settings.MYSQL_REPLICA_HOST else []),",
        [
            f"{REPLICAS}::test_a_write_reads_the_primary_and_is_remembered_for_longer_than_replicas_lag"
        ],
    ),
    Break(
        "a replica that fails is asked again by everybody",
        AREA,
        "            replica.fail(error)\n        else:",
        "            pass\n        else:",
        [f"{REPLICAS}::test_a_replica_that_is_down_is_left_alone_until_it_has_proved_itself"],
    ),
    Break(
        "a query that fails takes the replica with it",
        AREA,
        "            if replica.answers():\n                break",
        "            if False:\n                break",
        [f"{REPLICAS}::test_a_query_that_fails_on_a_replica_is_asked_of_the_primary"],
    ),
    Break(
        "a replica that has proved nothing is read",
        AREA,
        "return time.monotonic() - self._proved_at < self._max_lag_seconds",
        "return True",
        [f"{REPLICAS}::test_a_proof_counts_from_when_the_primary_was_asked"],
    ),
    Break(
        "a proof counts from when it came",
        AREA,
        "self._proved_at = asked_at",
        "self._proved_at = time.monotonic()",
        [f"{REPLICAS}::test_a_proof_counts_from_when_the_primary_was_asked"],
    ),
    Break(
        "a proof from before a failure counts",
        AREA,
        "if is_there and asked_at > self._failed_at:",
        "if is_there:",
        [f"{REPLICAS}::test_a_proof_from_before_a_failure_does_not_count"],
    ),
    Break(
        "a replica that does not catch up is read",
        AREA,
        "if is_there and asked_at > self._failed_at:",
        "if asked_at > self._failed_at:",
        [f"{REPLICAS}::test_a_replica_that_does_not_catch_up_is_not_read"],
    ),
    Break(
        "a broken connection is used again",
        AREA,
        '        if getattr(self._seen, "failures", 0) != self._failures:',
        "        if False:",
        [f"{REPLICAS}::test_after_a_failure_each_thread_renews_its_connection"],
    ),
]
