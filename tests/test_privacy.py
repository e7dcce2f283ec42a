"""No shared entry, and no answer to another, holds anything of a user, a cookie or a header."""

import base64
import re
import zlib
from pathlib import Path

import django
import orjson
import pytest
from django.contrib.auth.models import User
from django.test import Client
from redis import Redis

from freshcache.entry import GENERATION_CHARACTERS, Entry
from store.models import Product

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

# The first release of Django 5.2 with all fixes of 2026 for leaks through caches and sessions.
LEAK_FIXES = (5, 2, 19)
SECRET = "s3cr3t-0f-0ne-v1sitor"
CSRF_SECRET = "CsrfCookieOfOneVisitor0123456789"
ENTRY_HEADER = {"query", "etag", "fill_seconds", "ttl_ms", "bytes", "compressed"}

PATHS = ["/store/cached/", "/store/"]
ACCEPTS = [
    "application/json",
    "text/html",
    "*/*",
    "text/html;q=0.1, application/json;q=0.2",
    f"application/json; indent=4; note={SECRET}",
    f"{SECRET}/*, */*;q=0.1",
    f"application/{SECRET}",
    f"not a media type {SECRET}",
    "",
]
QUERIES = ["", "?format=json", "?format=api", f"?token={SECRET}", f"?format={SECRET}"]
HEADERS = {
    "none": {},
    "Authorization": {
        "authorization": "Basic " + base64.b64encode(f"someone:{SECRET}".encode()).decode()
    },
    "a bearer token": {"authorization": f"Bearer {SECRET}"},
    "cookies": {"cookie": f"sessionid={SECRET}; csrftoken={CSRF_SECRET}; other={SECRET}"},
    "unknown headers": {
        "x-user": SECRET,
        "x-forwarded-for": SECRET,
        "accept-language": SECRET,
        "user-agent": SECRET,
        "referer": f"http://{SECRET}/",
        "vary": SECRET,
    },
}
every_header = pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())


@pytest.fixture
def member(transactional_db) -> Client:
    """A client that is signed in as a staff user whose name is the secret, with a CSRF cookie."""
    user = User.objects.create_user(
        SECRET, email=f"{SECRET}@example.com", password=SECRET, is_staff=True
    )
    client = Client()
    client.force_login(user)
    client.cookies["csrftoken"] = CSRF_SECRET
    return client


def shared_values(redis: Redis, project: str) -> dict[str, bytes]:
    """Return what the cache holds by key, sessions left out, which are one user's own."""
    return {
        key.decode(): value
        for key in redis.scan_iter(f"{project}:*")
        if b":session:" not in key
        and not key.endswith(b":events")
        and (value := redis.get(key)) is not None
    }


def plain(value: bytes) -> bytes:
    """Return an entry with its body as it was before it was compressed."""
    head, _, body = value.partition(b"\n")
    return head + (zlib.decompress(body) if b'"compressed":true' in head else body)


def secrets_in(content: bytes, *more: str) -> list[str]:
    return [one for one in (SECRET, CSRF_SECRET, *more) if one and one.encode() in content]


def csrf_token_of(page) -> str:
    """Return the masked CSRF token in a page's script for the API's forms."""
    found = re.search(r'"csrfToken": "(\w+)"', page.text)
    return found[1] if found else ""


def without_time(results: bytes) -> dict:
    return {**orjson.loads(results), "response_time": 0}


def test_django_has_all_leak_fixes():
    required = re.search(
        r"^django==([\d.]+)\b", Path("requirements.txt").read_text(), re.MULTILINE | re.IGNORECASE
    )
    assert required, "requirements.txt does not pin Django"
    assert tuple(map(int, required[1].split("."))) >= LEAK_FIXES
    assert django.VERSION[:3] >= LEAK_FIXES


@every_header
@pytest.mark.parametrize("accept", ACCEPTS)
def test_nothing_of_a_request_is_stored(client, books, redis, settings, headers, accept):
    requests = [("get", f"/store/cached/{query}") for query in QUERIES]
    for method, path in [*requests, ("head", "/store/cached/"), ("get", "/store/")]:
        redis.delete(f"{settings.PROJECT_NAME}:1:product")  # So that each request fills it.
        getattr(client, method)(path, headers={**headers, "accept": accept})
    for key, value in shared_values(redis, settings.PROJECT_NAME).items():
        assert not secrets_in(key.encode()), key
        assert not secrets_in(plain(value)), key


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_nothing_of_a_signed_in_user_is_stored(member, books, redis, settings, accept):
    session = member.cookies["sessionid"].value
    page = member.get("/store/cached/", headers={"accept": accept})
    assert page.status_code == 201
    values = shared_values(redis, settings.PROJECT_NAME)
    assert len(values) == 3  # the entry, its stale copy, the generation
    for key, value in values.items():
        assert not secrets_in(plain(value), session, csrf_token_of(page)), key
        assert b"csrf" not in plain(value).lower(), key


def test_the_search_for_secrets_finds_one_in_a_compressed_entry(redis, settings):
    key = f"{settings.PROJECT_NAME}:1:product:stale"
    entry = Entry("0" * GENERATION_CHARACTERS, "", 'W/"x"', 0.1, 1000, SECRET.encode() * 50)
    redis.set(key, entry.encode(compress=True))
    value = shared_values(redis, settings.PROJECT_NAME)[key]
    assert not secrets_in(value)
    assert secrets_in(plain(value)) == [SECRET]


