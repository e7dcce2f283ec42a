"""Which way of caching to use: the benchmark's figures, for people."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from pages import bench_results
from pages.page import page


@require_safe
@page
def home(request: HttpRequest) -> HttpResponse:
    """Show what `make bench` found, or how to find it out."""
    return render(request, "pages/strategies.html", {"results": bench_results.read()})
