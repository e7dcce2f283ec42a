"""DRF answers that are JSON already: they are sent as they are, never rendered again."""

from dataclasses import dataclass
from typing import Any

import orjson
from rest_framework.renderers import JSONRenderer


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
