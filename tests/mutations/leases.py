"""Breaks of leases: only who holds the claim fills, for a limited time."""

from tests.mutations import Break

AREA = "leases"
ASIDE = "tests/test_aside.py"

BREAKS = [
    Break(
        "the claim of a fill is released without its token",
        AREA,
        "if redis.call('MGET', KEYS[1])[1] == ARGV[1] then redis.call('DEL', KEYS[1]) end",
        "redis.call('DEL', KEYS[1])",
        [f"{ASIDE}::test_a_filler_that_outlives_its_lease_and_fails_leaves_the_lock_of_the_next"],
    ),
    Break(
        "a lock is never released",
        AREA,
        "if redis.call('MGET', KEYS[1])[1] == ARGV[1] then redis.call('DEL', KEYS[1]) end",
        "",
        [f"{ASIDE}::test_a_loader_that_fails_frees_the_lock_for_the_next"],
    ),
    Break(
        "a filler that fails keeps its claim",
        AREA,
        "            self._release(generation, token)\n            raise",
        "            raise",
        [f"{ASIDE}::test_a_loader_that_fails_frees_the_lock_for_the_next"],
    ),
    Break(
        "a claim never ends",
        AREA,
        "redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2], 'PX', ARGV[3])",
        "redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2])",
        [f"{ASIDE}::test_a_claim_ends_with_its_lease"],
    ),
    Break(
        "a filler whose lease is over stores",
        AREA,
        "if pipeline.mget(generation_key, lock_key) != valid:",
        "if pipeline.mget(generation_key) != valid[:1]:",
        [f"{ASIDE}::test_a_filler_that_outlives_its_lease_can_neither_store_nor_release"],
    ),
    Break(
        "put does not watch the claim",
        AREA,
        "pipeline.watch(generation_key, lock_key, *contested)",
        "pipeline.watch(generation_key, *contested)",
        [f"{ASIDE}::test_a_claim_lost_between_the_last_look_and_storing_is_not_ended"],
    ),
    Break(
        "all claims have the same token",
        AREA,
        "        token, spoilt = new_token(), False\n        pause",
        '        token = "0" * 32\n        pause',
        [f"{ASIDE}::test_a_filler_that_outlives_its_lease_can_neither_store_nor_release"],
    ),
    Break(
        "the claim stays once it is stored",
        AREA,
        "                pipeline.delete(lock_key)\n",
        "",
        [f"{ASIDE}::test_a_filler_that_outlives_its_lease_can_neither_store_nor_release"],
    ),
    Break(
        "a claim of an older generation holds up",
        AREA,
        "if found[2] and string.sub(found[2], 1, #ARGV[1]) == ARGV[1] then",
        "if found[2] then",
        [f"{ASIDE}::test_an_invalidation_frees_the_lock"],
    ),
    Break(
        "a claim stays when the budget is spent",
        AREA,
        (
            "            with suppress(RedisError):\n"
            "                self.shared.entries.release(self.item.names, generation, token)\n"
        ),
        "",
        [f"{ASIDE}::test_a_claim_that_came_to_nothing_is_given_up"],
    ),
    Break(
        "a fork leaves the child a lock that nobody frees",
        AREA,
        "        self.outage.reset_after_fork()\n",
        "",
        [f"{ASIDE}::test_a_fork_leaves_the_child_no_flight_to_wait_for"],
    ),
]
