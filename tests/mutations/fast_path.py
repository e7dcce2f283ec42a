"""Breaks of answers ahead of Django."""

from tests.mutations import Break

AREA = "fast path"
SHORT_WAY = "tests/test_short_way.py"

BREAKS = [
    Break(
        "kinds without the scheme",
        AREA,
        "tuple(map(environ.get, KEYED))",
        'tuple(environ.get(one) for one in KEYED if one != "wsgi.url_scheme")',
        [f"{SHORT_WAY}::test_with_https_redirected_a_plain_connection_never_gets_a_list"],
    ),
    Break(
        "kinds without the forwarded scheme",
        AREA,
        "tuple(map(environ.get, KEYED))",
        'tuple(environ.get(one) for one in KEYED if one != "HTTP_X_FORWARDED_PROTO")',
        [f"{SHORT_WAY}::test_with_https_redirected_plain_http_never_gets_a_list"],
    ),
    Break(
        "kinds without the host",
        AREA,
        "tuple(map(environ.get, KEYED))",
        'tuple(environ.get(one) for one in KEYED if one != "HTTP_HOST")',
        [f"{SHORT_WAY}::test_whatever_is_no_plain_hit_goes_the_long_way"],
    ),
    Break(
        "kinds without the path",
        AREA,
        "tuple(map(environ.get, KEYED))",
        'tuple(environ.get(one) for one in KEYED if one != "PATH_INFO")',
        [f"{SHORT_WAY}::test_whatever_is_no_plain_hit_goes_the_long_way"],
    ),
    Break(
        "kinds without the query",
        AREA,
        "tuple(map(environ.get, KEYED))",
        'tuple(environ.get(one) for one in KEYED if one != "QUERY_STRING")',
        [f"{SHORT_WAY}::test_whatever_is_no_plain_hit_goes_the_long_way"],
    ),
    Break(
        "what nobody has thought of is answered ahead",
        AREA,
        "not environ.keys() <= self._known\n            or ",
        "        ",
        [f"{SHORT_WAY}::test_no_header_and_no_name_of_the_environment_decides_what_others_get"],
    ),
    Break(
        "a HEAD has a body",
        AREA,
        'if environ["REQUEST_METHOD"] == "HEAD":',
        "if False:",
        [f"{SHORT_WAY}::test_a_hit_is_answered_ahead_of_django_as_django_would"],
    ),
    Break(
        "a client that has the list gets it again",
        AREA,
        '*("CONTENT_LENGTH", "HTTP_ACCEPT_ENCODING", ',
        '*("HTTP_IF_NONE_MATCH", "CONTENT_LENGTH", "HTTP_ACCEPT_ENCODING", ',
        [f"{SHORT_WAY}::test_a_client_that_has_the_list_gets_a_304"],
    ),
    Break(
        "a range is answered by the whole",
        AREA,
        '*("CONTENT_LENGTH", "HTTP_ACCEPT_ENCODING", ',
        '*("HTTP_RANGE", "CONTENT_LENGTH", "HTTP_ACCEPT_ENCODING", ',
        [f"{SHORT_WAY}::test_whatever_is_no_plain_hit_goes_the_long_way"],
    ),
    Break(
        "who wants something else gets JSON",
        AREA,
        '        or environ.get("HTTP_ACCEPT", "*/*") not in ACCEPTED\n',
        "",
        [f"{SHORT_WAY}::test_whatever_is_no_plain_hit_goes_the_long_way"],
    ),
    Break(
        "a request with a body is answered ahead",
        AREA,
        '        or environ.get("CONTENT_LENGTH") not in (None, "", "0")\n',
        "",
        [f"{SHORT_WAY}::test_whatever_is_no_plain_hit_goes_the_long_way"],
    ),
    Break(
        "an answer of another status is replayed",
        AREA,
        'not kind.status.startswith("200 ")\n            or found',
        "found",
        [f"{SHORT_WAY}::test_an_answer_that_is_no_plain_list_is_never_replayed"],
    ),
    Break(
        "an answer of another type is replayed",
        AREA,
        '            or found.get("content-type") != JSON\n',
        "",
        [f"{SHORT_WAY}::test_an_answer_that_is_no_plain_list_is_never_replayed"],
    ),
    Break(
        "a cookie is replayed",
        AREA,
        '            or "set-cookie" in found\n',
        "",
        [f"{SHORT_WAY}::test_an_answer_that_is_no_plain_list_is_never_replayed"],
    ),
    Break(
        "kinds are kept without bound",
        AREA,
        "if len(self._kinds) >= MAX_KINDS:",
        "if False:",
        [f"{SHORT_WAY}::test_made_up_queries_leave_a_bounded_number_of_kinds"],
    ),
    Break(
        "in an outage copies are served ahead",
        AREA,
        "        if cache.outage.is_open:\n            return None\n        names",
        "        names",
        [f"{SHORT_WAY}::test_without_redis_nothing_is_answered_ahead_of_django"],
    ),
    Break(
        "hits ahead are not counted",
        AREA,
        "            metrics.requests.labels(self.name, Outcome.HIT.value).inc()\n        return copy",
        "            pass\n        return copy",
        [f"{SHORT_WAY}::test_hits_are_counted_on_both_ways"],
    ),
    Break(
        "the length of another answer is replayed",
        AREA,
        '"content-length", "etag"',
        '"etag"',
        [f"{SHORT_WAY}::test_a_hit_is_answered_ahead_of_django_as_django_would"],
    ),
]
