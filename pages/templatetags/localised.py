"""Numbers and dates as the reader writes them; static/pages/format.js does the same in the browser."""

from datetime import datetime

from django import template
from django.utils.formats import date_format
from django.utils.translation import get_language

register = template.Library()
DIGITS = {"fa": str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")}
SEPARATORS = {"fa": str.maketrans({",": "\u066c", ".": "\u066b"})}


@register.filter
def number(value: float, digits: int = 0) -> str:
    """Return 1234567 as 1,234,567, with as many digits after the point as are asked for."""
    return _in_digits(f"{value:,.{digits}f}".translate(SEPARATORS.get(get_language() or "", {})))


@register.filter
def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds, with more digits the fewer they are."""
    found = seconds * 1000
    return number(found, 0 if found >= 100 else 1 if found >= 10 else 2)


@register.filter
def day(moment: datetime) -> str:
    """Return the day of a moment, in words."""
    return _in_digits(date_format(moment, "DATE_FORMAT"))


def _in_digits(text: str) -> str:
    return text.translate(DIGITS.get(get_language() or "", {}))
