"""Breaks of what lets one process at a time do an import or an export, and each once."""

from tests.mutations import Break

AREA = "fencing"
EXPORTS = "tests/test_exports.py"
IMPORT_JOBS = "tests/test_import_jobs.py"
IMPORTS = "tests/test_imports.py"

BREAKS = [
    Break(
        "an attempt is not fenced by the next one",
        AREA,
        "filter(pk=transfer.pk, attempt=transfer.attempt, state__in=UNFINISHED)",
        "filter(pk=transfer.pk, state__in=UNFINISHED)",
        [f"{IMPORTS}::test_who_has_been_superseded_writes_nothing_any_more"],
    ),
    Break(
        "what is done is done again",
        AREA,
        "filter(pk=transfer.pk, attempt=transfer.attempt, state__in=UNFINISHED)",
        "filter(pk=transfer.pk, attempt=transfer.attempt)",
        [f"{IMPORTS}::test_what_has_ended_is_not_written_to_any_more"],
    ),
    Break(
        "all attempts have one number",
        AREA,
        '            attempt=F("attempt") + 1,\n',
        "",
        [f"{IMPORT_JOBS}::test_an_attempt_is_fenced_by_the_next_one"],
    ),
    Break(
        "who is superseded does not hear of it",
        AREA,
        "    if not latest.update(**changes, touched_at=Now()):",
        "    if latest.update(**changes, touched_at=Now()) < 0:",
        [f"{IMPORTS}::test_who_has_been_superseded_writes_nothing_any_more"],
    ),
    Break(
        "imports come in any order",
        AREA,
        "    if _has_predecessor(transfer):",
        "    if False:",
        [f"{IMPORT_JOBS}::test_an_import_waits_for_the_one_before_it_and_for_no_export"],
    ),
    Break(
        "exports wait for imports",
        AREA,
        "filter(kind=transfer.kind, state__in=UNFINISHED, pk__lt=transfer.pk)",
        "filter(state__in=UNFINISHED, pk__lt=transfer.pk)",
        [f"{IMPORT_JOBS}::test_an_import_waits_for_the_one_before_it_and_for_no_export"],
    ),
    Break(
        "two work on one kind at a time",
        AREA,
        "        with locks.hold(transfer.kind, lease_seconds=LEASE_SECONDS) as lock:",
        "        with locks.hold(str(transfer.attempt), lease_seconds=LEASE_SECONDS) as lock:",
        [
            f"{IMPORT_JOBS}::test_while_another_holds_the_lock_an_import_waits_and_shows_a_sign_of_life"
        ],
    ),
    Break(
        "who waits shows no sign of life",
        AREA,
        "    _touch(transfer)\n    return False",
        "    return False",
        [
            f"{IMPORT_JOBS}::test_while_another_holds_the_lock_an_import_waits_and_shows_a_sign_of_life"
        ],
    ),
    Break(
        "what ended before its turn is begun",
        AREA,
        "begun = Transfer.objects.filter(pk=transfer.pk, state__in=UNFINISHED).first()",
        "begun = Transfer.objects.filter(pk=transfer.pk).first()",
        [f"{IMPORT_JOBS}::test_what_ends_while_its_turn_comes_is_not_begun"],
    ),
    Break(
        "what comes no further is tried for ever",
        AREA,
        "if begun.fruitless_attempts > MAX_FRUITLESS_ATTEMPTS:",
        "if False:",
        [f"{IMPORT_JOBS}::test_what_comes_no_further_is_given_up_and_says_so"],
    ),
    Break(
        "what comes further is given up",
        AREA,
        "_write(transfer, fruitless_attempts=0, **changes)",
        "_write(transfer, **changes)",
        [f"{IMPORT_JOBS}::test_what_comes_further_is_not_given_up"],
    ),
    Break(
        "what works is taken for stalled",
        AREA,
        "state__in=UNFINISHED, touched_at__lt=Now() - STALLED",
        "state__in=UNFINISHED",
        [f"{IMPORT_JOBS}::test_only_what_nobody_works_on_is_resumed"],
    ),
    Break(
        "what waits is enqueued once more",
        AREA,
        " if not queues.is_waiting(job_id(transfer))]",
        "]",
        [f"{IMPORT_JOBS}::test_only_what_nobody_works_on_is_resumed"],
    ),
    Break(
        "an import does not extend its lease",
        AREA,
        "        extend()\n        now = time.monotonic()\n        _commit(transfer, batch",
        "        now = time.monotonic()\n        _commit(transfer, batch",
        [f"{IMPORT_JOBS}::test_an_import_that_loses_its_lock_stops"],
    ),
    Break(
        "an export does not extend its lease",
        AREA,
        "        extend()\n        body, taken",
        "        body, taken",
        [f"{EXPORTS}::test_an_export_that_loses_its_lock_stops"],
    ),
    Break(
        "a batch is committed in parts",
        AREA,
        (
            "    with transaction.atomic():\n"
            "        transfers.advance(\n"
            "            transfer,\n"
            "            position"
        ),
        "    if True:\n        transfers.advance(\n            transfer,\n            position",
        [f"{IMPORTS}::test_a_batch_that_fails_leaves_nothing_of_itself"],
    ),
    Break(
        "a page is committed in parts",
        AREA,
        "    with transaction.atomic():\n        transfers.advance(transfer, size_bytes",
        "    if True:\n        transfers.advance(transfer, size_bytes",
        [f"{EXPORTS}::test_a_page_that_fails_leaves_nothing_of_itself"],
    ),
    Break(
        "a resumed import begins anew",
        AREA,
        "            position=batch.position,\n",
        "",
        [f"{IMPORTS}::test_an_import_that_was_killed_goes_on_after_the_last_committed_batch"],
    ),
    Break(
        "all or nothing imports what is before a bad row",
        AREA,
        "            if transfer.rows_bad:\n",
        "            if False:\n",
        [f"{IMPORTS}::test_all_or_nothing_imports_nothing_if_one_row_is_bad"],
    ),
    Break(
        "the check of a file stores it",
        AREA,
        "columns if store else None",
        "columns",
        [f"{IMPORTS}::test_all_or_nothing_imports_nothing_if_one_row_is_bad"],
    ),
    Break(
        "an upload that cannot be enqueued is kept",
        AREA,
        (
            "        transfers.enqueue(transfer)\n"
            "    except BaseException:\n"
            "        transfers.delete(transfer)\n"
            "        raise\n"
            "    return transfer\n"
            "\n"
            "\n"
            "def run(transfer_id: int) -> bool:\n"
            '    """Do the import'
        ),
        (
            "        transfers.enqueue(transfer)\n"
            "    except BaseException:\n"
            "        raise\n"
            "    return transfer\n"
            "\n"
            "\n"
            "def run(transfer_id: int) -> bool:\n"
            '    """Do the import'
        ),
        [f"{IMPORT_JOBS}::test_an_upload_that_cannot_be_enqueued_is_gone_again"],
    ),
    Break(
        "running transfers are deleted as old",
        AREA,
        "ended = Transfer.objects.exclude(state__in=UNFINISHED)",
        "ended = Transfer.objects.all()",
        [f"{IMPORTS}::test_old_transfers_and_their_files_are_deleted_and_others_are_not"],
    ),
    Break(
        "a file is downloaded before it is whole",
        AREA,
        "    if transfer.state != Transfer.State.DONE:",
        "    if False:",
        [f"{EXPORTS}::test_a_file_that_is_not_whole_is_not_given_out"],
    ),
    Break(
        "what is checked counts as all",
        AREA,
        "passes = 2 if transfer.all_or_nothing else 1",
        "passes = 1",
        [f"{IMPORT_JOBS}::test_how_much_is_left_is_told_while_it_runs"],
    ),
]
