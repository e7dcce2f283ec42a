"""Static files of an image: compressed for clients that accept it, and revalidated in every form."""

import gzip

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from simple_django_redis.static_files import StaticFilesMiddleware

PLAIN = b"body { color: black }" * 100
PATH = "/static/page.css"


@pytest.fixture
def ask(tmp_path, settings):
    settings.STATIC_ROOT, settings.WHITENOISE_USE_FINDERS = tmp_path, False
    (tmp_path / "page.css").write_bytes(PLAIN)
    (tmp_path / "page.css.gz").write_bytes(gzip.compress(PLAIN))
    (tmp_path / "small.css").write_bytes(b"a {}")  # Nothing is gained by compressing it.
    middleware = StaticFilesMiddleware(lambda request: HttpResponse(status=404))

    def get(path=PATH, method="GET", **headers):
        answer = middleware(RequestFactory().generic(method, path, headers=headers))
        answer.body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        answer.close()
        return answer

    return get


ENCODINGS = [
    ("gzip", True),
    ("gzip, br", True),
    ("br;q=1, gzip;q=0.5", True),
    ("*", True),
    ("GZIP", True),
    ("", False),
    ("gzip;q=0", False),
    ("gzip; q=0.0", False),
    ("br, gzip;q=0.000", False),
    ("identity", False),
    ("*;q=0", False),
    ("xgzip", False),
    ("not-gzip", False),
]


@pytest.mark.parametrize(("accepted", "compressed"), ENCODINGS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_gzip_is_for_clients_that_accept_it(accepted, compressed, method, ask):
    answer = ask(method=method, **{"Accept-Encoding": accepted})
    assert answer.get("Content-Encoding") == ("gzip" if compressed else None)
    assert answer["Vary"] == "Accept-Encoding"
    if method == "GET":
        assert (gzip.decompress(answer.body) if compressed else answer.body) == PLAIN


def test_each_encoding_has_an_etag_of_its_own(ask):
    plain, compressed = ask()["ETag"], ask(**{"Accept-Encoding": "gzip"})["ETag"]
    assert plain != compressed
    assert compressed.startswith('"')
    assert compressed.endswith('-gzip"')
    assert ask("/static/small.css", **{"Accept-Encoding": "gzip"})["ETag"].count("-") == 1


MATCHES = [
    ("{}", 304),
    ("W/{}", 304),
    ('"other", {}', 304),
    ('W/"other",W/{} , "third"', 304),
    ("*", 304),
    ('"other"', 200),
    ('W/"other", "third"', 200),
    ("nonsense", 200),
    ("", 200),
]


@pytest.mark.parametrize(("header", "status"), MATCHES)
@pytest.mark.parametrize("accepted", ["gzip", ""])
def test_what_the_client_has_is_a_304_in_whatever_form_it_says_so(header, status, accepted, ask):
    etag = ask(**{"Accept-Encoding": accepted})["ETag"]
    known = {"Accept-Encoding": accepted, "If-None-Match": header.format(etag)}
    answer = ask(**known)
    assert (answer.status_code, answer["ETag"]) == (status, etag)
    assert bool(answer.body) == (status == 200)


def test_another_encoding_is_not_what_the_client_has(ask):
    compressed = ask(**{"Accept-Encoding": "gzip"})["ETag"]
    assert ask(**{"If-None-Match": compressed}).body == PLAIN


def test_a_date_alone_is_a_304_too_and_none_beside_an_etag(ask):
    since = {"If-Modified-Since": ask()["Last-Modified"]}
    assert ask(**since).status_code == 304
    assert ask(**since, **{"If-None-Match": '"other"'}).status_code == 200


def test_a_part_is_sent_of_the_same_file_and_encoding_only(ask):
    part = {"Range": "bytes=0-9"}
    etag = ask()["ETag"]
    assert ask(**part, **{"If-Range": etag}).body == PLAIN[:10]
    for other in ('"other"', f"W/{etag}", ask(**{"Accept-Encoding": "gzip"})["ETag"]):
        assert ask(**part, **{"If-Range": other}).status_code == 200


def test_other_methods_are_a_405(ask):
    assert ask(method="POST").status_code == 405
