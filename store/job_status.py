"""How a job is getting on, for whoever waits for it.

Imports and exports are answered for by the database, also while Redis is down; all other jobs by RQ, for
as long as it keeps them.
"""

import re
from dataclasses import dataclass
from typing import Any

from rq.job import Job, JobStatus

from store import queues, transfers
from store.models import Transfer

LATEST = 50
STATES = {
    JobStatus.STARTED: "running",
    JobStatus.FINISHED: "done",
    JobStatus.FAILED: "failed",
    JobStatus.STOPPED: "failed",
    JobStatus.CANCELED: "failed",
}


class NoSuchJob(Exception):
    """There is no job of this name, or it is no longer kept."""


@dataclass(frozen=True)
class Progress:
    """How much of a transfer is done; of an import the bytes are known, of an export the rows."""

    rows_done: int
    rows_total: int | None
    bytes_done: int
    bytes_total: int | None
    rows_per_second: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class Status:
    """A job as its owner sees it; `error` is a sentence."""

    id: str
    state: str  # waiting, running, done or failed
    progress: Progress | None
    result: Any
    error: str | None


def find(job_id: str) -> Status:
    """Return the status of a job; raises NoSuchJob, and Unavailable if only RQ would know."""
    if named := re.fullmatch(r"(import|export)-([0-9]{1,18})", job_id):
        transfer = Transfer.objects.filter(kind=named[1], pk=int(named[2])).first()
        if transfer is None:
            raise NoSuchJob(f"There is no job {job_id}.")
        return of_transfer(transfer)
    # RQ refuses all other ids.
    job = queues.find(job_id) if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", job_id) else None
    if job is None:
        raise NoSuchJob(f"There is no job {job_id}.")
    return _of_job(job)


def latest(kind: Transfer.Kind) -> list[Status]:
    """Return the newest imports or exports, the newest first."""
    return [of_transfer(transfer) for transfer in Transfer.objects.filter(kind=kind)[:LATEST]]


def of_transfer(transfer: Transfer) -> Status:
    done = transfer.state == Transfer.State.DONE
    state = "waiting" if transfer.state == Transfer.State.RECEIVING else transfer.state
    good = transfer.rows_done - transfer.rows_bad
    result: dict[str, int] | None = None
    if done and transfer.kind == Transfer.Kind.IMPORT:
        result = {"imported": good, "rejected": transfer.rows_bad}
    elif done:
        result = {"exported": transfer.rows_done, "bytes": transfer.size_bytes}
    return Status(
        transfers.job_id(transfer), state, _progress(transfer), result, transfer.error or None
    )


def _progress(transfer: Transfer) -> Progress:
    is_import = transfer.kind == Transfer.Kind.IMPORT
    # What is to be all right is gone through twice.
    passes = 2 if transfer.all_or_nothing else 1
    bytes_done = transfer.size_bytes
    if is_import:
        bytes_done = transfer.position + (transfer.size_bytes if transfer.is_checked else 0)
    bytes_total = transfer.size_bytes * passes if is_import else None
    rate = transfer.rows_done / transfer.seconds if transfer.seconds else None
    share = bytes_done / bytes_total if bytes_total else None
    if not is_import and transfer.rows_total:
        share = min(1.0, transfer.rows_done / transfer.rows_total)
    unfinished = transfer.state in transfers.UNFINISHED
    left = transfer.seconds * (1 - share) / share if share and unfinished else None
    return Progress(
        rows_done=transfer.rows_done,
        rows_total=transfer.rows_total,
        bytes_done=bytes_done,
        bytes_total=bytes_total,
        rows_per_second=None if rate is None else round(rate, 1),
        seconds_left=None if left is None else round(left, 1),
    )


def _of_job(job: Job) -> Status:
    state = STATES.get(job.get_status(refresh=False), "waiting")
    failed = state == "failed"
    return Status(
        job.id,
        state,
        progress=None,
        result=queues.result(job) if state == "done" else None,
        error="The job failed; the worker's log says why." if failed else None,
    )
