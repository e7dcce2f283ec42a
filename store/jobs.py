"""What workers do: each function is a job that is enqueued by its name."""

from django.core.management import call_command
from rq import Retry

from store import catalogue, comparison, exports, imports, transfers
from store import warm_up as warming

# Whoever is ahead takes minutes; asking costs a worker little.
NOT_YET = Retry(max=1_000_000, interval=5)


def repair_cached_lists() -> dict[str, int]:
    """What `manage.py check_cache --repair` does; returns how many lists were looked at, and wrong."""
    checked, wrong = comparison.repair_cached_lists()
    return {"checked": checked, "repaired": len(wrong)}


def clear_sessions() -> None:
    """Delete the sessions that are over from the database."""
    call_command("clearsessions")


def run_import(transfer_id: int) -> Retry | None:
    """Go on with an import, or come back later if another is ahead of it."""
    return None if imports.run(transfer_id) else NOT_YET


def resume_transfers() -> int:
    """Go on with imports and exports that nobody works on; returns how many."""
    return transfers.resume_stalled()


def delete_old_transfers() -> int:
    """Delete the files of imports and exports that ended long ago; returns of how many."""
    return transfers.delete_old()


def run_export(transfer_id: int) -> Retry | None:
    """Go on with an export, or come back later if another is ahead of it."""
    return None if exports.run(transfer_id) else NOT_YET


def warm_up() -> None:
    """Fill what most readers ask for."""
    warming.run(catalogue.fill_cached_lists)


# What a worker may be told to do (store.allowed_jobs).
ALL = (
    repair_cached_lists,
    clear_sessions,
    run_import,
    resume_transfers,
    delete_old_transfers,
    run_export,
    warm_up,
)
