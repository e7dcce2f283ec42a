"""What a price and a name of a product may be, and a number in a form: one rule for all doors.

The API, files (CSV), forms of the pages and the admin call it, so that none takes what another refuses.
"""

import re

MAX_NAME_LENGTH = 255


def plain_digits(text: str) -> str:
    """Return `text` with the digits of any alphabet (Persian, Arabic) as 0 to 9."""
    return "".join(str(int(one)) if one.isdecimal() else one for one in text)


def whole_number(text: str) -> int:
    """Return the number that `text` is, in any alphabet's digits; raises ValueError.

    Space around it and a fraction of nothing ("10.0", as spreadsheets write) change nothing. Separators
    of thousands are refused, as a comma or a dot may be of a fraction; so is Python's own 1_000.
    """
    found = re.fullmatch(r"(-?[0-9]{1,20})(\.0+)?", plain_digits(text).strip())
    if not found:
        raise ValueError("not a whole number")
    return int(found[1])


def product_name(text: str) -> str:
    """Return a name without the space around it; raises ValueError with the reason if it is none."""
    name = text.strip()
    if not name:
        raise ValueError("name is empty")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"name is longer than {MAX_NAME_LENGTH} characters")
    return name
