"""What /api/schema/ says about the API beyond what drf-spectacular finds in views and serializers.

Each constant is for `extend_schema(**CONSTANT)` on a view's method; `add_common_answers` adds to every
operation the errors that any of its kind can end with.
"""

from typing import Any

from django.conf import settings
from drf_spectacular.authentication import BasicScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    inline_serializer,
)
from rest_framework import serializers

from store.serializers import (
    A_BOOK,
    BasketSerializer,
    PopularQuerySerializer,
    PopularSerializer,
    ProductQuerySerializer,
    ProductSerializer,
    QuantitySerializer,
    RecentSerializer,
)


def _example(value: Any, name: str = "Example", **options: Any) -> OpenApiExample:
    return OpenApiExample(name, value=value, **options)


def _list_answer(*, cached: bool) -> dict[str, Any]:
    fields = {
        "response_time": serializers.FloatField(help_text="Seconds that producing `results` took."),
        "from_database": serializers.BooleanField(),
        "from_cache": serializers.BooleanField(),
        "results": ProductSerializer(many=True),
    }
    if cached:
        fields["stale"] = serializers.BooleanField(
            required=False, help_text="The database is down; this is the last good list."
        )
    return fields


_STORE = inline_serializer("Store", _list_answer(cached=False))
_CACHED_STORE = inline_serializer("CachedStore", _list_answer(cached=True))
_IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="The ETag of an earlier answer."
)
_HEADERS = [
    OpenApiParameter(
        name, str, OpenApiParameter.HEADER, response=[200, 201], description=description
    )
    for name, description in (
        ("Cache-Status", "How the answer was come by (RFC 9211)."),
        ("ETag", "Changes exactly when the list does."),
        ("Server-Timing", "Milliseconds spent on the cache and on the database."),
    )
]
_NOT_MODIFIED = OpenApiResponse(description="The client has the current list already.")

STORE: dict[str, Any] = {
    "summary": "All products, from the database",
    "parameters": [ProductQuerySerializer],
    "responses": {200: _STORE},
    "examples": [
        _example(
            {
                "response_time": 0.0012,
                "from_database": True,
                "from_cache": False,
                "results": [A_BOOK],
            }
        )
    ],
}
CACHED_STORE: dict[str, Any] = {
    "summary": "All products, from the cache",
    "description": "201 for the one request that put the list into the cache.",
    "parameters": [ProductQuerySerializer, _IF_NONE_MATCH, *_HEADERS],
    "responses": {200: _CACHED_STORE, 201: _CACHED_STORE, 304: _NOT_MODIFIED},
    "examples": [
        _example(
            {
                "response_time": 0.0002,
                "from_database": False,
                "from_cache": True,
                "results": [A_BOOK],
            }
        )
    ],
}
EVENTS: dict[str, Any] = {
    "summary": "What happens to products, as it happens (Server-Sent Events)",
    "description": (
        "Goes on for as long as the client listens. Events are `created`, `updated` and `deleted` with "
        "`id`, `name` and `price`, `bulk` (products have changed) and `reset` (events are missing: read "
        "everything again). What is read with the header `X-Store-Seen: ` and the event's `seen` is "
        "from no earlier than the event."
    ),
    "parameters": [
        OpenApiParameter(
            "Last-Event-ID",
            str,
            OpenApiParameter.HEADER,
            description="The last event that the client has; what came after it is sent first.",
        ),
        OpenApiParameter("last_event_id", str, description="The same, where no header can be set."),
    ],
    "responses": {(200, "text/event-stream"): str},
    "examples": [
        _example(
            "id: 1795152614156-0\nevent: updated\n"
            'data: {"event":"updated","id":1,"name":"Book A","price":1000,'
            '"at":"2026-11-20T05:30:14.155666Z","seen":"6f0a53ce7b9d4f0c8a1e2d3c4b5a6978"}\n\n',
            media_type="text/event-stream",
        )
    ],
}
PRODUCTS: dict[str, Any] = {
    "summary": "Products, page by page",
    "parameters": [ProductQuerySerializer, _IF_NONE_MATCH],
    "responses": {200: ProductSerializer(many=True), 304: _NOT_MODIFIED},
}
ONE_PRODUCT = {
    "create": extend_schema(summary="Add a product"),
    "retrieve": extend_schema(summary="One product; looking at it counts for the most viewed"),
    "update": extend_schema(summary="Change a product as a whole"),
    "partial_update": extend_schema(summary="Change some of a product"),
    "destroy": extend_schema(summary="Delete a product"),
}
POPULAR: dict[str, Any] = {
    "summary": "The most viewed products of the last 24 hours",
    "parameters": [PopularQuerySerializer, _IF_NONE_MATCH],
    "responses": {200: PopularSerializer, 304: _NOT_MODIFIED},
    "examples": [_example({"available": True, "results": [{"views": 12, "product": A_BOOK}]})],
}
RECENT: dict[str, Any] = {
    "summary": "The products that this visitor looked at, the last one first",
    "responses": {200: RecentSerializer},
    "examples": [_example({"available": True, "results": [A_BOOK]})],
}
_A_BASKET = {
    "lines": [
        {
            "product": 1,
            "name": "Book A",
            "price": 1000,
            "priced": True,
            "quantity": 2,
            "total": 2000,
        }
    ],
    "total": 2000,
    "notes": [{"product": 7, "note": "No longer in the store; taken out of the basket."}],
}
_PRODUCT_ID = OpenApiParameter(
    "product_id", int, OpenApiParameter.PATH, examples=[_example(1, "Book A")]
)
BASKET: dict[str, Any] = {
    "responses": {200: BasketSerializer},
    "examples": [_example(_A_BASKET, response_only=True)],
}
READ_BASKET: dict[str, Any] = BASKET | {"summary": "The visitor's basket"}
EMPTY_BASKET: dict[str, Any] = BASKET | {"summary": "Take everything out"}
PUT_LINE: dict[str, Any] = BASKET | {
    "summary": "Put a product into the basket, or change its quantity",
    "operation_id": "store_basket_line_update",
    "parameters": [_PRODUCT_ID],
    "request": QuantitySerializer,
    "examples": [*BASKET["examples"], _example({"quantity": 2}, "Two of it", request_only=True)],
}
REMOVE_LINE: dict[str, Any] = BASKET | {
    "summary": "Take a product out of the basket",
    "operation_id": "store_basket_line_destroy",
    "parameters": [_PRODUCT_ID],
}


class SessionWithCsrfScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Who an anonymous or signed-in visitor is; writing takes the header X-CSRFToken as well."""

    target_class = "store.authentication.SessionWithCsrf"
    name = "visitorCookie"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


class ThrottledBasicScheme(BasicScheme):  # type: ignore[no-untyped-call]
    target_class = "store.authentication.ThrottledBasic"


_DETAIL = {
    "type": "object",
    "properties": {"detail": {"type": "string"}},
    "required": ["detail"],
}
_INVALID = {
    "type": "object",
    "description": "What was wrong, by field.",
    "additionalProperties": {
        "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    },
}
_RETRY_AFTER = {
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds until it may be better."}
}
FOR_ALL = "/store/products/"  # what anybody reads
_UNSAFE = ("post", "put", "patch", "delete")


def say_what_is_always_there(result: dict[str, Any], **_context: Any) -> dict[str, Any]:
    """Mark what every answer has and every import needs, and that reading is for all; another hook.

    drf-spectacular takes from a serializer what a request must have, from a view who may sign in, and of
    a request that is described by hand nothing.
    """
    product = result["components"]["schemas"]["Product"]
    product["required"] = sorted({*product["required"], "desc", "price"})
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            if method == "get" and path.startswith(FOR_ALL):
                operation["security"] = [{}]
            if body := operation.get("requestBody"):
                needs = (
                    _resolved(one["schema"], result).get("required")
                    for one in body["content"].values()
                )
                body["required"] = any(needs) or body.get("required", False)
    return result


def _resolved(schema: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/components/schemas/")
    return result["components"]["schemas"][name] if name else schema


def add_common_answers(result: dict[str, Any], **_context: Any) -> dict[str, Any]:
    """Add the errors that any operation of a kind can end with; a hook of drf-spectacular."""
    for operations in result["paths"].values():
        for method, operation in operations.items():
            answers = operation["responses"]
            for status, answer in _common_answers(method, operation).items():
                answers.setdefault(status, answer)
            operation["responses"] = dict(sorted(answers.items()))
    return result


def _common_answers(method: str, operation: dict[str, Any]) -> dict[str, Any]:
    found = {
        "404": _answer("There is no such thing.", _DETAIL),
        "406": _answer("No form of the answer that the client accepts.", _DETAIL),
        "503": _answer("The database or Redis is down.", _DETAIL, _RETRY_AFTER),
    }
    takes_query = any(one["in"] == "query" for one in operation.get("parameters", ()))
    if takes_query or "requestBody" in operation:
        found["400"] = _answer("What was sent is not what may be sent.", _INVALID)
    takes_credentials = any("basicAuth" in one for one in operation.get("security", ()))
    if method in _UNSAFE or takes_credentials:
        found["403"] = _answer("Not allowed, or without a CSRF token.", _DETAIL)
        found["429"] = _answer("Too many writes or attempts to sign in.", _DETAIL, _RETRY_AFTER)
    if method in _UNSAFE:
        found["411"] = _answer("The body comes without its length.", _DETAIL)
        found["413"] = _answer("The body is too large.", _DETAIL)
        found["415"] = _answer("A media type that is not understood.", _DETAIL)
    return found


def _answer(
    description: str, schema: dict[str, Any], headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": schema}},
    }
    return answer | ({"headers": headers} if headers else {})
