"""Breaks of the copies in a process: when they may be kept, served and refilled."""

from tests.mutations import Break

AREA = "local copies"
ASIDE_COPIES = "tests/test_aside_copies.py"
COPIES = "tests/test_copies.py"
REFILLS = "tests/test_refills.py"
UNSTORED = "tests/test_unstored_loads.py"

BREAKS = [
    Break(
        "the copy of another query is served",
        AREA,
        "if copy is None or copy.entry.query != query:",
        "if copy is None:",
        [f"{COPIES}::test_a_copy_is_served_once_changes_are_announced"],
    ),
    Break(
        "a copy is served whatever was not announced",
        AREA,
        "if not self._messages.are_complete(now):\n            return None",
        "self._messages.are_complete(now)",
        [f"{COPIES}::test_a_line_that_goes_dead_ends_the_serving_within_the_lag"],
    ),
    Break(
        "a copy is served past its time",
        AREA,
        "if copy.use_until is not None and now >= copy.use_until:",
        "if False:",
        [f"{COPIES}::test_a_copy_is_not_served_once_it_is_due_for_a_refresh"],
    ),
    Break(
        "a copy is kept for ever",
        AREA,
        "        if left_ms is not None:\n            expires_at = read_at",
        "        if False:\n            expires_at = read_at",
        [f"{ASIDE_COPIES}::test_a_copy_is_used_until_its_entry_is_due_for_a_refresh"],
    ),
    Break(
        "a copy is used until its entry expires",
        AREA,
        "use_until = expires_at - _refresh_window_ms(entry) / 1000",
        "use_until = expires_at",
        [f"{ASIDE_COPIES}::test_a_copy_is_used_until_its_entry_is_due_for_a_refresh"],
    ),
    Break(
        "an entry that is due for a refresh is kept",
        AREA,
        ("        if _is_due(entry, left_ms, self.item.ttl_seconds):\n            return\n"),
        "",
        [f"{ASIDE_COPIES}::test_an_entry_that_lives_longer_than_it_should_is_not_kept"],
    ),
    Break(
        "a copy is kept though nothing was stored",
        AREA,
        ('        if place is None:\n            return self._loaded(body, "not-stored")\n'),
        (
            "        if place is None:\n"
            "            self._keep_copy(epoch, read_at, entry, ttl_ms, self.item.names.entry)\n"
            '            return self._loaded(body, "not-stored")\n'
        ),
        [f"{ASIDE_COPIES}::test_what_was_not_stored_is_not_kept"],
    ),
    Break(
        "a copy is kept under an epoch read after the store",
        AREA,
        "self._keep_copy(epoch, read_at, entry, ttl_ms, place)",
        "self._keep_copy(self.shared.copies.epoch(), read_at, entry, ttl_ms, place)",
        [f"{ASIDE_COPIES}::test_what_a_write_makes_old_right_after_it_was_stored_is_not_kept"],
    ),
    Break(
        "a copy is kept under an epoch read after the entry",
        AREA,
        "self._keep_copy(epoch, read_at, seen.entry, seen.ttl_ms, seen.place)",
        "self._keep_copy(self.shared.copies.epoch(), read_at, seen.entry, seen.ttl_ms, seen.place)",
        [f"{ASIDE_COPIES}::test_what_a_write_makes_old_right_after_it_was_read_is_not_kept"],
    ),
    Break(
        "keep ignores the epoch",
        AREA,
        "if epoch != self._epoch or not self._messages.is_connected:",
        "if not self._messages.is_connected:",
        [f"{COPIES}::test_a_change_between_reading_and_keeping_counts"],
    ),
    Break(
        "copies are kept though nothing is announced",
        AREA,
        "if epoch != self._epoch or not self._messages.is_connected:",
        "if epoch != self._epoch:",
        [f"{COPIES}::test_a_server_that_refuses_to_announce_means_no_copies"],
    ),
    Break(
        "the local cache is emptied before Redis is told",
        AREA,
        (
            "        try:\n"
            "            metrics.invalidations.labels(region, self._tell(region)).inc()\n"
            "        finally:  # After Redis, so that nobody reads there and keeps "
            "what was true before.\n"
            "            self.copies.forget(keys.generation_key(region))"
        ),
        (
            "        self.copies.forget(keys.generation_key(region))\n"
            "        metrics.invalidations.labels(region, self._tell(region)).inc()"
        ),
        [f"{ASIDE_COPIES}::test_a_reader_beside_a_write_of_its_process_keeps_nothing_old"],
    ),
    Break(
        "the local cache is not emptied by a write",
        AREA,
        "            self.copies.forget(keys.generation_key(region))",
        "            pass",
        [f"{ASIDE_COPIES}::test_a_reader_beside_a_write_of_its_process_keeps_nothing_old"],
    ),
    Break(
        "a write of this process drops no copy",
        AREA,
        ("            for name in self._of([generation]):\n                self._drop(name)\n"),
        "",
        [f"{COPIES}::test_a_write_of_this_process_counts_at_once"],
    ),
    Break(
        "what was read before a write of this process is kept",
        AREA,
        "                self._drop(name)\n            self._epoch += 1",
        "                self._drop(name)",
        [f"{COPIES}::test_a_write_of_this_process_counts_at_once"],
    ),
    Break(
        "what this process stores is dropped",
        AREA,
        "if name in self._expected:",
        "if False:",
        [f"{COPIES}::test_what_this_process_stores_itself_stays"],
    ),
    Break(
        "what another process stores later stays",
        AREA,
        "                    self._expected.discard(name)\n",
        "                    pass\n",
        [f"{COPIES}::test_what_this_process_stores_itself_stays"],
    ),
    Break(
        "a changed entry stays",
        AREA,
        (
            "                    self._expected.discard(name)\n"
            "                else:\n"
            "                    self._drop(name)"
        ),
        "                    self._expected.discard(name)",
        [f"{COPIES}::test_what_changes_in_redis_is_dropped"],
    ),
    Break(
        "a changed generation leaves its copies",
        AREA,
        "            self._outdate(self._of(names), happened_after)\n",
        "",
        [f"{COPIES}::test_what_changes_in_redis_is_dropped"],
    ),
    Break(
        "what was read before a change is kept",
        AREA,
        "self._epoch += any(name.endswith(GENERATION) for name in names)",
        "pass",
        [f"{COPIES}::test_a_change_between_reading_and_keeping_counts"],
    ),
    Break(
        "a flush leaves the copies",
        AREA,
        "            self._copies.clear()\n",
        "",
        [f"{COPIES}::test_what_changes_in_redis_is_dropped"],
    ),
    Break(
        "the least used copy does not go first",
        AREA,
        "            self._copies.move_to_end(name)\n",
        "",
        [f"{COPIES}::test_memory_is_bounded_and_what_is_used_stays"],
    ),
    Break(
        "copies take memory without end",
        AREA,
        "while self._bytes > self._max_bytes:",
        "while False:",
        [f"{COPIES}::test_memory_is_bounded_and_what_is_used_stays"],
    ),
    Break(
        "a copy that is too large empties the memory",
        AREA,
        "        if len(copy.entry.body) > self._max_bytes:\n            return\n",
        "",
        [f"{COPIES}::test_memory_is_bounded_and_what_is_used_stays"],
    ),
    Break(
        "what is dropped counts on",
        AREA,
        "            self._bytes -= len(copy.entry.body)",
        "            pass",
        [f"{COPIES}::test_memory_is_bounded_and_what_is_used_stays"],
    ),
    Break(
        "an outdated copy is served for ever",
        AREA,
        "if now >= outdated.served_until:",
        "if False:",
        [f"{REFILLS}::test_it_is_served_no_longer_than_the_lag_if_word_of_the_change_came_late"],
    ),
    Break(
        "an outdated copy whose fill takes longer is served for the whole lag",
        AREA,
        "until = min(until, time.monotonic() + bridged)",
        "pass",
        [
            f"{REFILLS}::"
            "test_it_is_served_for_a_part_of_the_lag_if_a_fill_takes_longer_than_all_of_it"
        ],
    ),
    Break(
        "an outdated copy is served from when the change was heard of",
        AREA,
        "until = happened_after + self._max_lag_seconds",
        "until = time.monotonic() + self._max_lag_seconds",
        [f"{REFILLS}::test_it_is_served_no_longer_than_the_lag_if_word_of_the_change_came_late"],
    ),
    Break(
        "each change lets an outdated copy be served longer",
        AREA,
        "self._outdated.setdefault(name, Outdated(name, until))",
        "self._outdated[name] = Outdated(name, until)",
        [
            f"{REFILLS}::"
            "test_it_is_served_for_a_part_of_the_lag_if_a_fill_takes_longer_than_all_of_it"
        ],
    ),
    Break(
        "an outdated copy is not refilled",
        AREA,
        "lambda: self._refill(outdated.name, copy), demand=lambda: outdated.asked",
        "lambda: None",
        [f"{REFILLS}::test_what_another_process_has_changed_is_served_until_it_is_filled_anew"],
    ),
    Break(
        "each request refills an outdated copy",
        AREA,
        "outdated.is_being_refilled = self._refills",
        "self._refills",
        [f"{REFILLS}::test_what_another_process_has_changed_is_served_until_it_is_filled_anew"],
    ),
    Break(
        "an outdated copy stays when its refill fails",
        AREA,
        (
            "        finally:\n"
            "            with self._lock:\n"
            "                if self._copies.get(name) is copy:\n"
            "                    self._drop(name)"
        ),
        "        finally:\n            pass",
        [f"{REFILLS}::test_a_refill_that_fails_ends_it_at_once_and_the_next_one_works"],
    ),
    Break(
        "what nobody can refill is bridged",
        AREA,
        "            if copy.refill:\n                until",
        "            if True:\n                until",
        [f"{REFILLS}::test_what_cannot_be_filled_by_another_thread_is_dropped"],
    ),
    Break(
        "what a write came to during its load is thrown away",
        AREA,
        "self.shared.copies.keep_outdated(era, started, self.item.names.places, copy)",
        "pass",
        [f"{UNSTORED}::test_what_another_process_wrote_during_a_load_leaves_it_to_serve"],
    ),
    Break(
        "what a write of this process came to is kept",
        AREA,
        "if era != self._era or not self._messages.is_connected:",
        "if not self._messages.is_connected:",
        [f"{UNSTORED}::test_after_a_write_of_this_process_what_was_loading_is_not_served"],
    ),
    Break(
        "what was loaded counts as complete until it was kept",
        AREA,
        "complete_at = max(began_at, self._last_seen.get(copy.entry.generation, NEVER))",
        "complete_at = time.monotonic()",
        [f"{UNSTORED}::test_it_is_served_for_the_lag_from_the_beginning_of_its_load"],
    ),
    Break(
        "when a generation was last seen does not count",
        AREA,
        "self._last_seen.get(copy.entry.generation, NEVER)",
        "NEVER",
        [f"{UNSTORED}::test_it_is_served_for_the_lag_from_when_its_generation_was_last_seen"],
    ),
    Break(
        "any generation vouches for what was loaded",
        AREA,
        "self._last_seen.get(copy.entry.generation, NEVER)",
        "max(self._last_seen.values(), default=NEVER)",
        [f"{UNSTORED}::test_it_is_served_for_the_lag_from_the_beginning_of_its_load"],
    ),
    Break(
        "what could not be stored takes the place of what is fresh",
        AREA,
        "if is_there and (outdated is None or outdated.served_until >= until):",
        "if False:",
        [f"{UNSTORED}::test_what_is_fresher_stays"],
    ),
    Break(
        "what nobody can refill is kept though it could not be stored",
        AREA,
        "        if not copy.refill:\n            return\n",
        "",
        [f"{UNSTORED}::test_what_needs_its_request_is_not_kept"],
    ),
    Break(
        "a refill that fails ends the thread",
        AREA,
        'except Exception:\n                    logger.exception("An entry',
        ('except ZeroDivisionError:\n                    logger.exception("An entry'),
        [f"{REFILLS}::test_a_refill_that_fails_ends_it_at_once_and_the_next_one_works"],
    ),
    Break(
        "a thread of refills never begins again",
        AREA,
        "            if not wanted:\n                self._thread = None\n",
        "",
        [f"{REFILLS}::test_refills_share_a_few_threads_that_end_when_there_are_none"],
    ),
    Break(
        "what is asked for most is not refilled first",
        AREA,
        "max(self._waiting, key=lambda one: one.demand())",
        "self._waiting[0]",
        [f"{REFILLS}::test_what_is_asked_for_most_is_refilled_first"],
    ),
    Break(
        "a refill that no thread can be had for counts as under way",
        AREA,
        "            self._waiting = [one for one in self._waiting if one.refill is not refill]\n"
        "        return False",
        "            pass\n        return True",
        [f"{REFILLS}::test_without_a_thread_nothing_is_promised_and_the_next_one_tries"],
    ),
    Break(
        "a fill that stored nothing takes a message for its own",
        AREA,
        "                self.shared.copies.expect_no_longer(other)\n",
        "                pass\n",
        [f"{UNSTORED}::test_a_write_at_the_last_moment_leaves_no_message_expected"],
    ),
    Break(
        "a refill over its budget counts as an outage",
        AREA,
        (
            "            self._look_or_fill()\n"
            "        except RedisError as error:\n"
            "            self.shared.outage.note_failure(error)"
        ),
        (
            "            self._look_or_fill()\n"
            "        except RedisError as error:\n"
            "            self.shared.outage.trip(error)"
        ),
        [f"{ASIDE_COPIES}::test_a_refill_that_is_over_its_budget_is_no_outage"],
    ),
    Break(
        "a copy is served at once in an outage",
        AREA,
        "if cache.outage.is_open:\n            return None",
        "if False:\n            return None",
        [f"{ASIDE_COPIES}::test_a_copy_is_not_served_in_an_outage"],
    ),
    Break(
        "a fork leaves the child copies that nobody watches",
        AREA,
        ("        self._copies: OrderedDict[str, Copy] = OrderedDict()\n        self._bytes"),
        (
            '        self._copies: OrderedDict[str, Copy] = getattr(self, "_copies", OrderedDict())\n'
            "        self._bytes"
        ),
        [f"{COPIES}::test_after_a_fork_the_child_has_no_copies_and_tracks_by_itself"],
    ),
    Break(
        "what was not announced is not noticed",
        AREA,
        "            self._outdate(changed, happened_after)\n",
        "",
        [f"{COPIES}::test_whatever_happens_to_redis_the_next_write_is_heard"],
    ),
    Break(
        "what was read before a check is kept",
        AREA,
        "            self._epoch += 1  # What was read before, and is not kept yet",
        "            # What was read before, and is not kept yet",
        [f"{COPIES}::test_what_was_read_before_a_check_is_not_kept_after_it"],
    ),
]
