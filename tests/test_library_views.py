"""Pages of libraries, asked for what their own links never ask: that is no mistake of the store."""

import gc

import pytest
from django.contrib.auth.models import User
from django.test import Client

from simple_django_redis import error_pages
from store import api_docs

pytestmark = pytest.mark.django_db(transaction=True)

HOSTILE = ("%0a", "%00", "'", "-1", "9" * 20, "%ff", "a.b", "%DB%B1", "..%2f", "[]", "")
PARAMETERS = (
    *("version", "lang", "format", "script", "next", "q", "p", "o", "e", "all", "_popup", "page"),
    *("_to_field", "_changelist_filters", "id__exact", "id__in", "price__isnull", "name__regex"),
    *("name__nonsense", "job_id", "language", "app_label", "model_name", "field_name", "term"),
)
PATHS = (
    *(
        "/api/schema/",
        "/api/docs/",
        "/api-auth/login/",
        "/language/setlang/",
        "/texts.js",
        "/admin/",
    ),
    *("/admin/login/", "/admin/jsi18n/", "/admin/autocomplete/", "/admin/store/product/"),
    *("/admin/store/product/1/change/", "/admin/auth/user/", "/favicon.ico"),
    *(
        "/django-rq/",
        "/django-rq/queues/0/",
        "/django-rq/queues/0/failed/",
        "/django-rq/stats.json",
    ),
)
TYPED = ("99", "x", "%00", "-1", "9" * 20, "%ff", "import-1", "a:b")
WITH_A_PLACE = (
    *("queues/0/{}/", "queues/0/{}/delete/", "queues/0/{}/requeue/", "queues/0/{}/enqueue/"),
    *("queues/{}/", "queues/{}/empty/", "queues/{}/finished/", "queues/{}/failed/", "workers/{}/"),
    *("queues/{}/scheduled/", "queues/{}/started/", "queues/{}/deferred/", "queues/{}/actions/"),
    *("workers/0/{}/", "schedulers/{}/", "queues/{}/requeue-all/", "stats.json/{}"),
)


def mistakes(client: Client, addresses: list[str]) -> dict[str, int]:
    client.raise_request_exception = False
    found = {address: client.get(address).status_code for address in addresses}
    return {address: status for address, status in found.items() if status >= 500}


def test_no_parameter_is_a_mistake_of_the_store(admin_client):
    queries = [
        f"{path}?{name}={HOSTILE[(place + number) % len(HOSTILE)]}"
        for place, path in enumerate(PATHS)
        for number, name in enumerate(PARAMETERS)
    ]
    assert mistakes(admin_client, queries) == {}


def test_what_the_admin_cannot_look_up_is_no_mistake_of_the_store(admin_client):
    admin_client.raise_request_exception = False
    products = "/admin/store/product/"
    for query in ("price__range=1", "price__range=", "date_created__range=2026-01-01", "id__in=x"):
        assert admin_client.get(f"{products}?{query}").status_code < 500
    for chosen in ("x", "9" * 30, "1.5", "\0"):
        form = {"action": "delete_selected", "_selected_action": chosen}
        assert (
            admin_client.post(products, form).status_code < 500
        )  # A large one is none, or not there.
    for kind in range(1, 12):
        assert admin_client.get(f"/admin/r/{kind}/1/").status_code == 404


def test_no_address_typed_by_hand_is_a_mistake_of_the_store(admin_client):
    ways = [f"/django-rq/{one}" for one in WITH_A_PLACE]
    ways += ["/admin/{}/", "/admin/store/product/{}/change/", "/static/{}"]
    assert mistakes(admin_client, [way.format(one) for way in ways for one in TYPED]) == {}


def test_the_schema_is_made_once_and_takes_no_parameters(client, monkeypatch):
    first = client.get("/api/schema/")
    made = api_docs.description.cache_info().misses
    monkeypatch.setattr(api_docs, "SchemaGenerator", None)
    for query in ("version=%0a", "lang=x1", "lang=fa", "format=yaml", "script"):
        answer = client.get(f"/api/schema/?{query}", headers={"accept-language": "fa"})
        assert (answer.content, answer["ETag"]) == (first.content, first["ETag"])
    assert api_docs.description.cache_info().misses == made
    known = client.get("/api/schema/", headers={"if-none-match": first["ETag"]})
    assert known.status_code == 304


