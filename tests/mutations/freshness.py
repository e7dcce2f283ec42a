"""Breaks of what keeps answers fresh: a value is stored and served under its own generation alone."""

from tests.mutations import Break

AREA = "freshness"
ASIDE = "tests/test_aside.py"

BREAKS = [
    Break(
        "a value is served under any generation",
        AREA,
        "if entry and entry.generation != generation:",
        "if False:",
        [f"{ASIDE}::test_new_generations_alone_make_entries_be_forgotten"],
    ),
    Break(
        "put does not look at the generation and the claim",
        AREA,
        "if pipeline.mget(generation_key, lock_key) != valid:",
        "if False:",
        [f"{ASIDE}::test_a_held_reader_cannot_overwrite_a_newer_entry"],
    ),
    Break(
        "put watches nothing",
        AREA,
        "pipeline.watch(generation_key, lock_key)",
        'pipeline.watch(f"{lock_key}:none")',
        [f"{ASIDE}::test_a_write_between_the_last_look_and_storing_keeps_the_old_value_out"],
    ),
    Break(
        "put does not watch the generation",
        AREA,
        "pipeline.watch(generation_key, lock_key)",
        "pipeline.watch(lock_key)",
        [f"{ASIDE}::test_a_write_between_the_last_look_and_storing_keeps_the_old_value_out"],
    ),
    Break(
        "forget tells Redis nothing",
        AREA,
        "self._client().delete(self._key(keys.generation_key(family), keys.UNVERSIONED))",
        "self._client().exists(self._key(keys.generation_key(family), keys.UNVERSIONED))",
        [f"{ASIDE}::test_a_reader_that_is_held_between_load_and_store_cannot_store_what_is_old"],
    ),
    Break(
        "every question for a generation makes a new one",
        AREA,
        "pipeline.set(key, token, nx=True).mget(key)",
        "pipeline.set(key, token).mget(key)",
        [f"{ASIDE}::test_asking_for_a_generation_leaves_the_entries_of_it"],
    ),
    Break(
        "a generation of another primary counts",
        AREA,
        "return token if token and token.startswith(_epoch(redis)) else None",
        "return token",
        [f"{ASIDE}::test_what_was_made_under_another_primary_does_not_count"],
    ),
    Break(
        "a generation does not say under which primary it was made",
        AREA,
        "return epoch + new_token()[len(epoch) :]",
        "return new_token()",
        [f"{ASIDE}::test_what_was_made_under_another_primary_does_not_count"],
    ),
    Break(
        "what is no generation is left under its key",
        AREA,
        ("    redis.set(key, token)  # What was there, of whatever type, was not ours.\n"),
        "",
        [f"{ASIDE}::test_whatever_lies_under_the_generation_does_no_harm"],
    ),
    Break(
        "anything counts as a generation",
        AREA,
        'return text if re.fullmatch(f"[0-9a-f]{{{GENERATION_CHARACTERS}}}", text) else None',
        "return text or None",
        [f"{ASIDE}::test_whatever_lies_under_the_generation_does_no_harm"],
    ),
    Break(
        "a variant of the same slot is served",
        AREA,
        (
            "            if seen.entry and seen.entry.query == self.item.query:\n"
            "                self._keep_copy"
        ),
        "            if seen.entry:\n                self._keep_copy",
        [f"{ASIDE}::test_variants_that_share_a_slot_never_get_each_others_value"],
    ),
    Break(
        "who waits is served another variant of the slot",
        AREA,
        (
            "                if seen.entry and seen.entry.query == self.item.query:\n"
            "                    metrics"
        ),
        "                if seen.entry:\n                    metrics",
        [f"{ASIDE}::test_variants_of_a_slot_that_are_filled_at_once_get_their_own"],
    ),
    Break(
        "flights ignore the query",
        AREA,
        "key = (self.item.names.entry, self.item.query, generation)",
        "key = (self.item.names.entry, generation)",
        [f"{ASIDE}::test_variants_of_a_slot_that_are_filled_at_once_get_their_own"],
    ),
    Break(
        "flights ignore the generation",
        AREA,
        "key = (self.item.names.entry, self.item.query, generation)",
        "key = (self.item.names.entry, self.item.query)",
        [f"{ASIDE}::test_a_request_after_a_write_does_not_share_a_fill_from_before_it"],
    ),
    Break(
        "shared reads ignore the query",
        AREA,
        "key = (self.item.names.entry, self.item.query)\n",
        "key = self.item.names.entry\n",
        [f"{ASIDE}::test_variants_of_a_slot_share_no_read_past_the_cache"],
    ),
    Break(
        "who comes during a read shares it",
        AREA,
        "flight = self._next.get(key)\n",
        "flight = self._next.get(key) or self._reading.get(key)\n",
        [f"{ASIDE}::test_shared_reads_begin_after_all_who_share_them_have_asked"],
    ),
    Break(
        "what a transaction loads is stored by a fill",
        AREA,
        ('if not self.may_store:\n                return self._loaded(self.load(), "transaction")'),
        ('if False:\n                return self._loaded(self.load(), "transaction")'),
        [f"{ASIDE}::test_what_a_transaction_reads_is_not_stored_and_refreshes_nothing"],
    ),
    Break(
        "a transaction refreshes an entry",
        AREA,
        "if not self.may_store or not _is_due(",
        "if not _is_due(",
        [f"{ASIDE}::test_what_a_transaction_reads_is_not_stored_and_refreshes_nothing"],
    ),
    Break(
        "what a transaction reads is shared in an outage",
        AREA,
        "if not self.may_store:  # What a transaction sees is for nobody else.",
        "if False:",
        [f"{ASIDE}::test_what_a_transaction_reads_is_shared_with_nobody"],
    ),
    Break(
        "an entry that was cut off is served",
        AREA,
        'if len(body) != header["bytes"]:',
        "if False:",
        [f"{ASIDE}::test_an_entry_that_is_not_whole_is_a_miss"],
    ),
    Break(
        "an entry with wrong fields is served",
        AREA,
        "if not all(isinstance(fields[name], types) for name, types in FIELDS.items()):",
        "if False:",
        [f"{ASIDE}::test_an_entry_that_is_not_whole_is_a_miss"],
    ),
    Break(
        "a lifetime of 0 is stored",
        AREA,
        "if self.item.ttl_seconds == 0:",
        "if False:",
        ["tests/test_lists.py::test_with_a_ttl_of_zero_nothing_is_stored"],
    ),
    Break(
        "other backends serve any generation",
        AREA,
        '(entry["generation"], entry["query"]) == (generation, query)',
        'entry["query"] == query',
        ["tests/test_cache_backends.py::test_a_write_is_seen_on_a_backend_that_stores"],
    ),
    Break(
        "all bodies have one tag",
        AREA,
        "return f'W/\"{hashlib.sha256(body).hexdigest()[:32]}\"'",
        "return 'W/\"0\"'",
        ["tests/test_http_caching.py::test_the_tag_changes_with_the_results_and_back"],
    ),
]
