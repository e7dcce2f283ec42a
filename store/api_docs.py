"""The API's description, made once a process, and the page to try it on: without parameters."""

import hashlib
from functools import cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import translation
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer


@cache
def description() -> bytes:
    with translation.override(settings.LANGUAGE_CODE):
        made = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
        return bytes(OpenApiJsonRenderer().render(made, renderer_context={}))


def _etag(_request: HttpRequest) -> str:
    return f'"{hashlib.sha256(description()).hexdigest()[:32]}"'


@require_safe
@cache_control(no_cache=True)
@condition(etag_func=_etag)
def schema(_request: HttpRequest) -> HttpResponse:
    """Answer in OpenAPI's JSON, which is YAML as well."""
    return HttpResponse(description(), content_type="application/vnd.oai.openapi+json")


@require_safe
@cache_control(private=True, no_store=True)
@ensure_csrf_cookie  # What is tried may be a write.
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/api_docs.html")
