"""A product's price changed by a visitor, by the rules of the API and as any other write."""

import time
from dataclasses import dataclass

from django.db import transaction

from store.models import Product
from store.serializers import ProductSerializer


@dataclass(frozen=True)
class PriceChange:
    """What was written: `before` is the price that it took the place of, `seconds` its time."""

    product: Product
    before: int | None
    seconds: float


def change(product_id: str, price: str) -> PriceChange:
    """Give a product another price.

    The row is locked while its old price is read, so that `before` is what was really replaced.
    Raises Product.DoesNotExist or ValueError if there is no such product, and DRF's ValidationError
    for what is no price.
    """
    started = time.perf_counter()
    with transaction.atomic():
        product = Product.objects.select_for_update().get(pk=product_id)
        before = product.price
        serializer = ProductSerializer(product, data={"price": price}, partial=True)
        serializer.is_valid(raise_exception=True)
        serializer.save()
    return PriceChange(product, before, time.perf_counter() - started)
