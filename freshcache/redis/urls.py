"""URLs that name several servers: redis+sentinel://h1:26379,[::1]:26379/NAME/0.

urllib.parse refuses them in newer Pythons, as what stands in brackets is not all of the host there.
"""

import re
from urllib.parse import SplitResult, urlsplit

HOST = re.compile(r"[\w.:%-]+")  # IPv6 included, with its zone
PARTS = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)


def split(url: str) -> SplitResult:
    """Return the parts of `url` (RFC 3986, appendix B), whose host nobody has looked at."""
    found = PARTS.fullmatch(url)
    if not found:
        raise ValueError("it is no URL")
    scheme, netloc, path, query, fragment = (part or "" for part in found.groups())
    return SplitResult(scheme.lower(), netloc, path, query, fragment)


def host_and_port(netloc: str) -> tuple[str, int | None]:
    """Return the host and the port, if there is one, of `[[user][:password]@]host[:port]`.

    Raises a ValueError that repeats nothing of it, as any part may be one of a password.
    """
    try:
        parts = urlsplit(f"//{netloc}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port == 0 or not HOST.fullmatch(host):
        raise ValueError(
            "a host is missing, or its port is not a number from 1 to 65535; a password ends with "
            "@, and / ? # [ ] in it are written %2F %3F %23 %5B %5D"
        )
    return host, port
