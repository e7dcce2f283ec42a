"""GET /metrics: what `store.metrics` counts, for Prometheus, and only for those who may ask."""

from collections.abc import Callable
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from store import metric_totals
from store.proxies import is_forwarded


class MetricsMiddleware:
    """Answers /metrics whatever the Host header and without a redirect to https.

    Prometheus asks each process over plain HTTP by its own address, which ALLOWED_HOSTS cannot name.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return metrics(request) if request.path == "/metrics" else self.get_response(request)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer in Prometheus' text format, added up over gunicorn's workers."""
    if not may_ask(request):
        needed = "an address in METRICS_ALLOW, no proxy and, if it is set, METRICS_TOKEN"
        return HttpResponse(f"It takes {needed}.\n", status=403)
    try:
        found = metric_totals.read(generate_latest)
    except metric_totals.NotThere as error:
        return HttpResponse(f"Not available: {error}.\n", status=503, content_type="text/plain")
    return HttpResponse(found, content_type=CONTENT_TYPE_LATEST)


def may_ask(request: HttpRequest) -> bool:
    """Say whether METRICS_ALLOW names who is asking; whom a proxy speaks for, known or not, is no matter.

    The addresses that it names are those of scrapers, which ask each process directly. A proxy that adds
    no header cannot be told from them: what only they have is METRICS_TOKEN.
    """
    said, token = request.headers.get("Authorization", ""), settings.METRICS_TOKEN
    if is_forwarded(request) or (token and not constant_time_compare(said, f"Bearer {token}")):
        return False
    try:
        client = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(client in network for network in settings.METRICS_ALLOW)
