"""The shop: products, the basket, what is looked at."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from pages.page import page
from pages.powers import powers_of


@require_safe
@page
def products(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/shop.html", {"powers": powers_of(request)})
