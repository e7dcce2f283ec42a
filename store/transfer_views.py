from collections.abc import Iterator
from dataclasses import asdict

from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from store import exports, imports, job_status, transfer_schema, transfers
from store.models import Transfer
from store.own_writes import remember_write
from store.permissions import MayExport, MayImportElseStaff
from store.serializers import ImportSerializer


class JobView(APIView):
    """How a job is getting on, for staff."""

    permission_classes = (IsAdminUser,)

    @extend_schema(**transfer_schema.JOB)
    def get(self, request: Request, job_id: str) -> Response:
        return told_of_writes(Response(asdict(job_status.find(job_id))))


class ImportsView(APIView):
    """POST a CSV file of products to import it; GET lists the latest imports. For staff."""

    permission_classes = (MayImportElseStaff,)
    parser_classes = (MultiPartParser,)

    @extend_schema(**transfer_schema.IMPORTS)
    def get(self, request: Request) -> Response:
        latest = job_status.latest(Transfer.Kind.IMPORT)
        return told_of_writes(Response([asdict(one) for one in latest]))

    @extend_schema(**transfer_schema.IMPORT)
    def post(self, request: Request) -> Response:
        upload = ImportSerializer.parse(request.data)
        return accepted(imports.receive(upload.file, all_or_nothing=upload.all_or_nothing))


class RejectedRowsView(APIView):
    """The rows that an import did not take, as CSV: line, reason, then the row as it was."""

    permission_classes = (IsAdminUser,)

    @extend_schema(**transfer_schema.REJECTED_ROWS)
    def get(self, request: Request, transfer_id: int) -> HttpResponseBase:
        transfer = get_object_or_404(Transfer, pk=transfer_id, kind=Transfer.Kind.IMPORT)
        rows = imports.rejected_rows(transfer)
        return csv_file(rows, f"import-{transfer_id}-rejected.csv")


class ExportsView(APIView):
    """POST asks for a CSV file of all products; GET lists the latest. For staff who may see products."""

    permission_classes = (MayExport,)

    @extend_schema(**transfer_schema.EXPORTS)
    def get(self, request: Request) -> Response:
        return Response([asdict(one) for one in job_status.latest(Transfer.Kind.EXPORT)])

    @extend_schema(**transfer_schema.ASK_FOR_EXPORT)
    def post(self, request: Request) -> Response:
        return accepted(exports.request())


class ExportView(APIView):
    """The CSV file of an export that is done. For staff who may see products."""

    permission_classes = (MayExport,)

    @extend_schema(**transfer_schema.EXPORT)
    def get(self, request: Request, transfer_id: int) -> HttpResponseBase:
        transfer = get_object_or_404(Transfer, pk=transfer_id, kind=Transfer.Kind.EXPORT)
        response = csv_file(exports.content(transfer), f"products-{transfer_id}.csv")
        response["Content-Length"] = str(transfer.size_bytes)  # A file cut short is seen to be.
        return response


def told_of_writes(response: Response) -> Response:
    """Have who is told how far an import has come find its products from then on."""
    remember_write(response)
    return response


def accepted(transfer: Transfer) -> Response:
    """Answer that a job has been enqueued, and where to ask for it."""
    job = reverse("job", args=[transfers.job_id(transfer)])
    return Response(
        {"id": transfer.pk, "job": job}, status.HTTP_202_ACCEPTED, headers={"Location": job}
    )


def csv_file(pieces: Iterator[bytes], name: str) -> StreamingHttpResponse:
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "private, no-store",
    }
    return StreamingHttpResponse(pieces, content_type="text/csv; charset=utf-8", headers=headers)
