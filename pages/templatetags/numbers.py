"""Numbers and days as the reader writes them, in the way of the page's language (CLDR, by Babel).

The scripts' numbers come from the browser's Intl, which has the same data. Babel knows a language's
separators, but writes Latin digits.
"""

from collections.abc import Callable
from datetime import datetime

from babel.dates import format_date
from babel.numbers import format_decimal, format_percent
from django import template
from django.utils.translation import get_language

register = template.Library()

SIZE_UNITS = ("B", "KB", "MB", "GB")
DIGITS = {
    "fa": str.maketrans(
        "0123456789%", "\u06f0\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6\u06f7\u06f8\u06f9\u066a"
    )
}


@register.filter
def number(value: float | None, digits: int = 0) -> str:
    """Return `value` with as many `digits` behind the point; "" for None."""
    if value is None:
        return ""
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    return _write(format_decimal, value, format=pattern)


@register.filter
def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds, with three digits that count."""
    if seconds is None:
        return ""
    value = seconds * 1000
    return number(value, 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3)


@register.filter
def size(number_of_bytes: int | None) -> str:
    """Return bytes in the unit that suits them, of 1000 as in the scripts; "" for None."""
    if number_of_bytes is None:
        return ""
    value, units = float(number_of_bytes), list(SIZE_UNITS)
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    value = round(value, 1)
    return f"{number(value, 0 if value.is_integer() else 1)} {units[0]}"


@register.filter
def percent(share: float | None) -> str:
    """Return a share of 1 in percent; "" for None."""
    return "" if share is None else _write(format_percent, share)


@register.filter
def day(moment: datetime) -> str:
    """Return the day of a moment, the month in words."""
    return _in_digits(format_date(moment, "long", locale=_language()))


def _write(form: Callable[..., str], value: float, **options: str) -> str:
    text = form(value, locale=_language(), numbering_system="default", **options)
    return _in_digits(text)


def _in_digits(text: str) -> str:
    return text.translate(DIGITS.get(_language(), {}))


def _language() -> str:
    return get_language() or "en"
