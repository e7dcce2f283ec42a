"""Breaks of what tells variants apart, and keeps their keys few."""

from tests.mutations import Break

AREA = "variants"
ASIDE = "tests/test_aside.py"
CACHE_HYGIENE = "tests/test_cache_hygiene.py"
LISTS = "tests/test_lists.py"

BREAKS = [
    Break(
        "as many keys as there are queries",
        AREA,
        "% slots}",
        "}",
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
        "a family that no outage would heal",
        AREA,
        "    if family not in FAMILIES:",
        "    if False:",
        [f"{ASIDE}::test_a_family_that_no_outage_would_heal_is_refused"],
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
