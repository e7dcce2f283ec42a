"""Addresses that lead nowhere: in the API with JSON, elsewhere with a page."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from pages.page import page
from store import errors


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if request.path.startswith("/store/"):
        return errors.not_found(request, exception)
    return _page(request)


@page
def _page(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/not_found.html", {"nobody": True}, status=404)
