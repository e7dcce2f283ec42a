"""Breaks of the throttles of writes and of passwords."""

import re

from tests.mutations import Break

AREA = "throttles"
SIGN_IN = "tests/test_sign_in.py"
THROTTLING = "tests/test_throttling.py"

BREAKS = [
    Break(
        "names can be read in the keys of throttles",
        AREA,
        'return salted_hmac("store.keys", who, algorithm="sha256").hexdigest()[:32]',
        "return who",
        [f"{THROTTLING}::test_no_name_or_address_can_be_read_in_a_key"],
    ),
    Break(
        "a throttle counts nothing",
        AREA,
        "  redis.call('ZADD', key, now, attempt)\n",
        "",
        [f"{THROTTLING}::test_past_the_limit_it_says_when_there_is_room_again"],
    ),
    Break(
        "a throttle never refuses",
        AREA,
        "if wait_ms > 0 then return wait_ms end\n",
        "",
        [f"{THROTTLING}::test_past_the_limit_it_says_when_there_is_room_again"],
    ),
    Break(
        "what has left the window is kept",
        AREA,
        "  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window_ms)\n",
        "",
        [f"{THROTTLING}::test_the_window_slides_and_has_no_edge_at_which_more_get_through"],
    ),
    Break(
        "a count is never gone",
        AREA,
        "  redis.call('PEXPIRE', key, window_ms)\n",
        "",
        [f"{THROTTLING}::test_a_count_is_gone_when_its_window_is_over"],
    ),
    Break(
        "one more than the limit",
        AREA,
        "if redis.call('ZCARD', key) >= limit then",
        "if redis.call('ZCARD', key) > limit then",
        [f"{THROTTLING}::test_of_many_at_once_no_more_than_the_limit_get_through"],
    ),
    Break(
        "there is room when the last attempt is over",
        AREA,
        "redis.call('ZRANGE', key, -limit, -limit, 'WITHSCORES')",
        "redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')",
        [f"{THROTTLING}::test_the_window_slides_and_has_no_edge_at_which_more_get_through"],
    ),
    Break(
        "what is refused is counted",
        AREA,
        (
            "if wait_ms > 0 then return wait_ms end\n"
            "for _, key in ipairs(KEYS) do\n"
            "  redis.call('ZADD', key, now, attempt)\n"
            "  redis.call('PEXPIRE', key, window_ms)\n"
            "end\n"
            "return 0"
        ),
        (
            "for _, key in ipairs(KEYS) do\n"
            "  redis.call('ZADD', key, now, attempt)\n"
            "  redis.call('PEXPIRE', key, window_ms)\n"
            "end\n"
            "return wait_ms"
        ),
        [f"{THROTTLING}::test_what_one_count_refuses_is_counted_nowhere"],
    ),
    Break(
        "attempts of one moment are one",
        AREA,
        "secrets.token_hex(8)",
        '""',
        [f"{THROTTLING}::test_past_the_limit_it_says_when_there_is_room_again"],
    ),
    Break(
        "nothing is given back",
        AREA,
        "                pipeline.zrem(key, counted.attempt)\n",
        "                pass\n",
        [f"{THROTTLING}::test_what_is_given_back_is_ones_own_and_may_be_done_again"],
    ),
    Break(
        "whoever is counted is given back",
        AREA,
        "pipeline.zrem(key, counted.attempt)",
        "pipeline.delete(key)",
        [f"{THROTTLING}::test_what_is_given_back_is_ones_own_and_may_be_done_again"],
    ),
    Break(
        "one IPv6 subscriber is many clients",
        AREA,
        "    64  # What one subscriber",
        "    128  # What one subscriber",
        [f"{THROTTLING}::test_a_client_is_an_ipv4_address_or_a_network_of_ipv6"],
    ),
    Break(
        "writes are not counted",
        AREA,
        'throttling.count(settings.THROTTLE_WRITES, keys.throttle_key("write", who), needed=False)',
        "pass",
        [f"{THROTTLING}::test_past_the_limit_a_write_is_429_with_retry_after_and_reading_goes_on"],
    ),
    Break(
        "reads are counted as writes",
        AREA,
        (
            "        if request.method in SAFE_METHODS:\n"
            "            return True\n"
            "        try:\n"
            "            count_write"
        ),
        "        try:\n            count_write",
        [f"{THROTTLING}::test_past_the_limit_a_write_is_429_with_retry_after_and_reading_goes_on"],
    ),
    Break(
        "users of one address share a count",
        AREA,
        'who = f"user {request.user.pk}" if request.user.pk else address',
        "who = address",
        [f"{THROTTLING}::test_each_user_has_a_count_of_their_own_wherever_they_are"],
    ),
    Break(
        "without Redis nobody may write",
        AREA,
        "    with suppress(Unavailable):\n        throttling.count",
        "    if True:\n        throttling.count",
        [f"{THROTTLING}::test_a_write_goes_on_without_redis"],
    ),
    Break(
        "without Redis passwords may be tried",
        AREA,
        "            raise SignInUnavailable(str(error)) from error",
        '            counted = throttling.Counted((), "")',
        [f"{SIGN_IN}::test_nobody_signs_in_while_attempts_cannot_be_counted"],
    ),
    Break(
        "async code tries passwords past the count",
        AREA,
        "    aauthenticate = BaseBackend.aauthenticate  # type: ignore[assignment]\n",
        "",
        [f"{SIGN_IN}::test_signing_in_from_async_code_is_counted_as_well"],
    ),
    Break(
        "passwords are looked at before they are counted",
        AREA,
        re.compile(
            r"( +try:\n +counted = _count\(.*\)\n +except .*\n +raise .*\n)"
            r"( +user = super\(\)\.authenticate\(.*\)\n)"
        ),
        r"\2\1",
        [f"{SIGN_IN}::test_while_a_password_is_looked_at_its_attempt_counts"],
    ),
    Break(
        "right passwords use up attempts",
        AREA,
        "            throttling.give_back(counted)",
        "            pass",
        [f"{SIGN_IN}::test_right_passwords_use_up_nothing"],
    ),
    Break(
        "others keep a user out",
        AREA,
        re.compile(r"if not throttling\.is_remembered\(.*\):"),
        "if True:",
        [
            f"{SIGN_IN}::test_nobody_is_kept_out_of_where_they_signed_in_before_by_others_who_try_their_name"
        ],
    ),
    Break(
        "each way of writing a name has attempts of its own",
        AREA,
        "name = _normalised(username)",
        "name = username",
        [
            f"{SIGN_IN}::test_a_name_written_in_other_ways_has_no_attempts_of_its_own_whether_anybody_has_it"
        ],
    ),
    Break(
        "many addresses try one name",
        AREA,
        'counted_under.append(keys.throttle_key("login-name", name))',
        "pass",
        [f"{SIGN_IN}::test_many_addresses_that_try_one_name_do_not_get_far"],
    ),
    Break(
        "one address tries many names",
        AREA,
        'counted_under = [keys.throttle_key("login-address", network)]',
        "counted_under: list[str] = []",
        [f"{SIGN_IN}::test_one_address_that_tries_many_names_does_not_get_far"],
    ),
]
