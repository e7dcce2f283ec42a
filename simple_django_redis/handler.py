"""Requests as the store reads them: in UTF-8, whatever charset a client names.

Django reads a query string in the charset of the Content-Type, which a GET may have as well: its
parameters are then other ones, and with a codec that is none of text (`charset=zip`) it raises.
"""

from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters


class Request(WSGIRequest):
    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Find out what the body is, as Django does, but not in which charset all of it is read."""
        said = meta.get("CONTENT_TYPE", "")
        self.content_type, self.content_params = parse_header_parameters(said)


class Handler(WSGIHandler):
    request_class = Request