@every_header
@pytest.mark.parametrize("accept", ["application/json", "text/html", f"text/html; note={SECRET}"])
def test_an_entry_is_the_same_whoever_fills_it(client, books, redis, settings, headers, accept):
    expected = client.get("/store/").content
    query = f"?min_price=5&token={SECRET}&search="
    client.get(f"/store/cached/{query}", headers={**headers, "accept": accept})
    values = shared_values(redis, settings.PROJECT_NAME)
    entries = [Entry.decode(value) for key, value in values.items() if "generation" not in key]
    assert len(entries) == 2
    for entry in entries:
        assert entry
        assert entry.query == '{"min_price":5}'
        assert orjson.loads(entry.body) == orjson.loads(expected)["results"][:2]
    for key, value in values.items():
        if "generation" not in key:
            header = orjson.loads(value.partition(b"\n")[0][GENERATION_CHARACTERS + 1 :])
            assert set(header) == ENTRY_HEADER


@every_header
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["", f"?token={SECRET}"])
def test_the_next_visitor_gets_nothing_of_the_one_before(client, books, path, query, headers):
    expected = without_time(client.get("/store/cached/").content)["results"]
    for accept in ("application/json", "text/html", f"application/json; note={SECRET}"):
        client.get(f"{path}{query}", headers={**headers, "accept": accept})
        for other_accept in ("application/json", "text/html"):
            answer = Client().get(path, headers={"accept": other_accept})
            assert answer.status_code == 200
            assert not secrets_in(answer.content + answer.serialize_headers())
        assert without_time(Client().get(path).content)["results"] == expected


@pytest.mark.parametrize("path", PATHS)
def test_a_json_list_is_the_same_for_a_user_and_for_nobody(member, books, path):
    Client().get(path)
    own, other = member.get(path), Client().get(path)
    assert without_time(own.content) == without_time(other.content)
    for answer in (own, other):
        assert not answer.cookies
        assert "Cookie" not in answer["Vary"]
        assert not secrets_in(answer.content + answer.serialize_headers())


@pytest.mark.parametrize("path", PATHS)
def test_a_list_reads_neither_session_nor_user(member, books, path, django_assert_num_queries):
    Client().get("/store/cached/")
    for accept in ("application/json", "text/html"):
        with django_assert_num_queries(1 if path == "/store/" else 0):
            answer = member.get(path, headers={"accept": accept})
        assert "sessionid" not in answer.cookies
        assert SECRET.encode() not in answer.content


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "authorization", ["Basic " + base64.b64encode(b"no:one").decode(), "Basic !", "Bearer x", "x"]
)
def test_wrong_credentials_are_not_looked_at(client, books, path, authorization):
    answer = client.get(path, headers={"authorization": authorization})
    assert answer.status_code in (200, 201)
    assert "WWW-Authenticate" not in answer


@pytest.mark.parametrize("path", PATHS)
def test_answers_vary_with_accept(client, books, path):
    for accept in ("application/json", "text/html"):
        answer = client.get(path, headers={"accept": accept})
        assert "accept" in [name.strip().lower() for name in answer["Vary"].split(",")]
    client.get("/store/cached/")
    known = client.get("/store/cached/", headers={"if-none-match": "*"})
    assert known.status_code == 304
    assert "accept" in known["Vary"].lower()


@pytest.mark.parametrize(("accept", "status"), [("application/xml", 406), ("text/plain", 406)])
def test_an_unknown_type_is_406_and_stores_nothing(client, books, redis, settings, accept, status):
    assert client.get("/store/cached/", headers={"accept": accept}).status_code == status
    assert not shared_values(redis, settings.PROJECT_NAME)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["", "?format=api"])
def test_each_visitor_gets_a_csrf_token_of_his_own(books, path, query):
    pages = [Client().get(f"{path}{query}", headers={"accept": "text/html"}) for _ in range(3)]
    tokens = {csrf_token_of(page) for page in pages}
    cookies = {page.cookies["csrftoken"].value for page in pages}
    assert "" not in tokens
    assert len(tokens) == len(cookies) == 3


@pytest.mark.parametrize("path", [*PATHS, "/store/products/"])
def test_a_page_with_a_csrf_token_is_not_for_shared_caches(member, books, path):
    """A shared cache that kept it would hand its cookie and token to the next visitor (RFC 9111)."""
    for visitor in (Client(), member):
        page = visitor.get(path, headers={"accept": "text/html"})
        assert csrf_token_of(page)
        assert "csrftoken" in page.cookies
        directives = {one.strip() for one in page.get("Cache-Control", "").split(",")}
        assert directives & {"private", "no-store"}


def test_a_page_is_never_confirmed_by_the_tag_of_a_list(books):
    """Page and JSON differ, and each page from the other: no tag may stand for two of them."""
    tag = Client().get("/store/cached/")["ETag"]
    page = Client().get("/store/cached/", headers={"accept": "text/html"})
    assert page.get("ETag") != tag
    for known in filter(None, (tag, page.get("ETag"), "*")):
        other = Client().get(
            "/store/cached/", headers={"accept": "text/html", "if-none-match": known}
        )
        assert other.status_code == 200
        assert "Book A" in other.text


def test_what_a_signed_in_editor_sees_in_forms_is_not_in_the_lists(member, books, redis, settings):
    page = member.get("/store/products/", headers={"accept": "text/html"})
    assert SECRET in page.text  # The browsable page of the API greets its user by name.
    for accept in ("application/json", "text/html"):
        for path in PATHS:
            assert SECRET not in member.get(path, headers={"accept": accept}).text
    Product.objects.update(price=1)
    for value in shared_values(redis, settings.PROJECT_NAME).values():
        assert not secrets_in(plain(value))
