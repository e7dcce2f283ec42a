"""Breaks of baskets, and of what becomes of them at signing in."""

from tests.mutations import Break

AREA = "baskets"
BASKET = "tests/test_basket.py"

BREAKS = [
    Break(
        "a merge replaces quantities",
        AREA,
        "redis.call('HINCRBY', into, line.product, line.quantity)",
        "redis.call('HSET', into, line.product, line.quantity)",
        [f"{BASKET}::test_signing_in_adds_the_anonymous_basket_to_the_users"],
    ),
    Break(
        "a merge goes past the highest quantity",
        AREA,
        "    if sum > tonumber(ARGV[1]) then redis.call('HSET', into, line.product, ARGV[1]) end\n",
        "",
        [f"{BASKET}::test_signing_in_adds_the_anonymous_basket_to_the_users"],
    ),
    Break(
        "a basket is merged again with each login",
        AREA,
        "redis.call('DEL', from)\n",
        "",
        [f"{BASKET}::test_signing_in_adds_the_anonymous_basket_to_the_users"],
    ),
    Break(
        "a merge goes past the most lines",
        AREA,
        "  if not is_new or room > 0 then",
        "  if true then",
        [f"{BASKET}::test_of_more_than_100_lines_the_users_and_then_the_lowest_ids_stay"],
    ),
    Break(
        "a full basket takes no more of what it has",
        AREA,
        "  if not is_new or room > 0 then",
        "  if room > 0 then",
        [f"{BASKET}::test_a_full_basket_still_takes_more_of_what_it_has"],
    ),
    Break(
        "any lines of a merge stay",
        AREA,
        "table.sort(lines, function(a, b) return tonumber(a.product) < tonumber(b.product) end)\n",
        "",
        [f"{BASKET}::test_of_more_than_100_lines_the_users_and_then_the_lowest_ids_stay"],
    ),
    Break(
        "a merge does not renew the lifetime",
        AREA,
        "redis.call('EXPIRE', into, ARGV[3])\n",
        "",
        [f"{BASKET}::test_a_merge_renews_the_lifetime_and_nothing_to_merge_changes_nothing"],
    ),
    Break(
        "an empty merge renews the lifetime",
        AREA,
        "if #found == 0 then return end\n",
        "",
        [f"{BASKET}::test_a_merge_renews_the_lifetime_and_nothing_to_merge_changes_nothing"],
    ),
    Break(
        "a login lasts as long as a basket",
        AREA,
        "    session.set_expiry(None)  #",
        "    pass  #",
        [f"{BASKET}::test_a_login_does_not_last_as_long_as_a_basket"],
    ),
    Break(
        "a basket begun before signing in is left behind",
        AREA,
        "    try:\n        basket_lines.merge(",
        "    try:\n        max(",
        [f"{BASKET}::test_signing_in_adds_the_anonymous_basket_to_the_users"],
    ),
    Break(
        "what Redis could not merge is not brought along later",
        AREA,
        "        basket_lines.merge(keys.anonymous_basket_key(begun_under), user_key)",
        "        pass",
        [f"{BASKET}::test_signing_in_goes_on_without_redis_and_the_basket_is_brought_along_later"],
    ),
    Break(
        "without Redis nobody signs in",
        AREA,
        "    except Unavailable:\n        return  # `_key` does it later.",
        "    except KeyError:\n        return  # `_key` does it later.",
        [f"{BASKET}::test_signing_in_goes_on_without_redis_and_the_basket_is_brought_along_later"],
    ),
    Break(
        "what was merged is tried again",
        AREA,
        "    del session[SESSION_ENTRY]\n",
        "",
        [f"{BASKET}::test_signing_in_adds_the_anonymous_basket_to_the_users"],
    ),
    Break(
        "a basket has lines without bound",
        AREA,
        "and redis.call('HLEN', basket) >= tonumber(ARGV[3]) then",
        "and false then",
        [f"{BASKET}::test_tabs_that_fill_the_basket_at_once_do_not_go_past_the_limit"],
    ),
    Break(
        "a full basket's lines cannot be changed",
        AREA,
        "if redis.call('HEXISTS', basket, product) == 0 and",
        "if",
        [f"{BASKET}::test_the_101st_line_is_a_400_that_says_so"],
    ),
    Break(
        "a basket prolongs the login of a deactivated user",
        AREA,
        "    session.clear()  #",
        "    pass  #",
        [
            f"{BASKET}::test_the_basket_of_a_user_who_has_been_deactivated_does_not_prolong_the_login"
        ],
    ),
]
