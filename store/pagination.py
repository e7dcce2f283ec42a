from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request

from store.product_query import MAX_LIMIT
from store.serializers import ProductQuerySerializer


class ProductPagination(LimitOffsetPagination):
    """Pages by `limit` and `offset`, refused with 400 where they are bad, as on all product lists."""

    default_limit = 100
    max_limit = MAX_LIMIT

    def get_limit(self, request: Request) -> int:
        return ProductQuerySerializer.parse(request.query_params).limit or self.default_limit

    def get_offset(self, request: Request) -> int:
        return ProductQuerySerializer.parse(request.query_params).offset
