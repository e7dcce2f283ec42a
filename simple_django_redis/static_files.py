"""Static files as RFC 9110 has them, where whitenoise takes a short cut.

It sends gzip to a client that refuses it (`gzip;q=0`), under the ETag of the uncompressed file, and knows
an ETag only if it comes alone and strong. A proxy would compress at each request; here it is done once.
"""

from typing import Any

from django.utils.http import parse_etags
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import Response, StaticFile

from freshcache.http import gzip as gzipping


class ExactFile:
    """A file of whitenoise's, asked in words that it understands; its ETag names the encoding."""

    def __init__(self, file: StaticFile) -> None:
        self._file = file

    def get_response(self, method: str, request_headers: dict[str, Any]) -> Response:
        accepted = gzipping.is_accepted(request_headers.get("HTTP_ACCEPT_ENCODING", ""))
        asked = {**request_headers, "HTTP_ACCEPT_ENCODING": "gzip" if accepted else ""}
        headers = dict(self._file.get_path_and_headers(asked)[1])
        etag = self._file.etag
        if "Content-Encoding" in headers:
            etag = f'{etag[:-1]}-{headers["Content-Encoding"]}"'
        if (none_match := request_headers.get("HTTP_IF_NONE_MATCH")) is not None:
            known = [one.removeprefix("W/") for one in parse_etags(none_match)]
            asked["HTTP_IF_NONE_MATCH"] = self._file.etag if {etag, "*"} & set(known) else '""'
        if request_headers.get("HTTP_IF_RANGE", etag) != etag:
            asked.pop("HTTP_RANGE", None)  # A part of another file than the client has begun with.
        response = self._file.get_response(method, asked)
        exact = [(name, etag if name == "ETag" else value) for name, value in response.headers]
        return Response(response.status, exact, response.file)


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]
    def get_static_file(self, path: str, url: str, stat_cache: Any = None) -> ExactFile:
        return ExactFile(super().get_static_file(path, url, stat_cache=stat_cache))
