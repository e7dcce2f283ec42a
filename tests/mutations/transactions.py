"""Breaks of what sees writes in the SQL of a transaction, and of what reads the cache in one."""

import re

from tests.mutations import Break

EVENTS = "tests/test_events.py"
FRESHNESS = "tests/test_freshness.py"
SQL = "tests/test_sql_statements.py"
TRANSACTIONS = "tests/freshcache/test_transactions.py"
HTTP_CACHING = "tests/test_http_caching.py"
VIEW_CACHING = "tests/test_view_caching.py"

COMMIT = """            try:
                return commit()
            finally:
                self.begun_by_sql = self.chains
                self.act(forget=not self.chains)"""

BREAKS = [
    Break(
        "set_autocommit is not watched",
        "transactions",
        '            ("set_autocommit", self._setting_autocommit),\n',
        "",
        [f"{FRESHNESS}::test_turning_autocommit_on_again_commits_and_is_seen"],
    ),
    Break(
        "commit is not watched",
        "transactions",
        '            ("commit", self._committing),\n',
        "",
        [
            f"{FRESHNESS}::test_writes_without_autocommit_are_seen_once_committed_and_not_stored_before"
        ],
    ),
    Break(
        "a statement counts only when it succeeds",
        "table watch",
        "            self.carried_out(effect, text, failed=True)\n",
        "",
        [f"{FRESHNESS}::test_a_statement_whose_answer_is_lost_is_seen"],
    ),
    Break(
        "statements that commit are not watched",
        "table watch",
        "if effect.commits or is_over or self.begun_by_sql:",
        "if is_over:",
        [f"{FRESHNESS}::test_a_commit_by_a_statement_is_seen_even_if_its_answer_is_lost"],
    ),
    Break(
        "REPLACE does not count",
        "table watch",
        'if verb in ("SELECT", "SHOW",',
        'if verb in ("REPLACE", "SELECT", "SHOW",',
        [f"{FRESHNESS}::test_raw_sql_that_may_write_is_seen"],
    ),
    Break(
        "REPLACE behind WITH does not count",
        "table watch",
        '"DELETE", "REPLACE", "WITH",',
        '"DELETE", "WITH",',
        [SQL],
    ),
    Break(
        "what begins by reading never writes",
        "table watch",
        'if vendor == "sqlite" and text.startswith("SELECT ") and ";" not in text:',
        'if text.startswith("SELECT "):',
        [SQL],
    ),
    Break(
        "a stored function writes nothing",
        "table watch",
        "if _calls_functions(statement):",
        "if False:",
        ["tests/test_sql_statements.py"],
    ),
    Break(
        "a long text is known by how it begins",
        "table watch",
        "if known != text:",
        "if not known:",
        [
            "tests/test_sql_statements.py::test_a_long_text_is_not_taken_for_another_one_of_its_length"
        ],
    ),
    Break(
        "a comment hides what a statement is",
        "table watch",
        'elif kind not in ("comment", "space"):',
        'elif kind != "space":',
        [SQL],
    ),
    Break(
        "only new connections are watched",
        "table watch",
        "for connection in connections.all(initialized_only=True):\n        _watch(",
        "for connection in list[Any]():\n        _watch(",
        [f"{FRESHNESS}::test_connections_that_are_there_and_new_ones_are_watched"],
    ),
    Break(
        "only connections that are there are watched",
        "table watch",
        "    connection_created.connect(_watch)\n    for ",
        "    for ",
        [f"{FRESHNESS}::test_connections_that_are_there_and_new_ones_are_watched"],
    ),
    Break(
        "a connection that opens again is watched twice",
        "table watch",
        "if watched := _watched(connection):\n        watched.has_set",
        "if False and (watched := _watched(connection)):\n        watched.has_set",
        [f"{FRESHNESS}::test_a_connection_that_opens_again_is_watched_once"],
    ),
    Break(
        "what SQL has said of isolation is not looked at",
        "transactions",
        "self.has_set_isolation |= effect.isolates or effect.after is After.OPEN",
        "pass",
        [f"{TRANSACTIONS}::test_a_transaction_that_sql_has_isolated_stores_nothing"],
    ),
    Break(
        "what a load has written in a transaction is stored",
        "transactions",
        "            raise LoadHasWritten(body)",
        "            pass",
        [f"{TRANSACTIONS}::test_a_load_that_writes_in_a_transaction_stores_nothing"],
    ),
    Break(
        "a transaction at any level fills the cache",
        "transactions",
        'level == "read committed" and not',
        "not",
        [f"{TRANSACTIONS}::test_a_connection_that_is_set_to_another_level_stores_nothing"],
    ),
    Break(
        "the watch goes with somebody else's wrapper",
        "table watch",
        re.compile(r"(last one away\.\n +connection\.execute_wrappers)\.insert\(0, self\._see\)"),
        r"\1.append(self._see)",
        [f"{FRESHNESS}::test_a_write_after_somebody_elses_execute_wrapper_is_seen"],
    ),
    Break(
        "a commit counts only when it succeeds",
        "transactions",
        COMMIT,
        "            result = commit()\n            self.act(forget=True)\n            return result",
        [f"{FRESHNESS}::test_a_commit_whose_answer_is_lost_is_seen"],
    ),
    Break(
        "forgotten before the commit",
        "transactions",
        COMMIT,
        "            self.act(forget=True)\n            return commit()",
        [f"{FRESHNESS}::test_who_reads_during_a_commit_does_not_keep_what_it_replaces"],
    ),
    Break(
        "notes stay after their commit",
        "transactions",
        "if not (isinstance(entry[1], Note) and entry[1].watch is self)",
        "",
        [f"{FRESHNESS}::test_a_transaction_that_writes_many_rows_forgets_once"],
    ),
    Break(
        "a write counts before its transaction has committed",
        "transactions",
        "        is_over = not self.is_open()\n",
        "        is_over = True\n",
        [f"{FRESHNESS}::test_a_rolled_back_write_keeps_the_entry[save]"],
    ),
    Break(
        "a write rolled back to a savepoint counts",
        "transactions",
        "note = (set(connection.savepoint_ids), Note(self, what), False)",
        "note = (set(), Note(self, what), False)",
        [f"{FRESHNESS}::test_a_write_rolled_back_to_a_savepoint_keeps_the_entry[save]"],
    ),
    Break(
        "what another writes in a save that fails is lost",
        "table watch",
        (
            "            if seen.connection:\n"
            "                self.note(None, seen.connection)\n"
            "            raise"
        ),
        "            raise",
        [f"{EVENTS}::test_what_somebody_else_writes_during_a_save_that_fails_is_announced"],
    ),
    Break(
        "a transaction that wrote is served what is cached",
        "transactions",
        "        if registry.is_disabled() or self.has_written():",
        "        if registry.is_disabled():",
        [f"{FRESHNESS}::test_a_transaction_that_wrote_reads_its_own_writes"],
    ),
    Break(
        "what a transaction reads is stored",
        "transactions",
        "may_store = not self.may_see_the_past()",
        "may_store = True",
        [f"{FRESHNESS}::test_what_a_transaction_without_autocommit_reads_is_not_stored"],
    ),
    Break(
        "a transaction may keep what it makes of products",
        "transactions",
        "if self.in_transaction() or not runtime.is_redis(self.using):",
        "if not runtime.is_redis(self.using):",
        [f"{FRESHNESS}::test_a_transaction_keeps_nothing_that_it_makes_of_products"],
    ),
    Break(
        "a view's own lifetime is ignored",
        "expiry",
        "        if isinstance(ttl, _Unset):\n            return own",
        "        return own",
        [f"{VIEW_CACHING}::test_no_lifetime_is_longer_than_cache_ttl"],
    ),
    Break(
        "a view may live longer than CACHE_TTL",
        "expiry",
        "return min((one for one in (ttl, own) if one is not None), default=None)",
        "return ttl",
        [f"{VIEW_CACHING}::test_no_lifetime_is_longer_than_cache_ttl"],
    ),
    Break(
        "a database that is down is an error of the server",
        "outage",
        "        return database.call(function)",
        "        return function()",
        [f"{HTTP_CACHING}::test_a_stale_list_says_how_long_it_has_been_stale"],
    ),
]
