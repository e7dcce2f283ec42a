"""Connections to the primary that Redis Sentinel names, and the URLs that ask for them.

A connection finds the primary by itself and never uses another server. So every pool, and whoever makes
connections the way a pool does, works with sentinels unchanged: redis-py's own way is another pool, which
does not wait for a free connection, and which asks the sentinels while a request waits, each in turn.
"""

from typing import Any
from urllib.parse import unquote

from redis.connection import Connection, SSLConnection, parse_url

from freshcache.redis.sentinel import Address, PrimaryChanged, Service, primary_of
from freshcache.redis.urls import host_and_port, split

SCHEMES = ("redis+sentinel", "rediss+sentinel")
DEFAULT_PORT = 26379
DEFAULT_CONNECT_SECONDS = 1.0


class PrimaryConnection(Connection):
    """Finding the primary and connecting to it share the time for connecting."""

    def __init__(self, *, service: Service, **options: Any) -> None:
        self._primary = primary_of(service)
        super().__init__(host="", port=0, **options)
        self._wait_seconds = (self.socket_connect_timeout or DEFAULT_CONNECT_SECONDS) / 2
        self.socket_connect_timeout = self._wait_seconds

    def connect(self) -> None:
        if self._sock and not self._is_to_primary():
            self.disconnect()
        super().connect()

    def check_health(self) -> None:
        """Called by redis-py ahead of each command, also where a connection is held for long."""
        if not self._is_to_primary():
            self.disconnect()
            raise PrimaryChanged("another server has become the primary")
        super().check_health()

    def _connect(self) -> Any:
        self.host, self.port = self._primary.address(self._wait_seconds)
        return super()._connect()

    def _is_to_primary(self) -> bool:
        return self._primary.address(self._wait_seconds) == (self.host, self.port)


class PrimaryTLSConnection(PrimaryConnection, SSLConnection):
    """The same through TLS, as are those to the sentinels."""


def is_of_sentinels(url: str) -> bool:
    return split(url).scheme in SCHEMES


def parse(url: str) -> dict[str, Any]:
    """Return what a pool of redis-py takes for `redis+sentinel://[user][:password]@h1:p1,h2:p2/NAME/DB`.

    Options of redis-py may follow after "?", and `sentinel_username` and `sentinel_password`. Raises
    ValueError for a URL that is not like that.
    """
    parts = split(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    sentinels = tuple(_address(f"{credentials}{at}{host}") for host in hosts.split(","))
    name, _, database = parts.path.removeprefix("/").removesuffix("/").partition("/")
    if not name:
        raise ValueError("the name of the primary is missing: redis+sentinel://HOST:PORT/NAME/DB")
    if not (database or "0").isdecimal():
        raise ValueError("the database is not a number")
    scheme = parts.scheme.removesuffix("+sentinel")
    options: dict[str, Any] = parse_url(f"{scheme}://{credentials}@-/{database}?{parts.query}")
    of_sentinels = {
        key.removeprefix("sentinel_"): options.pop(key)
        for key in ("sentinel_username", "sentinel_password")
        if key in options
    }
    of_sentinels |= {key: value for key, value in options.items() if key.startswith("ssl_")}
    service = Service(
        unquote(name),
        sentinels,
        tuple(of_sentinels.items()),
        uses_tls=scheme == "rediss",
    )
    del options["host"]
    kind = PrimaryTLSConnection if service.uses_tls else PrimaryConnection
    return options | {"connection_class": kind, "service": service}


def _address(netloc: str) -> Address:
    host, port = host_and_port(netloc)
    return host, port or DEFAULT_PORT
