"""Numbers as the reader writes them: digits and separators of the page's language (CLDR, by Babel).

The scripts' numbers come from the browser's Intl, which has the same data.
"""

from babel.numbers import format_decimal, format_percent
from django import template
from django.utils.translation import get_language

register = template.Library()


@register.filter
def number(value: float | None, digits: int = 0) -> str:
    """Return `value` with as many `digits` behind the point; "" for None."""
    if value is None:
        return ""
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    return str(format_decimal(value, format=pattern, locale=_language()))


@register.filter
def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds, with three digits that count."""
    if seconds is None:
        return ""
    value = seconds * 1000
    return number(value, 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3)


@register.filter
def percent(share: float | None) -> str:
    """Return a share of 1 in percent; "" for None."""
    return "" if share is None else str(format_percent(share, locale=_language()))


def _language() -> str:
    return get_language() or "en"
