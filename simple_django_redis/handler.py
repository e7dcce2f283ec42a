"""Requests as the store reads them: in UTF-8, whatever charset a client names.

Django reads a query string in the charset of the Content-Type, which a GET may have as well: its
parameters are then other ones, and with a codec that is none of text (`charset=zip`) it raises. What
cannot be parsed (`a*=nosuch''x`, RFC 2231) says nothing; Django raises ahead of all that handles errors.
"""

from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http.request import MediaType
from django.utils.functional import cached_property
from django.utils.http import parse_header_parameters

# Where Django looks for the prefix of all addresses ahead of SCRIPT_NAME; it raises if one is not UTF-8.
OF_APACHE = ("SCRIPT_URL", "REDIRECT_URL")


class Request(WSGIRequest):
    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Find out what the body is, as Django does, but not in which charset all of it is read."""
        try:
            said = meta.get("CONTENT_TYPE", "")
            self.content_type, self.content_params = parse_header_parameters(said)
        except ValueError:
            meta["CONTENT_TYPE"] = self.content_type = ""
            self.content_params = {}

    @cached_property
    def accepted_types(self) -> list[MediaType]:
        try:
            return super().accepted_types
        except ValueError:
            return []


class Handler(WSGIHandler):
    request_class = Request

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        for name in OF_APACHE:
            environ.pop(name, None)
        return super().__call__(environ, start_response)
