"""Measure what it costs to look at each SQL statement, and write docs/bench/statements.md.

Table watch (freshcache/watched_connections.py) reads every statement that this process sends. Measured is
all that it does for one in a transaction, with the watches of the cache and of the events, without the
statement itself: the median, each time of a text that was made anew, as Django makes it.
"""

import argparse
import datetime
import statistics
import time
from pathlib import Path
from typing import Any

from bench import servers
from bench.cache_costs.report import Table

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "bench" / "statements.md"
COLUMNS = "`name`, `description`, `price`, `date_created`, `date_modified`"
ROW = "(%s, %s, %s, %s, %s)"
CASE = " WHEN (`store_product`.`id` = %s) THEN %s"


def many(one: str, count: int) -> str:
    return ", ".join([one] * count)


SHAPES = {
    "SELECT of one row": f"SELECT `store_product`.`id`, {COLUMNS} FROM `store_product`"
    " WHERE `store_product`.`id` = %s LIMIT 21",
    "SELECT of 1,000 ids": f"SELECT `store_product`.`id`, {COLUMNS} FROM `store_product`"
    f" WHERE `store_product`.`id` IN ({many('%s', 1000)})",
    "UPDATE of another table": "UPDATE `auth_user` SET `last_login` = %s WHERE `auth_user`.`id` = %s",
    "INSERT of 1,000 rows, another table": "INSERT INTO `auth_group` (`name`, `a`, `b`, `c`, `d`)"
    f" VALUES {many(ROW, 1000)}",
    "INSERT of 1,000 rows": f"INSERT INTO `store_product` ({COLUMNS}) VALUES {many(ROW, 1000)}",
    "DELETE of 1,000 ids": "DELETE FROM `store_product` WHERE `store_product`.`id`"
    f" IN ({many('%s', 1000)})",
    "UPDATE of 1,000 rows, one field (bulk_update)": "UPDATE `store_product` SET `price` = CASE"
    f"{CASE * 1000} ELSE NULL END WHERE `store_product`.`id` IN ({many('%s', 1000)})",
}


INTRODUCTION = """# What table watch costs each statement

What is seen in the SQL that Django sends invalidates the lists (`freshcache/watched_connections.py`), so
each statement is looked at. A text is remembered with what it may do; of long ones, such as those of
`bulk_create()`, the last ones are. An unusual text is read by a tokenizer, once.
"""


class Cursor:
    """What the watch asks of a cursor."""

    cursor = type("Driver", (), {"description": None})()
    has_rows_left = False


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.statements", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3000, help="how many (%(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="Markdown file to write")
    arguments = parser.parse_args()
    servers.start()
    from django.core.management import call_command
    from django.db import connection, transaction

    from freshcache.sql_statements import effect_of
    from freshcache.watched_connections import WatchedConnection

    call_command("prepare", verbosity=0)
    with transaction.atomic():
        watched: WatchedConnection = connection.watched  # type: ignore[attr-defined]  # Set by it.
        nothing = microseconds(lambda *_: None, "", arguments.rounds)
        vendor = connection.vendor
        looks = (lambda _, text, *__: effect_of(text, vendor), watched._see)
        rows = [
            (
                name,
                f"{len(text):,}",
                *(f"{microseconds(look, text, arguments.rounds) - nothing:.1f}" for look in looks),
            )
            for name, text in SHAPES.items()
        ]
        transaction.set_rollback(True)
    table = Table(
        title="What looking at a statement costs",
        note="Microseconds beside the statement itself, in Django's own writing.",
        headings=("Statement", "characters", "to read it", "in all"),
        rows=rows,
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = "\n".join(f"- {name}: {value}" for name, value in servers.describe())
    text = (
        f"{table.as_markdown()}\n\nMeasured on {today} with `make bench-statements`.\n\n{machine}\n"
    )
    print(text)
    arguments.output.write_text(f"{INTRODUCTION}\n{text}")


def microseconds(see: Any, text: str, rounds: int) -> float:
    """Return the median time of one call."""
    context = {"cursor": Cursor()}

    def carry_out(*_: Any) -> None:
        return None

    taken = []
    for _ in range(rounds):
        anew = f"{text} "[:-1]
        began = time.perf_counter_ns()
        see(carry_out, anew, None, False, context)  # noqa: FBT003  # Django calls it so.
        taken.append(time.perf_counter_ns() - began)
    return statistics.median(taken) / 1000


if __name__ == "__main__":
    main()
