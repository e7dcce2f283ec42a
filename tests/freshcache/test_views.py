"""cached_response on plain Django views, async ones too, and on DRF views with DRF's own renderers."""

import asyncio

import pytest
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.template.response import SimpleTemplateResponse
from django.test import AsyncClient, Client
from django.urls import path
from rest_framework.decorators import action, api_view, renderer_classes
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ViewSet

from store.models import Product
from store.regions import products

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.engines,
    pytest.mark.urls("tests.freshcache.test_views"),
]


@products.cached_response
def as_json(request):
    return JsonResponse({"products": Product.objects.count()})


@products.cached_response(60)
def as_html(request):
    return HttpResponse(
        f"<p>{Product.objects.count()} kwöö</p>", content_type="text/html; charset=utf-8"
    )


@products.cached_response(60)
def refusing(request):
    what = request.GET["what"]
    if what == "streaming":
        return StreamingHttpResponse(iter([b"1"]))
    if what == "cookie":
        request.COOKIES.get("theme")
    if what == "accept":
        request.headers.get("Accept")
    if what == "session":
        request.session.get("x")
    response = HttpResponse(what)
    if what == "header":
        response["X-Next"] = "2"
    return response


@products.cached_response(60, vary_on=["user"])
def whose(request):
    return HttpResponse(request.user.username or "nobody")


@products.cached_response(60)
async def later(request):
    return JsonResponse({"products": await Product.objects.acount()})


class Text(BaseRenderer):
    media_type, format = "text/plain", "txt"

    def render(self, data, *_):
        return f"{data}".encode()


class Shelf(ViewSet):
    permission_classes = ()
    renderer_classes = (JSONRenderer, Text, BrowsableAPIRenderer)

    @products.cached_response
    def list(self, request):
        return Response({"products": Product.objects.count()})

    @products.cached_response(60)
    @action(detail=False)
    def popular(self, request):
        return Response([])


@api_view()
@renderer_classes([JSONRenderer])
@products.cached_response(60)
def missing(request):
    return Response({"detail": "no"}, status=404)


router = SimpleRouter()
router.register("shelf", Shelf, basename="shelf")
urlpatterns = [
    path("json/", as_json),
    path("html/", as_html),
    path("refusing/", refusing),
    path("whose/", whose),
    path("later/", later),
    path("missing/", missing),
    *router.urls,
]


def status_of(response) -> str:
    return response["Cache-Status"].split("; ttl")[0].removeprefix("store; ")


@pytest.mark.parametrize(
    ("address", "content_type", "body"),
    [
        ("/json/", "application/json", b'{"products": 0}'),
        ("/html/", "text/html; charset=utf-8", "<p>0 kwöö</p>".encode()),
        ("/shelf/", "application/json", b'{"products":0}'),
        ("/shelf/popular/", "application/json", b"[]"),
    ],
)
def test_the_second_answer_is_the_first_ones_bytes(client, address, content_type, body):
    for expected in ("fwd=miss; stored", "hit"):
        found = client.get(address)
        assert (status_of(found), found["Content-Type"], found.content) == (
            expected,
            content_type,
            body,
        )
    known = client.get(address, headers={"If-None-Match": found["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    Product.objects.create(name="a")
    assert status_of(client.get(address)) == "fwd=miss; stored"


def test_each_of_drfs_renderers_has_an_entry_and_the_page_has_none(client):
    for accept, body in (
        ("application/json", b'{"products":0}'),
        ("text/plain", b"{'products': 0}"),
    ):
        for expected in ("fwd=miss; stored", "hit"):
            found = client.get("/shelf/", headers={"Accept": accept})
            assert (status_of(found), found.content) == (expected, body)
            assert found["Content-Type"].startswith(accept)
    assert "Cache-Status" not in client.get("/shelf/", headers={"Accept": "text/html"})


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("streaming", "streaming"),
        ("cookie", "reads cookie theme"),
        ("accept", "reads header Accept"),
        ("session", "reads session"),
        ("header", "sets x-next"),
    ],
)
def test_what_is_for_one_request_only_is_not_stored_and_told(client, settings, caplog, what, why):
    settings.DEBUG = True
    for _ in range(3):
        assert status_of(client.get("/refusing/", {"what": what})) == f'fwd=bypass; detail="{why}"'
    said = [
        record.message for record in caplog.records if record.name.startswith("freshcache.http")
    ]
    assert said == [f"An answer of refusing was not stored: {why}"]


def test_users_are_told_apart_where_that_is_asked_for(django_user_model):
    names = []
    for name in ("ann", "bob", None):
        one = Client()
        if name:
            one.force_login(django_user_model.objects.create_user(name))
        names += [one.get("/whose/").content.decode() for _ in range(2)]
    assert names == ["ann", "ann", "bob", "bob", "nobody", "nobody"]


def test_signed_in_users_bypass_an_entry_that_all_share(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("ann"))
    assert "Cache-Status" not in client.get("/json/")


@pytest.mark.parametrize("address", ["/missing/", "/nowhere/"])
def test_errors_are_not_stored(client, address):
    for _ in range(2):
        found = client.get(address)
        assert found.status_code == 404
        assert "stored" not in found.get("Cache-Status", "")


def test_async_views_are_cached_and_ask_the_database_once_for_all():
    async def visit() -> list[str]:
        asked = [AsyncClient().get("/later/") for _ in range(6)]
        together = [status_of(one) for one in await asyncio.gather(*asked)]
        return [*sorted(together), status_of(await AsyncClient().get("/later/"))]

    *together, last = asyncio.run(visit())
    assert together.count("fwd=miss; stored") == 1
    assert set(together) <= {"fwd=miss; stored", "fwd=miss; collapsed", "hit"}
    assert last == "hit"


def test_a_template_is_rendered_while_it_is_watched_what_it_reads(rf, settings):
    @products.cached_response(60)
    def page(request):
        response = SimpleTemplateResponse(None, {"request": request})
        response.template_name = "rest_framework/base.html"
        response.resolve_template = lambda _: Reading()
        return response

    class Reading:
        def render(self, context, _request=None):
            return context["request"].COOKIES.get("who", "nobody")

    settings.ALLOWED_HOSTS = ["testserver"]
    assert status_of(page(rf.get("/"))) == 'fwd=bypass; detail="reads cookie who"'
