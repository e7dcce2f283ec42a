"""Usual ways of caching a list in Django, side by side; served with STRATEGIES=on only.

Each is as one finds it in tutorials and manuals, faults and pickle included, for the benchmark to show
what they do under load, when a product changes and when Redis fails. Only `store` is meant to be copied.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import orjson
from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.connection import ConnectionProxy
from django.views.decorators.cache import cache_page
from django_redis import get_redis_connection
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from store.models import Product
from store.views import CachedStoreView

LIST = "product"
plain: Any = ConnectionProxy(caches, "strategies")
herd: Any = ConnectionProxy(caches, "strategies_herd")
READY = str(plain.make_key("bytes"))


def read_products() -> list[dict[str, Any]]:
    return [as_dict(product) for product in Product.objects.all()]


def as_dict(product: Product) -> dict[str, Any]:
    return {
        "id": product.pk,
        "name": product.name,
        "desc": product.description,
        "price": product.price,
        "date_created": product.date_created,
        "date_modified": product.date_modified,
    }


def answer(started: float, results: object, *, from_cache: bool) -> dict[str, Any]:
    return {
        "response_time": time.perf_counter() - started,
        "from_database": not from_cache,
        "from_cache": from_cache,
        "results": results,
    }


@receiver([post_save, post_delete], sender=Product)
def forget(**_: Any) -> None:
    """Delete what is cached, as tutorials do."""
    for one in (plain, herd):
        one.delete(LIST)
    get_redis_connection("strategies").delete(READY)


class StrategyView(APIView):
    """Public and as lean as DRF allows, so that only the caching differs."""

    http_method_names = ["get", "head"]
    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (JSONRenderer,)
    schema = None


class Uncached(StrategyView):
    """Every request reads the database and has DRF render the list."""

    def get(self, _request: Request) -> Response:
        started = time.perf_counter()
        return Response(answer(started, read_products(), from_cache=False))


class Tutorial(StrategyView):
    """Cache-aside of Python objects."""

    def get(self, _request: Request) -> Response:
        started = time.perf_counter()
        if LIST in plain:
            return Response(answer(started, plain.get(LIST), from_cache=True))
        results = read_products()
        plain.set(LIST, results)
        return Response(answer(started, results, from_cache=False), status=201)


class Orm(StrategyView):
    """The rows cached by django-cacheops; needs ORM_CACHE=on."""

    def get(self, _request: Request) -> Response:
        started = time.perf_counter()
        with connection.execute_wrapper(reads := Reads()):
            products = list(Product.objects.all().cache())  # type: ignore[attr-defined]  # cacheops'
        results = [as_dict(product) for product in products]
        body = answer(started, results, from_cache=not reads.count)
        return Response(body, status=201 if reads.count else 200)


class Reads:
    """Counts what is asked of the database, as cacheops does not say whether it has asked."""

    count = 0

    def __call__(self, execute: Any, *arguments: Any) -> Any:
        self.count += 1
        return execute(*arguments)


class Herd(StrategyView):
    """Python objects by django-redis' HerdClient: past their lifetime one request or another fills."""

    def get(self, _request: Request) -> Response:
        started = time.perf_counter()
        results = herd.get(LIST)
        if results is not None:
            return Response(answer(started, results, from_cache=True))
        results = read_products()
        herd.set(LIST, results)
        return Response(answer(started, results, from_cache=False), status=201)


def ready_bytes(_request: HttpRequest) -> HttpResponse:
    """One GET of a list that is JSON already, without DRF."""
    started = time.perf_counter()
    redis = get_redis_connection("strategies")
    if body := redis.get(READY):
        return json_answer(started, body, from_cache=True)
    body = orjson.dumps(read_products(), option=orjson.OPT_UTC_Z)
    redis.set(READY, body, ex=plain.default_timeout)
    return json_answer(started, body, from_cache=False, status=201)


def json_answer(
    started: float, body: bytes, *, from_cache: bool, status: int = 200
) -> HttpResponse:
    head = orjson.dumps(answer(started, None, from_cache=from_cache)).removesuffix(b"null}")
    return HttpResponse(head + body + b"}", content_type="application/json", status=status)


def constant(_request: HttpRequest) -> HttpResponse:
    """The same bytes for ever: what Django itself takes."""
    return HttpResponse(constant_body(), content_type="application/json")


@cache
def constant_body() -> bytes:
    body = orjson.dumps(read_products(), option=orjson.OPT_UTC_Z)
    return json_answer(time.perf_counter(), body, from_cache=True).content


VIEWS: dict[str, Callable[..., HttpResponseBase]] = {
    "uncached": Uncached.as_view(),
    "tutorial": Tutorial.as_view(),
    # The whole answer is replayed, so its flags are those of the request that filled it.
    "per-view": cache_page(plain.default_timeout, cache="strategies")(Uncached.as_view()),
    **({"orm": Orm.as_view()} if settings.ORM_CACHE else {}),
    "herd": Herd.as_view(),
    "bytes": ready_bytes,
    "store": CachedStoreView.as_view(),
    "constant": constant,
}
urlpatterns = [path(f"{name}/", view) for name, view in VIEWS.items()]
