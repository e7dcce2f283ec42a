"""Django's page about an error (DEBUG=on), without passwords.

Django hides settings by their names; a URL has its password inside, and the variables of a driver's code
have it in whatever names.
"""

import re
from urllib.parse import unquote

from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter

HIDDEN = "********"
PASSWORD_IN_URL = re.compile(r"(://[^/\s@:<>]*:)([^@/\s<>]+)(?=@)")


class Reporter(ExceptionReporter):
    def get_traceback_html(self) -> SafeString:
        return mark_safe(without_passwords(super().get_traceback_html()))  # noqa: S308

    def get_traceback_text(self) -> SafeString:
        return mark_safe(without_passwords(super().get_traceback_text()))  # noqa: S308


def without_passwords(text: str) -> str:
    text = PASSWORD_IN_URL.sub(rf"\1{HIDDEN}", text)
    urls = (settings.REDIS_URL, settings.QUEUE_REDIS_URL)
    found = {one[2] for url in urls for one in PASSWORD_IN_URL.finditer(url)}
    found |= {settings.MYSQL_PASSWORD, settings.REDIS_PASSWORD}
    for secret in sorted(found | set(map(unquote, found)), key=len, reverse=True):
        if secret:
            text = text.replace(escape(secret), HIDDEN).replace(secret, HIDDEN)
    return text
