"""Breaks of what keeps answers fresh: the generation under which alone a value is stored and served."""

from tests.mutations import Break

ASIDE, AREA = "tests/test_aside.py", "freshness"

BREAKS = [
    Break(
        "a value is served under any generation",
        AREA,
        "if entry and entry.generation != generation:",
        "if False:",
        [f"{ASIDE}::test_an_outage_ends_with_new_generations"],
    ),
    Break(
        "put does not look whether the generation and the claim are still there",
        AREA,
        "if pipeline.mget(generation_key, lock_key) != valid:",
        "if False:",
        [f"{ASIDE}::test_a_held_reader_cannot_overwrite_a_newer_entry"],
    ),
]
