"""Imports and exports as jobs: their order, their progress, and that one process at a time writes.

Who works on a transfer has an attempt number, and every write it makes is one transaction with the
transfer's row, which refuses older numbers: the fence that a lock on Redis cannot be (docs/redis.md).
What shows no sign of life, by the database's clock, is enqueued again; what comes no further is given up.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from store import locks, queues
from store.locks import LockNotAcquired
from store.models import Chunk, Transfer

logger = logging.getLogger(__name__)
State = Transfer.State

UNFINISHED = (State.WAITING, State.RUNNING)
MAX_FRUITLESS_ATTEMPTS = 1 + len(queues.RETRY_PAUSES_SECONDS)
TIMEOUT_SECONDS = 3600  # of one attempt; the next one goes on where it ended
LEASE_SECONDS = 30  # A batch takes a fraction of a second.
STALLED = timedelta(seconds=2 * LEASE_SECONDS)
KEPT = timedelta(days=7)
DELETED_CHUNKS = 40  # at a time: about 10 MB

Work = Callable[[Transfer, Callable[[], None]], None]


class Superseded(Exception):
    """Another process goes on with the transfer, or nobody should."""


def job_id(transfer: Transfer) -> str:
    """Return the id under which RQ, and users, know the job."""
    return f"{transfer.kind}-{transfer.pk}"


def create(kind: Transfer.Kind, state: Transfer.State, **fields: Any) -> Transfer:
    return Transfer.objects.create(kind=kind, state=state, touched_at=Now(), **fields)


def enqueue(transfer: Transfer) -> None:
    """Have a worker go on with the transfer; raises Unavailable."""
    function = f"store.jobs.run_{transfer.kind}"
    queues.enqueue(function, transfer.pk, job_id=job_id(transfer), timeout_seconds=TIMEOUT_SECONDS)


def work_on(transfer_id: int, work: Work) -> bool:
    """Call `work(transfer, extend)` if it is this transfer's turn; return False if it is not yet.

    Transfers of a kind come one at a time, in the order of their ids. `extend()` is to be called
    before each batch. Raises what `work` raises, LockLost, Unavailable.
    """
    transfer = Transfer.objects.filter(pk=transfer_id, state__in=UNFINISHED).first()
    if transfer is None:
        return True
    if _has_predecessor(transfer):
        return _not_yet(transfer)
    try:
        with locks.hold(transfer.kind, lease_seconds=LEASE_SECONDS) as lock:
            begun = _begin(transfer)
            if begun:
                work(begun, lock.extend)
    except LockNotAcquired:
        return _not_yet(transfer)
    return True


def advance(transfer: Transfer, **changes: Any) -> None:
    """Note progress, in the transaction of the batch and before its other writes.

    Raises Superseded, and the transaction must not be committed, if this attempt is not the latest.
    """
    _write(transfer, fruitless_attempts=0, **changes)


def finish(transfer: Transfer, **changes: Any) -> None:
    """The transfer is done; raises Superseded."""
    _write(transfer, state=State.DONE, **changes)


def fail(transfer: Transfer, error: str) -> None:
    """The transfer has failed for good, with a sentence for its owner; raises Superseded."""
    _write(transfer, state=State.FAILED, error=error[:500])
    logger.warning("%s failed: %s", transfer, error)


def resume_stalled() -> int:
    """Enqueue anew what nobody works on: Redis has forgotten the job, or its worker is gone."""
    stalled = Transfer.objects.filter(
        state__in=UNFINISHED, touched_at__lt=Now() - STALLED
    ).order_by("pk")
    resumed = [transfer for transfer in stalled if not queues.is_waiting(job_id(transfer))]
    for transfer in resumed:
        enqueue(transfer)
        _touch(transfer)
        logger.warning("%s had stalled and is resumed", transfer)
    return len(resumed)


def delete_old() -> int:
    """Delete transfers that ended KEPT ago, or were never received in full, with their files."""
    ended = Transfer.objects.exclude(state__in=UNFINISHED)
    old = list(ended.filter(touched_at__lt=Now() - KEPT))
    for transfer in old:
        delete(transfer)
    return len(old)


def delete(transfer: Transfer) -> None:
    """Delete a transfer and its files, a few pieces at a time so that no statement takes long."""
    chunks = Chunk.objects.filter(transfer=transfer)
    while some := list(chunks.values_list("pk", flat=True)[:DELETED_CHUNKS]):
        Chunk.objects.filter(pk__in=some).delete()
    transfer.delete()


def _begin(transfer: Transfer) -> Transfer | None:
    with transaction.atomic():  # The row stays locked until its new number has been read.
        Transfer.objects.filter(pk=transfer.pk).update(
            attempt=F("attempt") + 1,
            fruitless_attempts=F("fruitless_attempts") + 1,
            touched_at=Now(),
        )
        begun = Transfer.objects.filter(pk=transfer.pk, state__in=UNFINISHED).first()
    if begun is None:
        return None
    if begun.fruitless_attempts > MAX_FRUITLESS_ATTEMPTS:
        stays = begun.rows_done and (begun.is_checked or not begun.all_or_nothing)
        done = f" {begun.rows_done} rows were done before and stay." if stays else ""
        fail(begun, f"Given up after {MAX_FRUITLESS_ATTEMPTS} attempts that came no further.{done}")
        return None
    _write(begun, state=State.RUNNING)
    return begun


def _write(transfer: Transfer, **changes: Any) -> None:
    latest = Transfer.objects.filter(pk=transfer.pk, attempt=transfer.attempt, state__in=UNFINISHED)
    if not latest.update(**changes, touched_at=Now()):
        raise Superseded(f"{transfer}: attempt {transfer.attempt} is not the latest any more")
    for name, value in changes.items():
        setattr(transfer, name, value)


def _has_predecessor(transfer: Transfer) -> bool:
    before = Transfer.objects.filter(kind=transfer.kind, state__in=UNFINISHED, pk__lt=transfer.pk)
    return before.exists()


def _not_yet(transfer: Transfer) -> bool:
    _touch(transfer)
    return False


def _touch(transfer: Transfer) -> None:
    Transfer.objects.filter(pk=transfer.pk).update(touched_at=Now())
