"""What is different about requests and answers of Django REST framework, where that is installed."""

from importlib.util import find_spec
from typing import Any

from django.http import HttpRequest

IS_INSTALLED = find_spec("rest_framework") is not None

if IS_INSTALLED:
    from rest_framework.exceptions import APIException
    from rest_framework.renderers import BrowsableAPIRenderer
    from rest_framework.request import Request

    EXCEPTIONS: tuple[type[Exception], ...] = (APIException,)
    REQUESTS: tuple[type, ...] = (Request,)
else:
    EXCEPTIONS = REQUESTS = ()


def is_request(request: object) -> bool:
    """Say whether a view got it from DRF."""
    return isinstance(request, REQUESTS)


def plain(request: Any) -> HttpRequest:
    """Return Django's request behind one of DRF's."""
    found: HttpRequest = request._request if is_request(request) else request
    return found


def is_page(request: Any) -> bool:
    """Say whether the answer is DRF's page for people, which holds its reader's name and CSRF token."""
    return is_request(request) and isinstance(request.accepted_renderer, BrowsableAPIRenderer)


def media_type(request: Any) -> str:
    """Return what DRF answers with, "" for a view of Django's."""
    return str(request.accepted_media_type) if is_request(request) else ""


def rendered(request: Any, response: Any) -> Any:
    """Return `response` with its content, rendered as DRF is going to after the view has returned."""
    if hasattr(response, "render") and not response.is_rendered:
        response.accepted_renderer = request.accepted_renderer
        response.accepted_media_type = request.accepted_media_type
        context = request.parser_context["view"].get_renderer_context()
        response.renderer_context = {**context, "response": response}
        response.render()
    return response
