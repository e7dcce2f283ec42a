from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse
from django.middleware.csrf import get_token
from django.utils.cache import patch_vary_headers
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_control
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from freshcache import Outcome
from freshcache.http import headers as http_headers
from freshcache.http.fast_path import SERVED, Served
from store import basket, catalogue, product_query, ranking, replicas, schema, server_sent_events
from store.authentication import SessionWithCsrf
from store.event_feed import process_feed
from store.models import Product
from store.pagination import ProductPagination
from store.regions import products
from store.renderers import LIST_END, OneForAll, PageRenderer, ProductListRenderer, list_head
from store.serializers import (
    BasketSerializer,
    PopularQuerySerializer,
    PopularSerializer,
    ProductQuerySerializer,
    ProductSerializer,
    QuantitySerializer,
    RecentSerializer,
)
from store.throttling import client_network
from store.visitors import count_look, visitor_of


class PublicListView(APIView):
    """The same answer for everyone: no session or credentials are looked at."""

    http_method_names = ["get", "head"]
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    renderer_classes = (ProductListRenderer, PageRenderer)


class StoreView(PublicListView):
    """All products, read from the database on every request."""

    @extend_schema(**schema.STORE)
    def get(self, request: Request) -> Response:
        query = ProductQuerySerializer.parse(request.query_params)
        return Response(catalogue.list_products(query))


class CachedStoreView(PublicListView):
    """All products, from the cache; 201 if this request put them there."""

    @extend_schema(**schema.CACHED_STORE)
    def get(self, request: Request) -> Response:
        query = ProductQuerySerializer.parse(request.query_params)
        found = catalogue.list_products_cached(query)
        request._request.META[SERVED] = Served(products, query.normalised(), list_head, LIST_END)
        created = found.fetched.outcome is Outcome.MISS
        response = Response(found, status.HTTP_201_CREATED if created else status.HTTP_200_OK)
        patch_vary_headers(response, ["Accept-Encoding"])  # Hits may be sent as gzip.
        return http_headers.finish(request, response, found.fetched)


class EventsView(APIView):
    """What happens to products, as it happens: Server-Sent Events, for as long as the client listens."""

    http_method_names = ["get", "head"]
    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = OneForAll

    @extend_schema(**schema.EVENTS)
    def get(self, request: Request) -> StreamingHttpResponse:
        last_id = request.headers.get("Last-Event-ID") or request.query_params.get("last_event_id")
        client = client_network(request.META.get("REMOTE_ADDR", ""))
        follower = process_feed.follow(
            last_id, client, settings.EVENTS_MAX_CLIENTS, settings.EVENTS_MAX_PER_ADDRESS
        )
        return server_sent_events.answer(follower, request.META.get("gunicorn.socket"))


@extend_schema_view(**schema.ONE_PRODUCT)
class ProductViewSet(ModelViewSet[Product]):
    """Products one by one: anyone reads, staff write."""

    queryset = Product.objects.all()
    serializer_class = ProductSerializer
    pagination_class = ProductPagination
    lookup_value_converter = "int"

    @extend_schema(**schema.PRODUCTS)
    @products.cached_response(600, check=ProductQuerySerializer.parse)
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return replicas.read(lambda: super(ProductViewSet, self).list(request, *args, **kwargs))

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = replicas.read(
            lambda: super(ProductViewSet, self).retrieve(request, *args, **kwargs)
        )
        count_look(request, response, response.data["id"])
        return response

    @extend_schema(**schema.POPULAR)
    @action(detail=False, pagination_class=None)
    @products.cached_response(60, check=PopularQuerySerializer.parse)
    def popular(self, request: Request) -> Response:
        """The products that were looked at most in the last 24 hours."""
        found = ranking.popular(PopularQuerySerializer.parse(request.query_params))
        response = Response(PopularSerializer(found).data)
        if not found.available:
            response["Cache-Control"] = "no-store"
        return response

    @extend_schema(**schema.RECENT)
    @action(detail=False, pagination_class=None)
    @method_decorator(cache_control(private=True, no_store=True))
    def recent(self, request: Request) -> Response:
        """The products that this visitor looked at, the last one first."""
        return Response(RecentSerializer(ranking.recent(visitor_of(request))).data)

    def filter_queryset(self, queryset: Any) -> Any:
        if self.action != "list":
            return queryset
        return product_query.select(ProductQuerySerializer.parse(self.request.query_params))


@method_decorator(cache_control(private=True, no_store=True), name="dispatch")
class VisitorView(APIView):
    """For what is one visitor's own; anonymous ones need a CSRF token to write, too."""

    authentication_classes = (SessionWithCsrf,)
    permission_classes = ()

    @property
    def visitor(self) -> basket.Visitor:
        network = client_network(self.request.META.get("REMOTE_ADDR", ""))
        return basket.Visitor(self.request.session, self.request.user.pk, network)


class BasketView(VisitorView):
    """The visitor's basket: what is in it and what it costs; DELETE empties it."""

    @extend_schema(**schema.READ_BASKET)
    def get(self, request: Request) -> Response:
        get_token(request._request)  # Sends the cookie that writing needs.
        return Response(BasketSerializer(basket.read(self.visitor)).data)

    @extend_schema(**schema.EMPTY_BASKET)
    def delete(self, request: Request) -> Response:
        return Response(BasketSerializer(basket.empty(self.visitor)).data)


class BasketLineView(VisitorView):
    """One product in the visitor's basket: PUT {"quantity": 1 to 99} sets it, DELETE takes it out."""

    @extend_schema(**schema.PUT_LINE)
    def put(self, request: Request, product_id: int) -> Response:
        quantity = QuantitySerializer.parse(request.data)
        return Response(BasketSerializer(basket.put(self.visitor, product_id, quantity)).data)

    @extend_schema(**schema.REMOVE_LINE)
    def delete(self, request: Request, product_id: int) -> Response:
        return Response(BasketSerializer(basket.remove(self.visitor, product_id)).data)
