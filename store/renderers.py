"""JSON answers around a list that is JSON already: it is put in place, never rendered again."""

from dataclasses import dataclass
from typing import Any

import orjson
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request

from freshcache import Outcome, Result
from store.catalogue import ProductList
from store.content_security import INLINE_STYLES


class OneForAll(BaseContentNegotiation):
    """Answers in the view's own format whatever the client says that it takes."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class PageRenderer(BrowsableAPIRenderer):
    """The page for people; it holds its reader's CSRF token and name, so no cache may keep it."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Any = None,
    ) -> str:
        page = str(super().render(data, accepted_media_type, renderer_context))
        response = renderer_context["response"]
        response["Cache-Control"] = "private, no-store"
        del response["ETag"]  # It is the list's; each page differs from the next.
        response._csp_update = INLINE_STYLES  # As django-csp's decorators do it.
        return page


LIST_END = b"}"


@dataclass(frozen=True)
class ReadyJSON:
    """An answer that is JSON already."""

    body: bytes


class ReadyJSONRenderer(JSONRenderer):
    """Sends a ReadyJSON as it is; renders everything else, such as an error, as DRF does."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Any = None,
    ) -> bytes:
        if not isinstance(data, ReadyJSON):
            return bytes(super().render(data, accepted_media_type, renderer_context))
        if self.get_indent(accepted_media_type or "", renderer_context or {}):
            return orjson.dumps(orjson.loads(data.body), option=orjson.OPT_INDENT_2)
        return data.body


def list_head(fetched: Result, response_time_seconds: float) -> bytes:
    """Return what stands in front of a list: how it was come by. LIST_END comes behind it."""
    head = {
        "response_time": response_time_seconds,
        "from_database": not fetched.from_cache,
        "from_cache": fetched.from_cache,
    }
    if fetched.outcome is Outcome.STALE:
        head["stale"] = True
    return orjson.dumps(head)[:-1] + b',"results":'


class ProductListRenderer(ReadyJSONRenderer):
    """Puts in front of a ProductList how it was come by."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Any = None,
    ) -> bytes:
        if isinstance(data, ProductList):
            head = list_head(data.fetched, data.response_time_seconds)
            data = ReadyJSON(b"".join((head, data.fetched.body, LIST_END)))
        return super().render(data, accepted_media_type, renderer_context)
