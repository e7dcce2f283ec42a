"""Breaks of what tells variants apart, and keeps their keys few."""

from tests.mutations import Break

AREA = "variants"
ASIDE = "tests/test_aside.py"
CACHE_HYGIENE = "tests/test_cache_hygiene.py"
LISTS = "tests/test_lists.py"
SHARED_SLOTS = "tests/test_shared_slots.py"

BREAKS = [
    Break(
        "as many keys as there are queries",
        AREA,
        "(max_variants - RESERVED_KEYS) // 2",
        "2**60",
        [f"{CACHE_HYGIENE}::test_the_bound_is_what_the_setting_says[10]"],
    ),
    Break(
        "twice as many keys as the setting says",
        AREA,
        "(max_variants - RESERVED_KEYS) // 2",
        "max_variants",
        [f"{CACHE_HYGIENE}::test_the_bound_is_what_the_setting_says[10]"],
    ),
    Break(
        "each process has slots of its own",
        AREA,
        "int.from_bytes(digest[:8]) % slots",
        "hash(query) % slots",
        [f"{CACHE_HYGIENE}::test_all_processes_agree_on_the_slot_of_a_query"],
    ),
    Break(
        "variants whose slots collide displace each other",
        AREA,
        "PLACES = 4",
        "PLACES = 1",
        [f"{SHARED_SLOTS}::test_queries_that_share_a_slot_or_a_group_all_hit"],
    ),
    Break(
        "an entry outside its own slot is not found",
        AREA,
        "if found == start:",
        "if False:",
        [f"{SHARED_SLOTS}::test_queries_that_share_a_slot_or_a_group_all_hit"],
    ),
    Break(
        "a copy outside its own slot is not found",
        AREA,
        "(self.find(name, query, tokens) for name in places)",
        "(self.find(name, query, tokens) for name in places[:1])",
        [f"{SHARED_SLOTS}::test_what_is_displaced_in_redis_is_dropped_in_this_process"],
    ),
    Break(
        "what is most in use makes room",
        AREA,
        "left < least",
        "left > least",
        [f"{SHARED_SLOTS}::test_one_too_many_replaces_what_is_least_in_use_and_nothing_else"],
    ),
    Break(
        "what is served makes room though a place is free",
        AREA,
        "  local left = -2\n",
        "  local left = math.huge\n",
        [f"{SHARED_SLOTS}::test_a_place_without_a_served_entry_is_free"],
    ),
    Break(
        "where nothing expires always the same place is taken",
        AREA,
        "return ARGV[3] % #KEYS + 1",
        "return 1",
        [f"{SHARED_SLOTS}::test_where_nothing_expires_chance_says_what_makes_room"],
    ),
    Break(
        "an entry is refreshed in another place",
        AREA,
        "if ok and start == ARGV[2] then return number end",
        "",
        [f"{SHARED_SLOTS}::test_an_entry_is_refreshed_where_it_is"],
    ),
    Break(
        "a place is taken that has just been taken",
        AREA,
        "self._keys(*names.places) if names.alternatives else []",
        "[]",
        [f"{SHARED_SLOTS}::test_a_place_that_is_taken_at_the_last_moment_is_not_taken_again"],
    ),
    Break(
        "a place that was lost is not looked for again",
        AREA,
        "            return self._at(names.generation, store)\n        return None",
        "            return None\n        return None",
        [f"{SHARED_SLOTS}::test_a_place_that_is_taken_at_the_last_moment_is_not_taken_again"],
    ),
    Break(
        "a claim stays when a place is taken again and again",
        AREA,
        "            return self._at(names.generation, store)\n        return None",
        "            return self._at(names.generation, lambda redis: store(redis, *contested))\n"
        "        return None",
        [f"{SHARED_SLOTS}::test_a_place_that_is_taken_again_and_again_holds_nobody_up"],
    ),
    Break(
        "a region that other processes do not know",
        AREA,
        '    if _state["is_ready"]:',
        "    if False:",
        ["tests/freshcache/test_regions.py::test_a_region_that_is_made_after_start_up_is_refused"],
    ),
    Break(
        "the letter case of a search makes a second entry",
        AREA,
        'asked["search"] = self.search.lower()',
        'asked["search"] = self.search',
        [f"{LISTS}::test_the_letter_case_of_a_search_makes_no_second_entry"],
    ),
    Break(
        "letters whose case databases tell apart share an entry",
        AREA,
        "self.search and self.search.isascii()",
        "self.search",
        [f"{LISTS}::test_letters_whose_case_databases_may_tell_apart_make_entries_of_their_own"],
    ),
    Break(
        "all products have no entry of their own",
        AREA,
        '        if self == ALL_PRODUCTS:\n            return ""\n',
        "",
        [f"{LISTS}::test_the_entry_is_stored_under_product_for_the_ttl"],
    ),
]
