"""What has to be right about every request and answer, whatever the store does with it."""

import json
import re
import traceback
from collections.abc import Callable
from typing import ClassVar

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponsePermanentRedirect, JsonResponse
from django.http.request import split_domain_port
from django.http.response import HttpResponseBase, StreamingHttpResponse
from django.middleware.common import CommonMiddleware
from django.utils.http import escape_leading_slashes

UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")
GetResponse = Callable[[HttpRequest], HttpResponseBase]


class HeadersOfAllMiddleware:
    """Sends what every answer has to have, those that other middleware gives early included."""

    HEADERS: ClassVar[dict[str, str]] = {
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        # Nothing here uses any of what a browser can be asked for.
        "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), "
        "payment=(), usb=()",
    }

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        for name, value in self.HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class HttpsRedirectMiddleware:
    """Leads to https as SecurityMiddleware would, but to its usual port: the client's is plain HTTP's."""

    def __init__(self, get_response: GetResponse) -> None:
        if not settings.SECURE_SSL_REDIRECT:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.is_secure():
            return self.get_response(request)
        host, _ = split_domain_port(request.get_host())
        return HttpResponsePermanentRedirect(
            f"https://{host}{request.get_full_path()}",
            preserve_request=request.method not in ("GET", "HEAD"),
        )


class HeadMiddleware:
    """Sends no body for HEAD, and all the headers that GET would have (RFC 9110, 9.3.2).

    A 304 says nothing of a length, as it would have to be that of the 200 (8.6).
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.method == "HEAD":
            if isinstance(response, StreamingHttpResponse):
                response.streaming_content = []
            else:
                response.headers.setdefault("Content-Length", str(len(response.content)))  # type: ignore[attr-defined]
                response.content = b""  # type: ignore[attr-defined]
        if response.status_code == 304:
            del response.headers["Content-Length"]
        return response


class SlashMiddleware(CommonMiddleware):
    """Django's, but what is not a GET keeps its method and body on the way to the address with "/".

    308 (RFC 9110, 15.4.9) has clients send it again as it was, where 301 makes a GET of it. The location
    is a path, so that it does not depend on what a proxy makes of the host.
    """

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        is_read = request.method in ("GET", "HEAD")
        leads_nowhere = response.status_code == 404 and self.should_redirect_with_slash(request)
        # As the admin has it, for its own addresses.
        adds_slash = response.headers.get("Location", "").startswith(f"{request.path}/")
        if not is_read and (leads_nowhere or adds_slash):
            location = escape_leading_slashes(request.get_full_path(force_append_slash=True))
            return HttpResponsePermanentRedirect(
                location,
                preserve_request=True,
                content=json.dumps({"detail": f"The address ends in a slash: {location}"}),
                content_type="application/json",
            )
        return super().process_response(request, response)


class TrustedProxyMiddleware:
    """With TRUST_PROXY on, takes the client's address from X-Forwarded-For.

    Only the last address is believed: the proxy that we trust added it; what stands before it was
    sent by the client (https://developer.mozilla.org/docs/Web/HTTP/Headers/X-Forwarded-For).
    """

    def __init__(self, get_response: GetResponse) -> None:
        if not settings.TRUST_PROXY:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
        if forwarded.strip():
            request.META["REMOTE_ADDR"] = _without_port(forwarded.rpartition(",")[2].strip())
        return self.get_response(request)


def _without_port(address: str) -> str:
    """Return the address alone, where a proxy names the client's port as well (1.2.3.4:5, [::1]:5)."""
    found = re.fullmatch(r"\[([^\]]+)\](?::\d+)?|([^:]+):\d+", address)
    return (found[1] or found[2]) if found else address


class BodyLimitMiddleware:
    """Refuses a body that is longer than BODY_LIMITS allows, ahead of reading any of it.

    Django's own limit (DATA_UPLOAD_MAX_MEMORY_SIZE) is for forms; JSON is read by DRF, without one.
    Of a body without a length (chunked) Django reads nothing, which the answer says: 411. Forms and JSON
    are read in UTF-8; one that is said to be in another charset would be read wrongly: 415.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "Transfer-Encoding" in request.headers:
            detail = "A body has to come with its Content-Length; a chunked one is not read."
            return JsonResponse({"detail": detail}, status=411)
        length = request.headers.get("Content-Length") or "0"
        limit = self._limit_bytes(request.path)
        if length.isdecimal() and int(length) > limit:
            detail = f"The body has {length} bytes; at most {limit} are taken here."
            return JsonResponse({"detail": detail}, status=413)
        charset = (request.content_params or {}).get("charset", "utf-8").lower()
        if (
            length != "0"
            and charset not in UTF_8
            and not (request.content_type or "").startswith("text/")
        ):
            return JsonResponse({"detail": "A body has to be in UTF-8."}, status=415)
        return self.get_response(request)

    def _limit_bytes(self, path: str) -> int:
        """Return the limit of the longest prefix of `path`."""
        found = filter(path.startswith, settings.BODY_LIMITS)
        return settings.BODY_LIMITS[max(found, key=len, default="/")]


class LargeNumbersMiddleware:
    """Refuses what cannot be looked up, as the admin looks up whatever its address and its forms name.

    Those are numbers that SQLite cannot take, and in the admin what is none, or too few of a range.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> JsonResponse | None:
        if isinstance(error, OverflowError):
            return JsonResponse({"detail": "A number is too large."}, status=400)
        is_of_admin = request.resolver_match and request.resolver_match.app_name == "admin"
        if is_of_admin and isinstance(error, ValueError | IndexError) and _is_of_lookup(error):
            return JsonResponse({"detail": "A value cannot be looked up."}, status=400)
        return None


def _is_of_lookup(error: Exception) -> bool:
    """Say whether Django itself has raised `error` when it made a query."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("django.db.models.")
