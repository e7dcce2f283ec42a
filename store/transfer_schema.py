"""What /api/schema/ says about imports, exports and jobs; see store.schema."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers


class ProgressSerializer(serializers.Serializer[Any]):
    rows_done = serializers.IntegerField()
    rows_total = serializers.IntegerField(allow_null=True, help_text="Of imports known at the end.")
    bytes_done = serializers.IntegerField()
    bytes_total = serializers.IntegerField(allow_null=True, help_text="Known of imports.")
    rows_per_second = serializers.FloatField(allow_null=True)
    seconds_left = serializers.FloatField(allow_null=True)


class StatusSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    state = serializers.ChoiceField(["waiting", "running", "done", "failed"])
    progress = ProgressSerializer(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_null=True, help_text="A sentence.")


class AcceptedSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    job = serializers.CharField(help_text="Where to ask how it is getting on; in Location, too.")


_STATUS = {
    "id": "import-7",
    "state": "done",
    "progress": {
        "rows_done": 234,
        "rows_total": 234,
        "bytes_done": 9126,
        "bytes_total": 9126,
        "rows_per_second": 15000.0,
        "seconds_left": None,
    },
    "result": {"imported": 233, "rejected": 1},
    "error": None,
}


def _id(example: int) -> OpenApiParameter:
    examples = [OpenApiExample("Example", example)]
    return OpenApiParameter("transfer_id", int, OpenApiParameter.PATH, examples=examples)


_FILE = {(200, "text/csv"): OpenApiTypes.STR}
_ACCEPTED: dict[str, Any] = {
    "responses": {202: AcceptedSerializer},
    "examples": [
        OpenApiExample(
            "Example",
            {"id": 7, "job": "/store/jobs/import-7/"},
            response_only=True,
            status_codes=["202"],
        )
    ],
}
_LATEST: dict[str, Any] = {
    "responses": {200: StatusSerializer(many=True)},
    "examples": [OpenApiExample("Example", _STATUS)],
}
JOB: dict[str, Any] = {
    "summary": "How a background job is getting on",
    "parameters": [
        OpenApiParameter(
            "job_id",
            str,
            OpenApiParameter.PATH,
            examples=[OpenApiExample("Example", _STATUS["id"])],
        )
    ],
    "responses": {200: StatusSerializer},
    "examples": [OpenApiExample("Example", _STATUS)],
}
IMPORTS: dict[str, Any] = _LATEST | {"summary": "The latest imports"}
IMPORT: dict[str, Any] = _ACCEPTED | {
    "summary": "Import products from a CSV file",
    "request": {
        "multipart/form-data": {
            "type": "object",
            "properties": {
                "file": {"type": "string", "format": "binary", "minLength": 1},
                "all_or_nothing": {"type": "boolean"},
            },
            "required": ["file"],
        }
    },
}
REJECTED_ROWS: dict[str, Any] = {
    "summary": "The rows that an import did not take",
    "parameters": [_id(7)],
    "responses": _FILE,
}
EXPORTS: dict[str, Any] = _LATEST | {"summary": "The latest exports"}
ASK_FOR_EXPORT: dict[str, Any] = _ACCEPTED | {
    "summary": "Export all products to a CSV file",
    "request": None,
}
EXPORT: dict[str, Any] = {
    "summary": "The CSV file of an export",
    "parameters": [_id(8)],
    "responses": {
        **_FILE,
        409: OpenApiResponse(
            {"type": "object", "properties": {"detail": {"type": "string"}}},
            description="It is not done.",
        ),
    },
}
