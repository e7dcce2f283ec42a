"""Whole answers of API views from the cache: what is stored, for whom, and what never is."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.middleware.csrf import get_token
from django.test import Client
from django.urls import path
from django.utils import translation
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from freshcache.http.request_reads import noted
from freshcache.singleflight import SharedReads
from store.models import Product
from store.regions import products
from tests.configuration import configure
from tests.servers import free_port
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]
as_own_urls = pytest.mark.urls("tests.test_view_caching")

calls: list[str] = []


def answer(name: str, **response) -> Response:
    calls.append(name)
    return Response({"name": name, "calls": len(calls)}, **response)


class Shared(APIView):
    permission_classes = ()

    @products.cached_response(60)
    def handle(self, request):
        return answer("shared")

    get = post = handle


class PerUser(APIView):
    @products.cached_response(60, vary_on=["user"])
    def get(self, request):
        return answer(request.user.username or "nobody")


@api_view()
@products.cached_response(60, vary_on=["Accept-Language"])
def in_languages(request):
    return answer(request.headers.get("Accept-Language", ""))


@api_view()
@products.cached_response(60)
def refusing(request):
    what = request.query_params["what"]
    if what == "cookie":
        response = answer(what)
        response.set_cookie("mark", "secret")
        return response
    if what == "session":
        request.session.get("anything")
    if what == "csrf":
        get_token(request._request)
    headers = {
        "status": {},
        "vary": {"Vary": "X-Tenant"},
        "header": {"X-Next": "2"},
        "no-store": {"Cache-Control": "no-store"},
        "private": {"Cache-Control": "private, max-age=600"},
        "short": {"Cache-Control": "max-age=59"},
        "broken": {"Cache-Control": "max-age=soon"},
    }.get(what)
    return answer(what, headers=headers, status=404 if what == "status" else 200)


READS = {
    "cookie theme": lambda request: request.COOKIES.get("theme"),
    "cookie who": lambda request: request.COOKIES["who"],
    "cookie absent": lambda request: "absent" in request.COOKIES,
    "cookie *": lambda request: dict(request.COOKIES),
    "cookie signed": lambda request: request.get_signed_cookie("signed", "nothing"),
    "header User-Agent": lambda request: request.headers.get("user-agent"),
    "header X-Tenant": lambda request: request.headers["X-Tenant"],
    "header Referer": lambda request: request.META.get("HTTP_REFERER"),
    "header X-Absent": lambda request: "X-Absent" in request.headers,
    "header Cookie": lambda request: request.META["HTTP_COOKIE"],
    "META *": lambda request: list(request.META.items()),
    "META REMOTE_ADDR": lambda request: request.META["REMOTE_ADDR"],
    "META REMOTE_USER": lambda request: request.META.get("REMOTE_USER"),
    "session": lambda request: request.session.get("x"),
    "session (key)": lambda request: request.session.session_key,
    # By what has had it from before the view.
    "session (kept)": lambda request: request._request.session.__dict__["_session"].get("x"),
    "CSRF token": lambda request: get_token(request._request),
    "header Accept": lambda request: request._request.accepts("text/plain"),
    "header X-Forwarded-Host": lambda request: request.META.get("HTTP_X_FORWARDED_HOST"),
    "header X-Forwarded-Proto": lambda request: request.headers.get("X-Forwarded-Proto"),
    "header Via": lambda request: request._request.environ.get("HTTP_VIA"),
    "META CONTENT_TYPE": lambda request: request._request.content_type,
    "META CONTENT_TYPE (params)": lambda request: request._request.content_params,
    "META CONTENT_TYPE (encoding)": lambda request: request._request.encoding,
    "META SERVER_NAME": lambda request: request.META["SERVER_NAME"],
    "META SERVER_PORT": lambda request: request._request.get_port(),
    "META * (headers)": lambda request: repr(request.headers),
    "META * (private headers)": lambda request: request.headers._store,
}
IN_THE_KEY = {
    "host": lambda request: request.get_host(),
    "address": lambda request: request.build_absolute_uri("/x/"),
    "scheme": lambda request: request.is_secure(),
    "parameter": lambda request: request.query_params.get("what"),
    "declared": lambda request: request.headers.get("X-Declared"),
    "user": lambda request: request.user.is_authenticated,
    "method": lambda request: request.method,
}


@api_view(["GET", "HEAD"])
@products.cached_response(60, vary_on=["X-Declared"])
def reading(request):
    (READS | IN_THE_KEY)[request.query_params["what"]](request)
    return answer("reading")


@api_view()
@products.cached_response(60)
def missing(request):
    calls.append("missing")
    raise NotFound("It is not there.")


@api_view()
@products.cached_response(60)
def sometimes(request):
    calls.append("")
    secret = request._request.__dict__["headers"]._meta  # Looks without being seen.
    if dict.get(secret, "HTTP_X_SECRET"):
        return Response(request.headers["X-Secret"])
    return Response("nothing")


together = threading.Barrier(4)


@api_view()
@products.cached_response(60)
def four_at_once(request):
    if calls:  # Not the first one.
        together.wait(60)
    calls.append("")
    if request.query_params["how"] == "missing":
        raise NotFound
    return Response(request.COOKIES.get("who", ""))


@api_view()
@products.cached_response(60)
def long_lived(request):
    return answer("long", headers={"Cache-Control": "public, max-age=60", "Vary": "Accept"})


held, go_on = threading.Event(), threading.Event()
marks = itertools.count()  # Each of threads that come at once gets its own.


@api_view()
@products.cached_response(60)
def held_with_a_cookie(request):
    held.set()
    assert go_on.wait(30)
    response = answer("held")
    response.set_cookie("mark", f"of {request.query_params.get('x')} {next(marks)}")
    return response


urlpatterns = [
    path("shared/", Shared.as_view()),
    path("also-shared/", Shared.as_view()),
    path("per-user/", PerUser.as_view()),
    path("in-languages/", in_languages),
    path("refusing/", refusing),
    path("long-lived/", long_lived),
    path("reading/", reading),
    path("missing/", missing),
    path("four/", four_at_once),
    path("sometimes/", sometimes),
    path("held/", held_with_a_cookie),
]


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def sign_in(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.create_user(name))
    return client


@as_own_urls
def test_the_second_request_is_answered_without_the_view(client):
    first, second = client.get("/shared/"), client.get("/shared/")
    assert first.json() == second.json() == {"name": "shared", "calls": 1}
    assert first["Cache-Status"].startswith("store; fwd=miss; stored; ttl=")
    assert second["Cache-Status"].startswith("store; hit; ttl=")
    assert second["Cache-Control"] == "no-cache"
    assert first["Vary"] == second["Vary"] == "Accept, Cookie"
    assert calls == ["shared"]


@as_own_urls
def test_a_client_that_has_the_answer_gets_a_304(client):
    tag = client.get("/shared/")["ETag"]
    known = client.get("/shared/", headers={"if-none-match": tag})
    assert (known.status_code, known.content) == (304, b"")


@as_own_urls
def test_head_is_answered_from_the_same_entry(client):
    client.get("/shared/")
    assert client.head("/shared/").headers["Cache-Status"].startswith("store; hit")
    assert calls == ["shared"]


@as_own_urls
def test_other_methods_and_pages_for_people_go_past_the_cache(client):
    client.get("/shared/")
    client.post("/shared/")
    client.generic("POST", "/shared/")  # Without a body.
    page = client.get("/shared/", headers={"accept": "text/html"})
    assert page["Content-Type"].startswith("text/html")
    assert "Cache-Status" not in page
    assert calls == ["shared"] * 4


@as_own_urls
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/shared/?a=1&b=2", "/shared/?b=2&a=1", True),
        ("/shared/?a=%31", "/shared/?a=1", True),
        ("/shared/?a=1&b=2&a=3", "/shared/?b=2&a=1&a=3", True),
        ("/shared/?a=1&a=2", "/shared/?a=2&a=1", False),
        ("/shared/?a=1&a=2", "/shared/?a=2", False),
        ("/shared/", "/shared/?a=1", False),
        ("/shared/?a=1", "/shared/?a=2", False),
        ("/shared/?a=1&b=2", "/shared/?a=1%26b=2", False),
        ("/shared/", "/also-shared/", False),
    ],
)
def test_an_entry_is_for_one_path_and_one_normalised_query(client, one, other, same):
    client.get(one)
    client.get(other)
    assert len(calls) == (1 if same else 2)


@as_own_urls
def test_an_entry_is_for_one_host_and_scheme_as_answers_hold_links(client):
    for headers, secure in (("localhost", False), ("127.0.0.1", False), ("localhost", True)):
        client.get("/shared/", headers={"host": headers}, secure=secure)
    assert len(calls) == 3


@as_own_urls
def test_who_is_signed_in_goes_past_an_entry_that_does_not_vary_on_users(client):
    client.get("/shared/")
    response = sign_in("ann").get("/shared/")
    assert "Cache-Status" not in response
    assert calls == ["shared"] * 2


@as_own_urls
def test_an_entry_of_one_user_is_never_shared(client, settings):
    configure(
        settings, MAX_VARIANTS=10**9
    )  # Entries that share one of its places displace each other.
    ann, bob = sign_in("ann"), sign_in("bob")
    for _ in range(2):
        assert ann.get("/per-user/").json()["name"] == "ann"
        assert bob.get("/per-user/").json()["name"] == "bob"
        assert client.get("/per-user/").json()["name"] == "nobody"
    assert sorted(calls) == ["ann", "bob", "nobody"]
    response = ann.get("/per-user/")
    assert response["Cache-Control"] == "private, no-cache"
    assert {"Authorization", "Cookie"} <= set(response["Vary"].split(", "))


@as_own_urls
def test_an_entry_varies_on_the_headers_that_the_view_declares(client):
    for _ in range(2):
        for language in ("fa", "en"):
            response = client.get("/in-languages/", headers={"accept-language": language})
            assert response.json()["name"] == language
    assert sorted(calls) == ["en", "fa"]
    assert "Accept-Language" in response["Vary"]


@as_own_urls
@pytest.mark.parametrize(
    "what",
    [
        "status",
        "cookie",
        "session",
        "csrf",
        "vary",
        "header",
        "no-store",
        "private",
        "short",
        "broken",
    ],
)
def test_what_is_for_one_request_only_is_not_stored(client, what):
    first, second = (client.get(f"/refusing/?what={what}") for _ in range(2))
    assert len(calls) == 2
    assert first.status_code == second.status_code == (404 if what == "status" else 200)
    assert first["Cache-Status"] == second["Cache-Status"]
    assert second["Cache-Status"].startswith('store; fwd=bypass; detail="')


@as_own_urls
@pytest.mark.parametrize("what", READS)
def test_an_answer_made_from_what_the_key_lacks_is_not_shared(client, what):
    for name in ("theme", "who", "signed"):
        client.cookies[name] = "mine"
    headers = {"X-Tenant": "mine", "X-Declared": "a", "User-Agent": "mine", "Host": "testserver"}
    answers = [client.get("/reading/", {"what": what}, headers=headers) for _ in range(3)]
    assert len(calls) == 3
    expected = what.partition(" (")[0]
    assert {one["Cache-Status"] for one in answers} == {
        f'store; fwd=bypass; detail="reads {expected}"'
    }


@as_own_urls
@pytest.mark.parametrize("what", IN_THE_KEY)
def test_what_is_in_the_key_may_be_read(client, what):
    for _ in range(3):
        client.get("/reading/", {"what": what}, headers={"X-Declared": "a"})
    assert len(calls) == 1


@as_own_urls
def test_an_answer_made_for_head_is_not_shared_with_get_by_a_view_that_tells_them_apart(client):
    client.head("/reading/?what=method")
    client.get("/reading/?what=method")
    assert len(calls) == 2
    client.head("/reading/?what=method")
    client.head("/shared/")
    assert client.get("/shared/").json()["calls"] == 3


@as_own_urls
def test_a_request_is_as_it_was_once_it_has_been_looked_at(rf):
    request = rf.get("/reading/", {"what": "declared"})
    request.session = SessionStore()
    before = (type(request), request.META, request.environ, request.COOKIES)
    with noted(request, []):
        request.encoding = "utf-8"
        request.META["NEW"] = "x"
        assert (request.method, request.content_type) == ("GET", "")
    assert (type(request), request.META, request.environ, request.COOKIES) == before
    assert request.META is request.environ
    assert request.encoding == "utf-8"


@as_own_urls
def test_answers_in_other_languages_are_others(client):
    for language in ("en", "fa", "en", "fa"):
        with translation.override(language):
            client.get("/shared/")
    assert len(calls) == 2


@as_own_urls
def test_an_error_keeps_the_headers_that_it_has_without_the_cache(client):
    client.force_login(User.objects.create_user("somebody"))
    client.logout()
    for _ in range(2):
        response = client.get("/missing/")
        assert response.status_code == 404
        assert "Cookie" in response["Vary"]


@as_own_urls
@pytest.mark.parametrize("how", ["cookie", "missing"])
def test_views_that_are_not_to_be_stored_do_not_wait_for_each_other(client, how):
    def ask(_: object) -> int:
        try:
            return Client().get("/four/", {"how": how}).status_code
        finally:
            connection.close()

    first = ask(0)
    with ThreadPoolExecutor(4) as pool:  # Each waits in the view until all four are there.
        assert list(pool.map(ask, range(4))) == [first] * 4


@as_own_urls
def test_an_address_is_cached_again_once_its_answer_may_be_stored(client):
    client.get("/sometimes/", headers={"X-Secret": "1"})
    for _ in range(4):
        client.get("/sometimes/")
    assert len(calls) == 3  # What was not to be stored, what may be, and what fills the cache.


@as_own_urls
def test_a_cache_control_that_lets_it_live_long_enough_is_no_obstacle(client):
    client.get("/long-lived/")
    client.get("/long-lived/")
    assert calls == ["long"]


@as_own_urls
@pytest.mark.parametrize("redis_is_up", [True, False])
def test_who_waits_for_anothers_answer_does_not_get_its_cookie(settings, monkeypatch, redis_is_up):
    reading: list[object] = []
    read = SharedReads.read

    def noting(self, key, load):
        reading.append(key)
        return read(self, key, load)

    monkeypatch.setattr(SharedReads, "read", noting)
    if not redis_is_up:
        settings.CACHES = settings.CACHES | {
            "default": settings.CACHES["default"] | {"LOCATION": f"redis://127.0.0.1:{free_port()}"}
        }
    held.clear()
    go_on.clear()

    def cookie() -> str:
        try:
            # What is passed for a while after the other run of this test is another address.
            return Client().get(f"/held/?x={redis_is_up}").cookies["mark"].value
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(cookie)]
        assert held.wait(30)
        found += [pool.submit(cookie) for _ in range(3)]
        wait_for(lambda: redis_is_up or len(reading) >= 4)
        time.sleep(0.1)  # Time for the last to get where it waits.
        go_on.set()
        assert len({one.result() for one in found}) == 4


def test_the_product_list_comes_from_the_cache_and_is_fresh_after_a_write(client, books):
    path = "/store/products/?limit=2"
    first = client.get(path)
    assert client.get(path)["Cache-Status"].startswith("store; hit")
    assert client.get(path).json() == first.json()
    Product.objects.filter(pk=books[0].pk).update(price=7)
    assert client.get(path).json()["results"][0]["price"] == 7


def test_a_bad_parameter_stays_a_400_that_names_it(client, books, redis, settings):
    for _ in range(2):
        response = client.get("/store/products/?limit=no")
        assert response.status_code == 400
        assert response.json().keys() == {"limit"}
    assert not list(redis.scan_iter(f"{settings.PROJECT_NAME}:*"))  # The cache was not asked.


def test_of_a_parameter_that_is_there_twice_the_last_one_counts_for_everybody(client, books):
    assert len(client.get("/store/products/?limit=1&limit=2").json()["results"]) == 2
    assert len(client.get("/store/products/?limit=2&limit=1").json()["results"]) == 1


def test_links_of_a_page_lead_back_to_the_host_that_was_asked(client, books):
    for host in ("localhost", "127.0.0.1", "localhost"):
        page = client.get("/store/products/?limit=2", headers={"host": host}).json()
        assert page["next"].startswith(f"http://{host}/store/products/")


def test_a_list_of_the_api_leaves_no_doubt_in_check_cache(client, books, capsys):
    from django.core.management import call_command

    client.get("/store/products/")
    client.get("/store/cached/")
    call_command("check_cache")
    assert "1 " in capsys.readouterr().out


def test_no_lifetime_is_longer_than_cache_ttl(client, books, settings):
    settings.CACHE_TTL = 0
    for _ in range(2):
        assert "ttl-0" in client.get("/store/products/")["Cache-Status"]
    settings.CACHE_TTL = 30
    client.get("/store/products/")
    ttl = client.get("/store/products/")["Cache-Status"].rpartition("ttl=")[2]
    assert 20 <= int(ttl) <= 30
    assert products.get_or_load("q", lambda: b"1", ttl=5).ttl_seconds <= 5
