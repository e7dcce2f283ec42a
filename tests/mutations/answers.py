"""Breaks of conditional requests and of gzip."""

from tests.mutations import Break

HTTP_CACHING = "tests/test_http_caching.py"
PRIVACY = "tests/test_privacy.py"
SHORT_WAY = "tests/test_short_way.py"
VIEW_CACHING = "tests/test_view_caching.py"

BREAKS = [
    Break(
        "a weak tag confirms a strong one only",
        "conditional requests",
        ' or fetched.etag.removeprefix("W/") in known',
        "",
        [f"{HTTP_CACHING}::test_a_client_that_has_the_list_gets_304"],
    ),
    Break(
        "If-None-Match: * confirms nothing",
        "conditional requests",
        '"*" in known or fetched.etag in known',
        "fetched.etag in known",
        [f"{HTTP_CACHING}::test_a_client_that_has_the_list_gets_304"],
    ),
    Break(
        "the tag itself confirms nothing",
        "conditional requests",
        '"*" in known or fetched.etag in known',
        '"*" in known',
        [f"{HTTP_CACHING}::test_a_client_that_has_the_list_gets_304"],
    ),
    Break(
        "any tag confirms",
        "conditional requests",
        'return "*" in known or',
        "return bool(known) or",
        [f"{HTTP_CACHING}::test_a_client_that_has_something_else_gets_the_list"],
    ),
    Break(
        "a page is confirmed by the tag of a list",
        "conditional requests",
        " or drf.is_page(request):",
        ":",
        [f"{PRIVACY}::test_a_page_is_never_confirmed_by_the_tag_of_a_list"],
    ),
    Break(
        "a 304 has a body",
        "conditional requests",
        "            response.data = None",
        "            pass",
        [f"{HTTP_CACHING}::test_a_client_that_has_the_list_gets_304"],
    ),
    Break(
        "caches in between keep a user's answer",
        "conditional requests",
        'f"private, {CACHE_CONTROL}" if private else CACHE_CONTROL',
        "CACHE_CONTROL",
        [f"{VIEW_CACHING}::test_an_entry_of_one_user_is_never_shared"],
    ),
    Break(
        "caches in between serve without asking",
        "conditional requests",
        'CACHE_CONTROL = "no-cache"',
        'CACHE_CONTROL = "max-age=60"',
        [f"{HTTP_CACHING}::test_no_cache_may_serve_a_list_without_asking"],
    ),
    Break(
        "what was just read has an age",
        "conditional requests",
        " and fetched.from_cache:",
        ":",
        [f"{HTTP_CACHING}::test_what_was_just_read_from_the_database_has_no_age"],
    ),
    Break(
        "a bypass counts as a hit",
        "conditional requests",
        'FORWARDED.get(fetched.outcome, "hit")',
        '"hit"',
        [f"{HTTP_CACHING}::test_a_bypass_says_why"],
    ),
    Break(
        "gzip for who refuses it with q=0",
        "gzip",
        'found.get("gzip", found.get("*", 0.0)) > 0',
        'found.get("gzip", found.get("*", -1.0)) >= 0',
        [f"{SHORT_WAY}::test_gzip_is_for_who_accepts_it"],
    ),
    Break(
        "* accepts no gzip",
        "gzip",
        'found.get("gzip", found.get("*", 0.0))',
        'found.get("gzip", 0.0)',
        [f"{SHORT_WAY}::test_gzip_is_for_who_accepts_it"],
    ),
    Break(
        "GZip in other letters is not accepted",
        "gzip",
        "accept_encoding.lower().split",
        "accept_encoding.split",
        [f"{SHORT_WAY}::test_gzip_is_for_who_accepts_it"],
    ),
    Break(
        "a parameter that is no weight is taken for one",
        "gzip",
        "else float(not parameter)",
        "else 1.0",
        [f"{SHORT_WAY}::test_gzip_is_for_who_accepts_it"],
    ),
    Break(
        "the checksum is without the head",
        "gzip",
        "checksum, size = zlib.crc32(head), len(head)",
        "checksum, size = 0, len(head)",
        [f"{SHORT_WAY}::test_a_member_is_valid_gzip"],
    ),
    Break(
        "the size is without the head",
        "gzip",
        "checksum, size = zlib.crc32(head), len(head)",
        "checksum, size = zlib.crc32(head), 0",
        [f"{SHORT_WAY}::test_a_member_is_valid_gzip"],
    ),
    Break(
        "each answer is compressed anew",
        "gzip",
        "deflated = self._deflated[copy] = gzipping",
        "deflated = gzipping",
        [f"{SHORT_WAY}::test_who_accepts_gzip_gets_it_and_the_list_is_compressed_once"],
    ),
    Break(
        "gzip is not declared",
        "gzip",
        'headers.append(("Content-Encoding", "gzip"))',
        "pass",
        [f"{SHORT_WAY}::test_who_accepts_gzip_gets_it_and_the_list_is_compressed_once"],
    ),
    Break(
        "caches in between mix up gzip and plain",
        "gzip",
        'patch_vary_headers(response, ["Accept-Encoding"])',
        "pass",
        [f"{SHORT_WAY}::test_who_accepts_gzip_gets_it_and_the_list_is_compressed_once"],
    ),
    Break(
        "the length is that of the plain body",
        "gzip",
        "length = sum(map(len, parts))",
        "length = len(head) + len(hit.body) + len(served.tail)",
        [f"{SHORT_WAY}::test_who_accepts_gzip_gets_it_and_the_list_is_compressed_once"],
    ),
]
