"""Breaks of leases: only who holds the claim fills, and for a limited time."""

from tests.mutations import Break

ASIDE, AREA = "tests/test_aside.py", "leases"

BREAKS = [
    Break(
        "a filler that fails keeps its claim",
        AREA,
        "            self._release(generation, token)\n            raise",
        "            raise",
        [f"{ASIDE}::test_a_loader_that_fails_frees_the_lock_for_the_next"],
    ),
]
