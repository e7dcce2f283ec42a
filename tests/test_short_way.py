"""Hits ahead of Django say what Django says: requests are answered on both ways and compared."""

import gzip
import json
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import orjson
import pytest
import requests
from django.test import RequestFactory
from redis.exceptions import RedisError

from freshcache import runtime
from freshcache.http import fast_path
from freshcache.http import gzip as gzipping
from freshcache.http.fast_path import FastPath
from freshcache.runtime import cache_of
from simple_django_redis.handler import Handler, Request
from store import own_writes
from store.models import Product
from store.regions import products
from tests.browser import chromium_binary
from tests.configuration import configure
from tests.processes import StoreProcess
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

PATH = "/store/cached/"
# Each answer has its own; that they are there is compared, and for a hit what they look like.
OF_ONE_ANSWER = {"age", "cache-status", "content-length", "server-timing"}


def in_front_of(application) -> FastPath:
    """Do as wsgi.py does."""
    return FastPath(application, tokens=own_writes.tokens, harmless=[own_writes.HEADER])


@dataclass
class Site:
    """Django, and the short way in front of it; counts what reached Django."""

    reached_django: int = 0
    django: Handler = field(default_factory=Handler)

    def __post_init__(self) -> None:
        self.short = in_front_of(self._counting)

    def _counting(self, environ: dict[str, Any], start_response) -> Iterable[bytes]:
        self.reached_django += 1
        return self.django(environ, start_response)

    def ask(self, application, path: str = PATH, method: str = "GET", **environ) -> "Reply":
        path, _, query = path.partition("?")
        asked = RequestFactory()._base_environ(
            PATH_INFO=path, QUERY_STRING=query, REQUEST_METHOD=method, **environ
        )
        if not asked["HTTP_COOKIE"]:
            del asked["HTTP_COOKIE"]
        started: list[Any] = []
        body = application(asked, lambda *arguments: started.extend(arguments))
        parts = list(body)
        reply = Reply(started[0], dict(started[1]), b"".join(parts), parts)
        assert len(started[1]) == len(reply.headers), "a header twice"
        if hasattr(body, "close"):
            body.close()
        return reply

    def prepare(self, path: str = PATH, method: str = "GET", **environ) -> None:
        """Return once the process has a copy to serve, and Django has answered such a request."""

        def is_served() -> bool:
            before = self.reached_django
            self.ask(self.short, path, method, **environ)
            return self.reached_django == before

        wait_for(is_served)


@dataclass(frozen=True)
class Reply:
    status: str
    headers: dict[str, str]
    body: bytes
    parts: list[bytes] = field(default_factory=list)  # as they were handed to the server

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
def copies(settings, monkeypatch) -> None:
    """This process keeps copies, as processes do by default."""
    # A machine that stalls must not end the serving of copies.
    configure(settings, LOCAL_CACHE=True, LOCAL_CACHE_MAX_LAG_SECONDS=5)
    monkeypatch.setattr(cache_of(), "copies", runtime.local_cache_of(cache_of().entries))


@pytest.fixture
def site(books, settings, copies) -> Site:
    settings.ALLOWED_HOSTS = ["testserver", "localhost"]
    return Site()


