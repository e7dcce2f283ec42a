"""The site that `bench.views` asks: one page of products, answered in each way."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.views.decorators.cache import cache_page
from redis import Redis

from store import demo
from store.models import Product
from store.views import ProductViewSet

# cache_page and {% cache %} keep what they are given; responses can only be pickled.
PAGES = {
    "BACKEND": "django_redis.cache.RedisCache",
    "LOCATION": settings.REDIS_URL,
    "KEY_PREFIX": "pages",
}
FRAGMENT = """
{% load cache %}<table>{% cache 60 products using="pages" %}{% for product in products %}<tr>
<td>{{ product.name }}</td><td>{{ product.description }}</td><td>{{ product.price }}</td>
</tr>{% endfor %}{% endcache %}</table>
"""
WAYS = {
    "plain view": "/json/plain/",
    "cached_response": "/json/cached-response/",
    "cache_page": "/json/cache-page/",
    "plain template": "/html/plain/",
    "template with {% cache %}": "/html/fragment/",
}


class PlainViewSet(ProductViewSet):
    def list(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return ProductViewSet.list.__wrapped__(self, request, *args, **kwargs)  # type: ignore[attr-defined]


def page(template: str) -> Callable[[HttpRequest], HttpResponse]:
    compiled = engines["django"].from_string(template)

    def view(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(compiled.render({"products": Product.objects.all()[:100]}))

    return view


plain = PlainViewSet.as_view({"get": "list"})
urlpatterns = [
    path("json/plain/", plain),
    path("json/cached-response/", ProductViewSet.as_view({"get": "list"})),
    path("json/cache-page/", cache_page(60, cache="pages")(plain)),
    path(
        "html/plain/",
        page(
            FRAGMENT.replace("{% endcache %}", "").replace(
                '{% cache 60 products using="pages" %}', ""
            )
        ),
    ),
    path("html/fragment/", page(FRAGMENT.replace("60 products", "60 'products'"))),
]
_factory = RequestFactory()
_handler: WSGIHandler


def prepare(products: int) -> None:
    """Make the tables and as many products, and set the site up."""
    global _handler
    call_command("create_database", verbosity=0)
    call_command("migrate", verbosity=0)
    sum(demo.store_in_batches(demo.varied_books(products, seed=1)))
    override_settings(
        ROOT_URLCONF=__name__,
        CACHES=settings.CACHES | {"pages": PAGES},
        ALLOWED_HOSTS=["testserver"],
    ).enable()
    _handler = WSGIHandler()


def ask(url: str) -> bytes:
    """Return the body of the answer to a GET without cookies."""
    statuses: list[str] = []
    environ = _factory._base_environ(
        PATH_INFO=url, REQUEST_METHOD="GET", HTTP_ACCEPT="application/json"
    )
    response = _handler(environ, lambda status, _headers: statuses.append(status))
    body = b"".join(response)
    response.close()
    if not statuses[0].startswith("200"):
        raise RuntimeError(f"{url} was answered {statuses[0]}: {body[:200]!r}")
    return body


def queries(function: Callable[[], object]) -> int:
    """Return how many queries this thread makes in `function()`."""
    with CaptureQueriesContext(connection) as captured:
        function()
    return sum("store_product" in query["sql"] for query in captured.captured_queries)


def forget() -> None:
    """Begin with nothing cached."""
    for cache in ("default", "pages"):
        caches[cache].clear()


def change_prices() -> None:
    """Change all prices in one of the ways that signals do not see."""
    Product.objects.update(price=F("price") + 1)


def has_pickles() -> bool:
    """Say whether Redis holds a pickle (protocol 2 or later)."""
    with Redis.from_url(settings.REDIS_URL) as redis:
        values = [redis.get(key) for key in redis.scan_iter() if redis.type(key) == b"string"]
    return any(value.startswith(b"\x80") and value.endswith(b".") for value in values if value)
