"""Check the URLs of Redis servers and join REDIS_PASSWORD to them."""

from urllib.parse import quote, urlencode, urlunsplit

import redis

from freshcache.redis import sentinel_connections
from freshcache.redis.urls import host_and_port, split
from simple_django_redis.redis_cluster import SCHEMES as CLUSTER_SCHEMES
from simple_django_redis.redis_cluster import cluster_url, node_urls

ONE_SERVER = ("redis", "rediss", "unix")
# What the store sets itself, or reads of each answer: as bytes. And waits that would be none at all.
NOT_OPTIONS = ("decode_responses", "encoding", "encoding_errors", "max_connections", "protocol")
WAITS = ("socket_timeout", "socket_connect_timeout", "timeout")
SCHEMES = (*ONE_SERVER, *sentinel_connections.SCHEMES)


def redis_url(url: str, password: str, name: str = "REDIS_URL") -> str:
    """Return `url` with `password` in it, unless it has one; "" stays "".

    Raises ValueError, beginning with the variable's `name`, for a URL that redis-py could not use. What
    is wrong is not repeated: where an @ has been forgotten it is the password.
    """
    if not url:
        return ""
    try:
        return _checked(url.strip(), password)
    except TypeError as error:  # Its message would name the option.
        raise ValueError(
            f"{name}: an option in it is none of redis-py's; a ? in a password is written %3F"
        ) from error
    except (ValueError, redis.RedisError) as error:
        raise ValueError(f"{name}: {error}") from error


def is_one_server(url: str) -> bool:
    """Say whether redis-py can use `url` by itself, as it names a server."""
    return split(url).scheme in ONE_SERVER


def with_options(url: str, **options: object) -> str:
    """Return `url` with options of redis-py's connections in its query; those it has go first."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(options)}"


def _refuse_dropped_parts(url: str) -> None:
    """Raise ValueError if redis-py would drop a part of `url`, which may be one of a password."""
    if "#" in url:
        raise ValueError("what follows a # would be ignored; in a password it is written %23")
    for field in filter(None, split(url).query.split("&")):
        name, _, value = field.partition("=")
        if not value or not name.isidentifier():
            raise ValueError(
                "options follow a ? as NAME=VALUE&NAME=VALUE, other text would be ignored; in a "
                "password ? / # and @ are written %3F %2F %23 and %40"
            )
        if name in NOT_OPTIONS or (name in WAITS and not value.strip("0.")):
            raise ValueError(f"the store cannot work with the option {name} as it is set there")


def _checked(url: str, password: str) -> str:
    _refuse_dropped_parts(url)
    if nodes := node_urls(url):
        return cluster_url([_checked(node, password) for node in nodes])
    parts = split(url)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in (*SCHEMES, *CLUSTER_SCHEMES))
        raise ValueError(f"it begins with none of {known}")
    if parts.scheme == "unix":
        if not parts.path or parts.netloc.rpartition("@")[2]:
            raise ValueError("unix:// needs the path of a socket, beginning with a third /")
    elif sentinel_connections.is_of_sentinels(url):
        options = sentinel_connections.parse(url)
        options.pop("connection_class")(**options)  # Checks what only TLS knows; opens nothing.
    else:
        host_and_port(parts.netloc)
        if not (parts.path.strip("/") or "0").isdecimal():
            raise ValueError("the database is not a number")
    if password and not parts.password:
        host = parts.netloc.rpartition("@")[2]
        netloc = f"{parts.username or ''}:{quote(password, safe='')}@{host}"
        url = urlunsplit((parts.scheme.lower(), netloc, *parts[2:]))
    if parts.scheme in ONE_SERVER:
        pool = redis.ConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)
    return url
