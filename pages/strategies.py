"""Which way of caching to use: the figures of the benchmark."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from pages.page import page
from pages.powers import powers_of


@require_safe
@page
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/strategies.html", {"powers": powers_of(request)})
