"""Imports and exports, and how they are getting on."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from pages.page import page
from pages.powers import demo_only, powers_of
from pages.templatetags.numbers import number
from store import demo, job_status, product_csv
from store.models import Transfer
from store.own_writes import remember_write

SHOWN = 10  # of the latest imports, and of the latest exports
SAMPLE_ROWS = 1000
SAMPLE_SEED = 1
SAMPLE_FIRST_ID = 1_000_001  # So that its books are new ones.


@require_safe
@page
def home(request: HttpRequest) -> HttpResponse:
    powers = powers_of(request)
    context: dict[str, Any] = {"powers": powers}
    if powers.run_jobs:
        context |= {
            "kinds": [_kind(Transfer.Kind.IMPORT), _kind(Transfer.Kind.EXPORT)],
            "columns": ",".join(product_csv.COLUMNS),
            "max_bytes": settings.IMPORT_MAX_BYTES,
            "sample_rows": SAMPLE_ROWS,
            "sample_first_id": SAMPLE_FIRST_ID,
            "books": demo.DEFAULT_COUNT,
        }
    response = render(request, "pages/jobs.html", context)
    remember_write(
        response
    )  # It says how far imports have come: who reads it finds their products.
    return response


@require_safe
def sample(_request: HttpRequest) -> HttpResponse:
    """Answer with a CSV file to try an import with."""
    headers = {"Content-Disposition": 'attachment; filename="sample-books.csv"'}
    return HttpResponse(
        product_csv.write(_sample_rows()), content_type="text/csv; charset=utf-8", headers=headers
    )


@require_POST
@page
@demo_only
def bring_back(request: HttpRequest) -> HttpResponse:
    """Undo in the demo whatever imports have changed."""
    count = demo.bring_back()
    messages.success(
        request, gettext("The store has its %(count)s books again.") % {"count": number(count)}
    )
    return redirect("pages:jobs")


def _kind(kind: Transfer.Kind) -> dict[str, Any]:
    """Return the latest jobs of a kind, with their numbers, and the one to be watched."""
    found = job_status.latest(kind)[:SHOWN]
    unfinished = [status.id for status in found if status.state in ("waiting", "running")]
    return {
        "name": kind.value,
        "latest": [(status.id.rpartition("-")[2], status) for status in found],
        "unfinished": unfinished[-1] if unfinished else "",
    }


def _sample_rows() -> Iterator[tuple[object, ...]]:
    yield product_csv.COLUMNS
    books = demo.varied_books(SAMPLE_ROWS, SAMPLE_SEED)
    for product_id, book in enumerate(books, start=SAMPLE_FIRST_ID):
        yield product_id, book.name, book.description, book.price