def assert_same(short: Reply, long: Reply) -> None:
    assert short.status == long.status
    assert set(short.headers) == set(long.headers)
    for name in set(short.headers) - {"Age", "Cache-Status", "Content-Length", "Server-Timing"}:
        assert short.headers[name] == long.headers[name], name
    assert re.sub(r"\d+", "N", short.headers["Cache-Status"]) == re.sub(
        r"\d+", "N", long.headers["Cache-Status"]
    )
    if long.body:
        assert {**short.json, "response_time": 0} == {**long.json, "response_time": 0}
        assert 0 < short.json["response_time"] < 1
        assert int(short.headers["Content-Length"]) == len(short.body)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"path": f"{PATH}?limit=2&offset=1"},
        {"path": f"{PATH}?ordering=-price&unknown=1"},
        {"path": f"{PATH}?search=book"},
        {"path": f"{PATH}?format=json"},
        {"path": f"{PATH}?format=api"},
        {"HTTP_ACCEPT": "application/json"},
        {"HTTP_ACCEPT": "*/*"},
        {"HTTP_HOST": "localhost"},
        {"wsgi.url_scheme": "https", "SERVER_PORT": "443"},
        {"HTTP_COOKIE": f"sessionid={'x1' * 16}; csrftoken={'Y2' * 16}; django_language=fa"},
        {"HTTP_ORIGIN": "https://elsewhere.example"},
        {"CONTENT_LENGTH": "0"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_hit_is_answered_ahead_of_django_as_django_would(site, request_, method):
    site.prepare(method=method, **request_)
    site.reached_django = 0
    short = site.ask(site.short, method=method, **request_)
    assert site.reached_django == 0
    long = site.ask(site.django, method=method, **request_)
    assert_same(short, long)
    assert (method == "HEAD") == (short.body == b"") == (long.body == b"")


@pytest.mark.parametrize(
    "request_",
    [
        {"HTTP_ACCEPT": "text/html"},
        {"HTTP_ACCEPT": "text/html,application/json;q=0.9"},
        {"HTTP_ACCEPT": "application/json; indent=4"},
        {"HTTP_IF_NONE_MATCH": '"x"'},
        {"HTTP_RANGE": "bytes=0-1"},
        {"HTTP_HOST": "not-ours.example"},
        {"HTTP_AUTHORIZATION": "Basic eDp5"},
        {"path": f"{PATH}?limit=nonsense"},
        {"path": "/store/"},
        {"path": "/store/products/"},
        {"path": "/nowhere/"},
        {"method": "POST"},
        {"method": "OPTIONS"},
        {"CONTENT_LENGTH": "2"},
        {"CONTENT_TYPE": "text/plain; charset=cp037"},
        {"HTTP_COOKIE": "csrftoken=of-no-use"},
        {"HTTP_COOKIE": "sessionid=x"},
        {"HTTP_COOKIE": 'a=1; csrftoken="of-no-use"'},
        {"SCRIPT_URL": "/store/cached/"},
    ],
    ids=str,
)
def test_whatever_is_no_plain_hit_goes_the_long_way(site, request_):
    site.prepare()
    for _ in range(2):
        site.reached_django = 0
        short = site.ask(site.short, **request_)
        assert site.reached_django == 1
    long = site.ask(site.django, **request_)
    assert (short.status, set(short.headers)) == (long.status, set(long.headers))


NAMES_TEXT = """
CONTENT_TYPE SCRIPT_URL REDIRECT_URL HTTPS REMOTE_USER PATH_TRANSLATED AUTH_TYPE SERVER_SOFTWARE
SERVER_PROTOCOL REMOTE_ADDR REMOTE_PORT REMOTE_HOST RAW_URI REQUEST_URI wsgi.early_hints gunicorn.socket
Accept-Charset Accept-Datetime Accept-Encoding Accept-Language Accept-Patch Alt-Used Authorization
Baggage B3 Cache-Control CDN-Loop CF-Connecting-IP CF-IPCountry CF-Ray CF-Visitor Connection
Content-Encoding Content-Language Cookie Date Depth DNT Expect Forwarded From Front-End-Https Host
HTTP2-Settings If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Keep-Alive
Last-Event-ID Max-Forwards Origin Pragma Prefer Priority Proxy Proxy-Authorization Purpose Range Referer
Save-Data Sec-CH-UA Sec-CH-UA-Mobile Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Sec-GPC
TE Traceparent Tracestate Trailer Transfer-Encoding True-Client-IP Upgrade Upgrade-Insecure-Requests
User-Agent Via X-Amzn-Trace-Id X-Client-IP X-CSRFToken X-Forwarded-For X-Forwarded-Host X-Forwarded-Port
X-Forwarded-Prefix X-Forwarded-Proto X-Forwarded-Scheme X-Forwarded-Ssl X-HTTP-Method-Override
X-Method-Override X-Original-URL X-Real-IP X-Request-ID X-Requested-With X-Rewrite-URL X-Script-Name
X-Store-Seen X-Unknown-To-All"""
NAMES = [
    name if "_" in name or "." in name else "HTTP_" + name.upper().replace("-", "_")
    for name in NAMES_TEXT.split()
]
VALUES = {
    *("1", "0", "fa", "zip", "https", "on", "no-cache", "*", '"x"', "/store/", "\xff\x00", "5, 6"),
    *("gzip", "gzip;q=0", "bytes=0-1", "DELETE", "evil.example", "127.0.0.1", "::1", "a=b; c=d"),
    *("text/plain; charset=cp037", "text/plain; charset=zip", "application/json; charset=utf-16"),
    "text/plain; a*=nosuch''x",
    *(
        "sessionid=x",
        "csrftoken=y",
        "has_written=1",
        f"has_written={'5' * 32}",
        "Basic eDp5",
        "Wed, 21 Oct 2099 07:28:00 GMT",
    ),
    *("application/json", "text/html", "application/json; indent=4", f"csrftoken={'a' * 32}", ""),
}
QUERIES = {
    *(
        "",
        "limit=1",
        "limit=1&limit=2",
        "%6cimit=1",
        "search=%ff",
        "search=%FE&a",
        "format=json",
        "?",
    ),
    *(
        "limit=%DB%B1",
        "limit=1;offset=1",
        "ordering=-price",
        "search=book\xc3\xa9",
        "x=1" + "&x" * 50,
    ),
}


def what_matters(reply: Reply) -> tuple[Any, ...]:
    """Return what one request's answer has in common with that of the next one like it."""
    told = {"Vary", "Content-Type", "Cache-Control", "Location", "Set-Cookie", "Allow"}
    body = reply.body
    if reply.headers.get("Content-Encoding") == "gzip" and body:
        body = gzip.decompress(body)
    if body and reply.headers.get("Content-Type") == "application/json":
        body = json.loads(body).get("results", body)
    else:
        body = b""  # A page has a token of its own.
    status = reply.status.replace("201 Created", "200 OK")
    headers = {name: value for name, value in reply.headers.items() if name in told}
    return status, re.sub(r"(expires|csrftoken)=[^;]*;", "", str(headers)), body


def assert_both_ways_say_the_same(site: Site, path: str, **changed: str) -> None:
    for _ in range(2):  # The second may be answered from what was noted of the first.
        for one in (changed, {}):
            found = [site.ask(way, path, **one) for way in (site.short, site.django)]
            assert what_matters(found[0]) == what_matters(found[1]), (path, one, changed)


def test_no_header_and_no_name_of_the_environment_decides_what_others_get(site):
    site.prepare()
    for name in NAMES:
        site.short = in_front_of(site._counting)
        value = "fa; charset=cp037"
        assert_both_ways_say_the_same(site, f"{PATH}?limit=1", **{name: value})
    # In whose place Django sends another one, drawn by chance.
    assert_both_ways_say_the_same(site, f"{PATH}?format=json", HTTP_COOKIE="csrftoken=y")


def test_requests_that_chance_changes_get_what_django_says(site):
    seed = random.randrange(10**6)
    print(f"{seed = }")  # noqa: T201 (pytest shows it if the test fails)
    chance = random.Random(seed)
    site.prepare()
    for _ in range(50):
        query = chance.choice(sorted(QUERIES))
        names = chance.sample(NAMES, chance.randrange(4))
        changed = {name: chance.choice(sorted(VALUES)) for name in names}
        method = chance.choice(["GET", "GET", "HEAD"])
        assert_both_ways_say_the_same(site, f"{PATH}?{query}", method=method, **changed)


@pytest.mark.parametrize("charset", ["cp037", "zip", "utf-16", "idna", "undefined", "\xff"])
def test_a_query_is_read_in_utf_8_whatever_a_client_says(site, charset):
    Product.objects.create(name="\u06a9\u062a\u0627\u0628", price=1)
    said = {"CONTENT_TYPE": f"text/plain; charset={charset}"}
    for path in (PATH, "/store/", "/store/products/"):
        found = site.ask(site.short, f"{path}?search=%DA%A9%D8%AA%D8%A7%D8%A8", **said)
        assert len(found.json["results"]) == 1
    assert site.ask(site.short, "/nowhere/?a=1", **said).status.startswith("404")


@pytest.mark.parametrize("name", ["SCRIPT_URL", "REDIRECT_URL"])
@pytest.mark.parametrize("value", ["/elsewhere/", "\xff\x00", "//"])
def test_what_apache_says_of_the_address_changes_nothing(site, name, value):
    plain = site.ask(site.django, "/store/products/?limit=1")
    said = site.ask(site.short, "/store/products/?limit=1", **{name: value})
    assert (said.status, said.json) == (plain.status, plain.json)


@pytest.mark.parametrize("said", ["a*=nosuch''%41", "charset*=nosuch''x", "boundary*=\xff''x"])
def test_a_header_that_cannot_be_parsed_says_nothing(site, said):
    for kind in ("text/plain", "multipart/form-data", "application/json"):
        unread = {"CONTENT_TYPE": f"{kind}; {said}", "HTTP_ACCEPT": f"*/*, {kind}; {said}"}
        for path, status in (("/store/", "200"), ("/healthz", "200"), ("/nowhere/", "404")):
            assert site.ask(site.short, path, **unread).status.startswith(status)
        answer = site.ask(site.short, "/store/products/", "POST", CONTENT_LENGTH="3", **unread)
        assert answer.status.startswith("403")
        asked = Request(RequestFactory()._base_environ(**unread))
        assert asked.get_preferred_type(["text/html"]) is None


@pytest.mark.parametrize("charset", ["cp037", "zip", "latin-1"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
def test_a_body_in_another_charset_is_refused(site, charset, kind):
    said = {"CONTENT_TYPE": f"{kind}; charset={charset}", "CONTENT_LENGTH": "3"}
    answer = site.ask(site.short, "/store/products/", "POST", **said)
    assert answer.status.startswith("415")
    assert answer.json == {"detail": "A body has to be in UTF-8."}


@pytest.mark.parametrize(
    "headers",
    [
        {"User-Agent": "curl/7.88.1", "Accept": "*/*"},
        {"User-Agent": "requests", "Connection": "keep-alive", "Accept-Encoding": "gzip, deflate"},
        {
            "Connection": "keep-alive",
            "sec-ch-ua": '"Chromium";v="140"',
            "sec-ch-ua-mobile": "?0",
            "sec-ch-ua-platform": '"Linux"',
            "User-Agent": "Mozilla/5.0",
            "Accept": "*/*",
            "Sec-Fetch-Site": "same-origin",
            "Sec-Fetch-Mode": "cors",
            "Sec-Fetch-Dest": "empty",
            "Referer": "http://testserver/",
            "Accept-Language": "en-GB",
            "Cookie": "a=b",
        },
        {"X-Real-IP": "1.2.3.4", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http"},
        {
            "X-Request-ID": "1",
            "X-Real-IP": "1.2.3.4",
            "X-Forwarded-For": "1.2.3.4",
            "X-Forwarded-Host": "shop",
            "X-Forwarded-Port": "80",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Scheme": "http",
            "X-Scheme": "http",
        },
        {"CF-Ray": "1", "CF-Visitor": "{}", "CF-IPCountry": "DE", "CDN-Loop": "cloudflare"},
        {"X-Amzn-Trace-Id": "Root=1", "X-Forwarded-Port": "443", "Via": "1.1 proxy"},
    ],
    ids=["curl", "requests", "chromium", "nginx", "ingress-nginx", "cloudflare", "amazon"],
)
def test_what_common_clients_and_proxies_send_keeps_nobody_from_the_short_way(site, headers):
    asked = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    site.prepare(**asked)
    assert_both_ways_say_the_same(site, PATH, **asked)


@pytest.mark.parametrize(
    ("status", "header"),
    [
        ("200 OK", ("Content-Type", "text/html; charset=utf-8")),
        ("200 OK", ("Set-Cookie", "mark=of-one-visitor")),
        ("201 Created", ("X-Any", "1")),
    ],
)
def test_an_answer_that_is_no_plain_list_is_never_replayed(site, status, header):
    def answer(environ: dict[str, Any], start_response) -> list[bytes]:
        environ[fast_path.SERVED] = fast_path.Served("product", "")
        headers = {"Content-Type": "application/json"} | dict([header])
        start_response(status, list(headers.items()))
        return [b"this answer"]

    site.prepare()  # The process has a copy of that entry.
    front = in_front_of(answer)
    assert [site.ask(front).body for _ in range(3)] == [b"this answer"] * 3


def test_a_client_that_has_the_list_gets_a_304(site):
    site.prepare()
    tag = site.ask(site.short).headers["ETag"]
    assert site.ask(site.short, HTTP_IF_NONE_MATCH=tag).status.startswith("304")


def test_with_https_redirected_plain_http_never_gets_a_list(settings, books, copies):
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    site = Site()
    site.prepare(HTTP_X_FORWARDED_PROTO="https")
    for forwarded in ({}, {"HTTP_X_FORWARDED_PROTO": "http"}):
        assert site.ask(site.short, **forwarded).status.startswith("301")
    assert site.ask(site.short, HTTP_X_FORWARDED_PROTO="https").status.startswith("200")


def test_with_https_redirected_a_plain_connection_never_gets_a_list(settings, books, copies):
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.SECURE_SSL_REDIRECT = True
    site = Site()
    https = {"wsgi.url_scheme": "https"}  # and nothing else that tells
    site.prepare(**https)
    assert site.ask(site.short).status.startswith("301")
    assert site.ask(site.short, **https).status.startswith("200")


def test_a_write_is_seen_at_once_by_the_process_that_makes_it(site):
    for price in range(50, 80):
        site.prepare()
        Product.objects.update(price=price)
        assert {one["price"] for one in site.ask(site.short).json["results"]} == {price}


def test_a_write_that_redis_cannot_be_told_of_counts_here_all_the_same(site, monkeypatch):
    def refuse(family: str) -> None:
        raise RedisError("gone")

    site.prepare()
    with monkeypatch.context() as patched:
        patched.setattr(cache_of().entries, "forget", refuse)
        Product.objects.update(price=4)
    assert cache_of().copies.find("product", "") is None
    assert {one["price"] for one in site.ask(site.short).json["results"]} == {4}
    assert cache_of().outage.try_to_end()
    assert {one["price"] for one in site.ask(site.short).json["results"]} == {4}


def test_who_fills_the_entry_has_a_copy_of_it_at_once(site):
    site.prepare()
    Product.objects.update(price=9)
    # An announcement that comes while the entry is filled would have the copy not kept.
    assert products.version()
    asked_at = time.monotonic()
    wait_for(lambda: cache_of().copies._messages.complete_until > asked_at)
    assert site.ask(site.short).status.startswith("201")
    site.reached_django = 0
    assert {one["price"] for one in site.ask(site.short).json["results"]} == {9}
    assert site.reached_django == 0


@pytest.mark.parametrize("headers", [{}, {"HTTP_ACCEPT_ENCODING": "gzip"}], ids=str)
def test_a_long_body_is_sent_as_it_is_kept_instead_of_copied(site, monkeypatch, headers):
    monkeypatch.setattr(fast_path, "LONG_BYTES", 100)
    site.prepare(**headers)
    kept = cache_of().copies.find("product", "")
    wanted = site.short._deflated[kept] if headers else kept.entry.body
    site.reached_django = 0
    reply = site.ask(site.short, **headers)
    assert any(part is wanted for part in reply.parts)
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    assert site.reached_django == 0


def test_without_redis_nothing_is_answered_ahead_of_django(site):
    site.prepare()
    cache_of().outage.trip(RedisError("gone"))
    site.reached_django = 0
    assert site.ask(site.short).json["from_database"] is True
    assert site.reached_django == 1


def test_hits_are_counted_on_both_ways(site, client):
    def hits() -> float:
        said = client.get("/metrics").content.decode()
        found = re.search(
            r'^freshcache_requests_total\{.*outcome="hit".*\} (.*)$', said, re.MULTILINE
        )
        return float(found[1]) if found else 0

    site.prepare()
    before = hits()
    for way in (site.short, site.django):
        site.ask(way)
    assert hits() - before == 2


def test_made_up_queries_leave_a_bounded_number_of_kinds(site, monkeypatch):
    monkeypatch.setattr(fast_path, "MAX_KINDS", 10)
    for number in range(35):
        site.prepare(f"{PATH}?made-up={number}")
    assert len(site.short._kinds) <= 10
    site.prepare()
    assert_same(site.ask(site.short), site.ask(site.django))


# --- gzip -----------------------------------------------------------------------------------------


def test_who_accepts_gzip_gets_it_and_the_list_is_compressed_once(site, monkeypatch):
    calls = []
    deflate = gzipping.deflate
    monkeypatch.setattr(gzipping, "deflate", lambda *parts: calls.append(1) or deflate(*parts))
    site.prepare()
    plain = site.ask(site.short)
    replies = [site.ask(site.short, HTTP_ACCEPT_ENCODING="gzip, deflate, br") for _ in range(5)]
    assert len(calls) == 1
    for reply in replies:
        assert reply.headers["Content-Encoding"] == "gzip"
        assert reply.headers["Content-Length"] == str(len(reply.body))
        assert orjson.loads(gzip.decompress(reply.body))["results"] == plain.json["results"]
        assert reply.headers["Vary"] == plain.headers["Vary"]
        assert "Accept-Encoding" in reply.headers["Vary"]
    assert "Content-Encoding" not in plain.headers
    Product.objects.update(price=8)
    site.prepare()
    fresh = site.ask(site.short, HTTP_ACCEPT_ENCODING="gzip")
    assert {one["price"] for one in orjson.loads(gzip.decompress(fresh.body))["results"]} == {8}


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        ("gzip", True),
        ("GZip", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("br", False),
        ("", False),
        ("identity", False),
        ("gzip;nonsense", False),
        ("gzip;q=5", False),
    ],
)
def test_gzip_is_for_who_accepts_it(accept, accepted):
    assert gzipping.is_accepted(accept) is accepted


@pytest.mark.parametrize("sizes", [(0, 0), (1, 1), (200, 40_000), (0xFFFF, 100_000)])
def test_a_member_is_valid_gzip(sizes):
    head, body = (bytes(n % 251 for n in range(size)) for size in sizes)
    made = b"".join(gzipping.member(head, (body, b"}"), gzipping.deflate(body, b"}")))
    assert gzip.decompress(made) == head + body + b"}"


@pytest.fixture
def gzipping_store(open_store, demo_books) -> StoreProcess:
    store = open_store("--workers=1", LOCAL_CACHE="on")
    wait_for(
        lambda: store.get(PATH, {"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
    )
    return store


def test_real_clients_read_it(gzipping_store, demo_books, tmp_path):
    url = f"http://127.0.0.1:{gzipping_store.port}{PATH}"
    for client in (requests, httpx):
        client.get(url, timeout=30)  # Django answers the first of a kind.
        answer = client.get(url, timeout=30)
        assert len(answer.json()["results"]) == demo_books
        assert answer.headers["Content-Encoding"] == "gzip"  # It came the short way.
    body = gzipping_store.get(PATH, {"Accept-Encoding": "gzip"}).body
    (tmp_path / "list.gz").write_bytes(body)
    subprocess.run(["gzip", "-t", tmp_path / "list.gz"], check=True)
    plain = gzipping_store.get(PATH).body
    assert len(body) < len(plain) / 10


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on the PATH")
def test_curl_reads_it(gzipping_store, demo_books):
    url = f"http://127.0.0.1:{gzipping_store.port}{PATH}"
    command = ["curl", "--compressed", "--silent", "--fail", "--noproxy", "*", url]
    said = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(json.loads(said)["results"]) == demo_books


class SavedAnswer(BaseHTTPRequestHandler):
    """Serves a page that reads /list by fetch(), and /list as the store has answered it."""

    body = b""
    page = b"""<body><script>
    fetch("/list").then(one => one.json()).then(list => document.title = "read " + list.results.length)
    </script></body>"""

    def do_GET(self) -> None:
        is_list = self.path == "/list"
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if is_list else "text/html")
        if is_list:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(self.body if is_list else self.page)

    def log_message(self, *_: object) -> None: ...


@pytest.mark.skipif(not chromium_binary(), reason="no chromium on the PATH")
def test_chromium_reads_it(gzipping_store, demo_books, monkeypatch):
    body = gzipping_store.get(PATH, {"Accept-Encoding": "gzip"}).body
    monkeypatch.setattr(SavedAnswer, "body", body)
    with ThreadingHTTPServer(("127.0.0.1", 0), SavedAnswer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        command = [
            chromium_binary(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-proxy-server",
        ]
        command += ["--virtual-time-budget=10000", "--dump-dom", url]
        said = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
        server.shutdown()
    assert f"<title>read {demo_books}</title>".encode() in said