def test_parameters_leave_nothing_behind(client):
    client.get("/api/schema/")
    client.get("/api/docs/")  # Its templates are kept.
    gc.collect()
    before = len(gc.get_objects())
    for number in range(50):
        client.get(f"/api/schema/?lang=x{number}&version={number}")
        client.get(f"/api/docs/?lang=x{number}&script={number}")
    gc.collect()
    assert len(gc.get_objects()) - before < 2000


def test_the_docs_page_holds_nothing_of_its_visitor(client):
    page = client.get("/api/docs/?script=1&lang=fa")
    assert page["Content-Type"].startswith("text/html")
    assert page["Cache-Control"] == "private, no-store"
    assert client.cookies["csrftoken"].value not in page.text


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("get", "/healthz", {}, 200),
        ("get", "/readyz", {}, 200),
        ("get", "/metrics", {"X-Forwarded-For": "1.2.3.4"}, 403),
        ("post", "/store/products/", {"Transfer-Encoding": "chunked"}, 411),
        ("post", "/store/products/", {"Content-Length": "999999999"}, 413),
        ("get", "/store/", {}, 200),
        ("get", "/nowhere/", {}, 404),
        ("get", "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css", {}, 200),
    ],
)
def test_every_answer_has_what_every_answer_must_have(client, method, path, headers, status):
    answer = getattr(client, method)(path, headers=headers)
    answer.close()
    assert answer.status_code == status
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in answer["Permissions-Policy"]


def test_a_page_among_swaggers_files_has_a_policy(client):
    answer = client.get("/static/drf_spectacular_sidecar/swagger-ui-dist/oauth2-redirect.html")
    answer.close()
    assert "default-src 'none'" in answer["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("shop.example:8000", "shop.example"),
        ("shop.example", "shop.example"),
        ("[::1]:8000", "[::1]"),
    ],
)
def test_https_is_at_its_own_port(settings, host, wanted):
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["shop.example", "[::1]"]
    answer = Client().get("/store/?limit=1", headers={"host": host})
    assert (answer.status_code, answer["Location"]) == (301, f"https://{wanted}/store/?limit=1")
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_the_languages_cookie_is_as_safe_as_the_others(client):
    client.post("/language/setlang/", {"language": "fa", "next": "/"})
    cookie = client.cookies["django_language"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


def test_who_signs_in_without_a_next_page_comes_to_the_first_one(client):
    User.objects.create_user("customer", password="secret")
    form = {"username": "customer", "password": "secret"}
    assert client.post("/api-auth/login/", form)["Location"] == "/"


@pytest.mark.parametrize("path", ["/store/exports/", "/store/exports/1/"])
def test_staff_without_a_permission_export_nothing(client, path):
    client.force_login(User.objects.create_user("helper", is_staff=True))
    assert client.get(path).status_code == 403
    assert client.post("/store/exports/").status_code == 403


@pytest.mark.parametrize("path", ["/store/?" + "&x=1" * 1100, "/shop/?" + "&x=1" * 1100])
def test_what_is_wrong_with_a_request_is_no_news(client, path, caplog):
    client.get(path)
    strict = Client(enforce_csrf_checks=True)
    assert strict.post("/forget/cache/").status_code == 403
    client.get("/", headers={"host": "evil.example"})
    assert caplog.records == []


@pytest.mark.parametrize("debug", [True, False])
def test_a_page_about_an_error_has_no_passwords(settings, monkeypatch, rf, debug):
    settings.DEBUG = debug
    settings.REDIS_URL = "redis://user:hush%2Fhush@cache.example:6379/0"
    settings.MYSQL_PASSWORD = "mums-the-word"
    url, secret = settings.REDIS_URL, settings.MYSQL_PASSWORD
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError(url, secret, "hush/hush")
    made = error_pages.Reporter(rf.get("/"), raised.type, raised.value, raised.tb)
    pages = made.get_traceback_html() + made.get_traceback_text()
    assert "cache.example" in pages
    for secret in ("hush%2Fhush", "mums-the-word"):
        assert secret not in pages
