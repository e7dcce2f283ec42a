import re
from dataclasses import dataclass
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from store.basket import Basket, Line, Note
from store.basket_lines import MAX_QUANTITY
from store.models import MAX_PRICE, Product
from store.product_query import ALL_PRODUCTS, MAX_LIMIT, ORDERINGS, ProductQuery
from store.product_rules import whole_number
from store.ranking import DEFAULT_POPULAR, MAX_POPULAR, Popular, Ranked, Recent

MAX_OFFSET = 2**31 - 1

A_BOOK = {
    "id": 1,
    "name": "Book A",
    "desc": "book A description",
    "price": 1000,
    "date_created": "2026-11-20T05:05:54.435061Z",
    "date_modified": "2026-11-20T05:05:54.435061Z",
}


class WholeNumberField(serializers.IntegerField):
    """A number that a person may have written: as everywhere, by `product_rules.whole_number`."""

    def to_internal_value(self, data: Any) -> int:
        try:
            return whole_number(str(data))
        except ValueError:
            self.fail("invalid")


@extend_schema_serializer(
    examples=[
        OpenApiExample("Book A", A_BOOK, response_only=True),
        OpenApiExample(
            "A new book", {"name": "Book A", "desc": "", "price": 1000}, request_only=True
        ),
    ]
)
class ProductSerializer(serializers.ModelSerializer[Product]):
    """A product as the API shows it; `description` is called `desc` there."""

    desc = serializers.CharField(source="description", required=False, allow_blank=True)
    price = WholeNumberField(required=False, allow_null=True, min_value=0, max_value=MAX_PRICE)

    class Meta:
        model = Product
        fields = ("id", "name", "desc", "price", "date_created", "date_modified")


class PlainIntegerField(serializers.IntegerField):
    """An integer in plain digits; Python's int() takes 1_000 and other alphabets' digits as well."""

    def to_internal_value(self, data: Any) -> int:
        if not re.fullmatch(r"-?[0-9]+", str(data)):
            self.fail("invalid")
        return int(super().to_internal_value(data))


class ProductQuerySerializer(serializers.Serializer[ProductQuery]):
    """The query parameters of every product list; a bad one is a 400, an unknown one is ignored."""

    limit = PlainIntegerField(required=False, min_value=1, max_value=MAX_LIMIT)
    offset = PlainIntegerField(required=False, min_value=0, max_value=MAX_OFFSET)
    search = serializers.CharField(required=False, allow_blank=True, max_length=100)
    ordering = serializers.ChoiceField(
        required=False, choices=[sign + name for name in ORDERINGS for sign in ("", "-")]
    )
    min_price = PlainIntegerField(required=False, min_value=0, max_value=MAX_PRICE)
    max_price = PlainIntegerField(required=False, min_value=0, max_value=MAX_PRICE)

    @classmethod
    def parse(cls, parameters: QueryDict) -> ProductQuery:
        """Return the query that the request's `parameters` describe; raises ValidationError (400)."""
        if not parameters:
            return ALL_PRODUCTS
        serializer = cls(data=parameters.dict())
        serializer.is_valid(raise_exception=True)
        return ProductQuery(**serializer.validated_data)


class RankedProductSerializer(serializers.Serializer[Ranked]):
    views = serializers.IntegerField()
    product = ProductSerializer()


class PopularSerializer(serializers.Serializer[Popular]):
    """The products that were looked at most; `available` is false while Redis is down."""

    available = serializers.BooleanField()
    results = RankedProductSerializer(many=True)


class RecentSerializer(serializers.Serializer[Recent]):
    """The products that the visitor looked at last; `available` is false while Redis is down."""

    available = serializers.BooleanField()
    results = ProductSerializer(many=True)


class PopularQuerySerializer(serializers.Serializer[int]):
    """How many of the most viewed products are asked for."""

    limit = PlainIntegerField(required=False, min_value=1, max_value=MAX_POPULAR)

    @classmethod
    def parse(cls, parameters: QueryDict) -> int:
        """Return the number that the request's `parameters` ask for; raises ValidationError (400)."""
        serializer = cls(data=parameters.dict())
        serializer.is_valid(raise_exception=True)
        return int(serializer.validated_data.get("limit", DEFAULT_POPULAR))


class LineSerializer(serializers.Serializer[Line]):
    product = serializers.IntegerField()
    name = serializers.CharField()
    price = serializers.IntegerField(allow_null=True)
    priced = serializers.BooleanField()
    quantity = serializers.IntegerField()
    total = serializers.IntegerField()


class NoteSerializer(serializers.Serializer[Note]):
    product = serializers.IntegerField()
    note = serializers.CharField()


class BasketSerializer(serializers.Serializer[Basket]):
    """The visitor's basket, lines in id order; `notes` say what has happened to it by itself."""

    lines = LineSerializer(many=True)
    total = serializers.IntegerField()
    notes = NoteSerializer(many=True)


class QuantitySerializer(serializers.Serializer[int]):
    """The body of a write to the basket."""

    quantity = WholeNumberField(min_value=1, max_value=MAX_QUANTITY)

    @classmethod
    def parse(cls, body: Any) -> int:
        """Return the quantity that the request's `body` names; raises ValidationError (400)."""
        serializer = cls(data=body)
        serializer.is_valid(raise_exception=True)
        return int(serializer.validated_data["quantity"])


@dataclass(frozen=True)
class Upload:
    """What a request to import something brings along."""

    file: "UploadedFile[bytes]"
    all_or_nothing: bool


class ImportSerializer(serializers.Serializer[Upload]):
    """The form of a request to import something."""

    file = serializers.FileField()
    all_or_nothing = serializers.BooleanField(default=False)

    @classmethod
    def parse(cls, body: Any) -> Upload:
        """Return what the request's `body` holds; raises ValidationError (400)."""
        serializer = cls(data=body)
        serializer.is_valid(raise_exception=True)
        return Upload(**serializer.validated_data)
