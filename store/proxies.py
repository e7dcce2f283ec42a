"""Whether a request came through a proxy, known to the settings or not."""

import re

from django.http import HttpRequest

# Only what comes through a proxy has one of these.
FORWARDING_HEADERS = re.compile(
    r"x-forwarded-.*|x-real-ip|forwarded|via|cf-connecting-ip|(true|x)-client-ip", re.IGNORECASE
)


def is_forwarded(request: HttpRequest) -> bool:
    """Say whether a proxy has passed `request` on; one that adds no header at all cannot be seen."""
    return any(FORWARDING_HEADERS.fullmatch(header) for header in request.headers)
