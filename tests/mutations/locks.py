"""Breaks of locks with a lease."""

from tests.mutations import Break

AREA = "locks"
LOCKS = "tests/test_locks.py"

BREAKS = [
    Break(
        "a lock is released without its token",
        AREA,
        "            self._lock.release()\n",
        "            queue_redis().delete(keys.lock_key(self.name))\n",
        [
            f"{LOCKS}::test_a_holder_that_outlives_its_lease_leaves_anothers_lock_alone_and_hears_of_it"
        ],
    ),
    Break(
        "a lease is extended without its token",
        AREA,
        "            self._lock.reacquire()\n",
        "            queue_redis().pexpire(keys.lock_key(self.name), int(self.lease_seconds * 1000))\n",
        [f"{LOCKS}::test_after_its_lease_a_holder_can_see_so_and_cannot_extend"],
    ),
    Break(
        "a lock is taken whoever holds it",
        AREA,
        "        if not acquired:\n            raise LockNotAcquired",
        "        if False:\n            raise LockNotAcquired",
        [f"{LOCKS}::test_who_cannot_have_it_is_told_which_lock_and_how_long_was_waited"],
    ),
    Break(
        "nobody waits for a lock",
        AREA,
        "blocking_timeout=wait_seconds",
        "blocking_timeout=0",
        [f"{LOCKS}::test_of_many_at_once_one_holds_the_lock_at_a_time"],
    ),
    Break(
        "a lock has no lease",
        AREA,
        "timeout=lease_seconds, thread_local=False",
        "timeout=None, thread_local=False",
        [f"{LOCKS}::test_extending_begins_the_lease_anew"],
    ),
    Break(
        "no other thread of the holder may extend",
        AREA,
        "thread_local=False",
        "thread_local=True",
        [f"{LOCKS}::test_another_thread_of_the_holder_may_extend_for_it"],
    ),
    Break(
        "a body that fails keeps the lock",
        AREA,
        (
            "        try:\n"
            "            lock._release()\n"
            "        except LockLost as lost:\n"
            '            logger.warning("%s", lost)\n'
            "        raise"
        ),
        "        raise",
        [f"{LOCKS}::test_the_lock_is_free_after_the_body_and_after_its_exception"],
    ),
    Break(
        "a lost lease hides the exception of the body",
        AREA,
        (
            "        try:\n"
            "            lock._release()\n"
            "        except LockLost as lost:\n"
            '            logger.warning("%s", lost)\n'
            "        raise"
        ),
        "        lock._release()\n        raise",
        [f"{LOCKS}::test_a_lost_lease_does_not_hide_the_exception_of_the_body"],
    ),
    Break(
        "a lease that ended without Redis is not lost",
        AREA,
        "            if time.monotonic() >= self._leased_until:",
        "            if False:",
        [f"{LOCKS}::test_a_holder_that_loses_redis_past_its_lease_has_lost_the_lock"],
    ),
    Break(
        "who loses Redis within the lease has lost the lock",
        AREA,
        "            if time.monotonic() >= self._leased_until:",
        "            if True:",
        [f"{LOCKS}::test_a_holder_that_loses_redis_is_told_when_it_asks_and_its_work_still_counts"],
    ),
    Break(
        "what was extended counts as it was leased",
        AREA,
        "        self._leased_until = asked_at + self.lease_seconds",
        "        del asked_at",
        [f"{LOCKS}::test_who_extended_and_loses_redis_has_the_new_lease"],
    ),
    Break(
        "without Redis work begins without its lock",
        AREA,
        (
            "blocking_timeout=wait_seconds)\n"
            "        except RedisError as error:\n"
            "            raise self._unavailable(error) from error"
        ),
        ("blocking_timeout=wait_seconds)\n        except RedisError:\n            acquired = True"),
        [f"{LOCKS}::test_without_redis_there_is_no_lock_and_no_work"],
    ),
]
