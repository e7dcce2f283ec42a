"""Breaks of what a client that has written, or was told of a write, may rely on."""

from tests.mutations import Break

AREA = "own writes"
EVENTS = "tests/test_events.py"
OWN_WRITES = "tests/test_own_writes.py"
COSTS = f"{OWN_WRITES}::test_a_token_costs_one_look_in_redis_and_no_query"
GARBAGE = f"{OWN_WRITES}::test_what_is_no_token_is_not_kept_and_no_copy_satisfies_it"
OUTLIVES = (
    f"{OWN_WRITES}::test_the_answer_to_a_write_brings_a_token_that_outlives_the_lag_of_copies"
)
NOT_HEARD_OF = f"{OWN_WRITES}::test_who_brings_a_token_is_served_what_this_process_has_not_heard_of"
OLDER = f"{OWN_WRITES}::test_no_copy_from_before_a_token_came_is_served_to_who_brings_it"

BREAKS = [
    Break(
        "a copy from before the token came is served",
        AREA,
        "            if copy.read_at < no_older_than:\n                return None\n",
        "",
        [OLDER],
    ),
    Break(
        "any copy satisfies what is no token",
        AREA,
        'return float("inf")',
        "return NEVER",
        [GARBAGE],
    ),
    Break(
        "all tokens that strangers make up are kept",
        AREA,
        "            while len(self._came_at) > MOST_TOKENS:\n",
        "            while False:\n",
        [f"{OWN_WRITES}::test_tokens_are_bounded_and_one_that_comes_again_counts_as_new"],
    ),
    Break(
        "a token counts from when it came last",
        AREA,
        "came_at = self._came_at.setdefault(token, now)",
        "came_at = self._came_at[token] = now",
        [COSTS],
    ),
    Break(
        "a copy does not tell when it was read",
        AREA,
        "expires_at, self._refill, read_at)",
        "expires_at, self._refill)",
        [COSTS],
    ),
    Break(
        "a copy that was looked at again is replaced by the same",
        AREA,
        "if kept and kept.entry == copy.entry and name not in self._outdated:",
        "if False:",
        [OLDER],
    ),
    Break(
        "hits ahead of Django look at no token",
        AREA,
        "find_local(kind.served.query, self._tokens(environ))",
        "find_local(kind.served.query)",
        [NOT_HEARD_OF],
    ),
    Break(
        "hits through Django look at no token",
        AREA,
        "tokens = tokens_of_writes.get()",
        "tokens: tuple[str, ...] = ()",
        [NOT_HEARD_OF],
    ),
    Break(
        "what an event has brought is not looked at",
        AREA,
        "    if HEADER in environ:\n",
        "    if False:\n",
        [NOT_HEARD_OF],
    ),
    Break(
        "who signs in with each request is served copies",
        AREA,
        '    if "HTTP_AUTHORIZATION" in environ:\n',
        "    if False:\n",
        [f"{OWN_WRITES}::test_garbage_costs_a_look_in_redis_each_time_and_nothing_else"],
    ),
    Break(
        "all writes bring the same token",
        AREA,
        "            new_token(),\n",
        '            "5" * 32,\n',
        [OUTLIVES],
    ),
    Break(
        "the cookie of a write ends before copies are new",
        AREA,
        "max_age=math.ceil(max(lags)) + 1,",
        "max_age=1,",
        [OUTLIVES],
    ),
    Break(
        "all events have the same token",
        AREA,
        '"seen": new_token()',
        '"seen": "5" * 32',
        [f"{EVENTS}::test_a_product_that_is_saved_or_deleted_makes_an_event_with_what_it_is"],
    ),
    Break(
        "who is told that an import is done reads what was before it",
        AREA,
        "    remember_write(response)\n    return response\n",
        "    return response\n",
        [f"{OWN_WRITES}::test_who_is_told_how_far_an_import_has_come_finds_its_products"],
    ),
]
