"""What is to be done regularly, planned on RQ's own scheduler by the workers themselves.

A run is a job whose id names its time, so that any number of workers plan it once; a Redis that has
lost its jobs is given new ones within a minute, and where no worker runs nothing piles up. (RQ's `rqcron`
would be one more process, enqueues twice where two of it run, and pickles.)
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from store import queues

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600


@dataclass(frozen=True)
class Regular:
    """A function of `store.jobs` and how often it is called."""

    function: str
    every_seconds: int

    def job_id(self, moment: int) -> str:
        return f"{self.function}-{datetime.fromtimestamp(moment, UTC):%Y%m%dT%H%M%SZ}"


TIMETABLE = (
    Regular("resume_transfers", MINUTE),
    Regular("delete_old_transfers", HOUR),
    Regular("repair_cached_lists", HOUR),
    Regular("clear_sessions", DAY),
)


def plan() -> None:
    """See that the next run of everything regular is scheduled; raises Unavailable."""
    now = int(time.time())
    for regular in TIMETABLE:
        moment = (now // regular.every_seconds + 1) * regular.every_seconds
        queues.enqueue_once_at(
            datetime.fromtimestamp(moment, UTC),
            f"store.jobs.{regular.function}",
            regular.job_id(moment),
        )
