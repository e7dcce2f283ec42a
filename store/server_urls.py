"""URLs that name several servers: redis+sentinel://h1:26379,[::1]:26379/NAME/0.

urllib.parse refuses them in newer Pythons, as what stands in brackets is not all of the host there.
"""

import re
from urllib.parse import SplitResult

PARTS = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)


def split(url: str) -> SplitResult:
    """Return the parts of `url` (RFC 3986, appendix B), whose host nobody has looked at."""
    found = PARTS.fullmatch(url)
    if not found:
        raise ValueError(f"{url} is no URL")
    scheme, netloc, path, query, fragment = (part or "" for part in found.groups())
    return SplitResult(scheme.lower(), netloc, path, query, fragment)
