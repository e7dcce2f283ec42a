"""How the settings read those variables of the environment that are more than a number or a word."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from environs import Env, EnvError
from marshmallow.validate import OneOf

env = Env()
RATE = re.compile(r"(\d{1,9})/(s|sec|second|m|min|minute|h|hour|d|day)", re.ASCII)
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
HIGHEST_RATE = 10_000  # Each one counted takes some 50 bytes of Redis until its window is over.
# What other programs and hosts call a server; nothing of the store reads these.
OTHER_NAMES_OF_MYSQL = (
    *("DATABASE_URL", "MYSQL_URL", "MARIADB_URL", "DB_URL", "JAWSDB_URL", "CLEARDB_DATABASE_URL"),
    *("DATABASE_HOST", "DB_HOST", "MARIADB_HOST"),
)
OTHER_NAMES_OF_REDIS = (
    *("CACHE_URL", "REDIS_TLS_URL", "REDISCLOUD_URL", "REDIS_HOST", "REDIS_SENTINELS"),
    "REDIS_CLUSTER_NODES",
)
LONGEST_SECONDS = 10 * 365 * 24 * 3600  # Ten years; Redis refuses what is far beyond.


@env.parser_for("cache_ttl")
def parse_cache_ttl(value: str) -> int | None:
    """Parse seconds, or `none` for entries that live until a write invalidates them."""
    if value.strip().lower() == "none":
        return None
    if not value.strip().isdecimal() or int(value) > LONGEST_SECONDS:
        raise EnvError(
            f'"{value}" is neither a number of seconds from 0 to {LONGEST_SECONDS} nor none'
        )
    return int(value)


@env.parser_for("port")
def parse_port(value: str | int) -> int:
    """Parse a TCP port; of an address of a service say who has set it."""
    text = str(value).strip()
    if "://" in text:
        raise EnvError(
            f'"{text}" is not a port. Kubernetes and platforms like it set such a variable for each '
            "service: one called `mysql` sets MYSQL_PORT. Set it yourself, or switch service links off."
        )
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise EnvError(f'"{text}" is not a port from 1 to 65535')
    return int(text)


@env.parser_for("log_level_name")
def parse_log_level(value: str) -> str:
    """Parse one of Python's levels, in capitals or not."""
    return str(OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])(value.strip().upper()))


@env.parser_for("rate")
def parse_rate(value: str) -> tuple[int, int] | None:
    """Parse how many there may be in how many seconds, as in 10/min, or `off`."""
    text = value.strip().lower()
    if text == "off":
        return None
    found = RATE.fullmatch(text)
    if not found or not 1 <= int(found[1]) <= HIGHEST_RATE:
        raise EnvError(
            f'"{value}" is neither off nor a rate like 10/min: 1 to {HIGHEST_RATE} per second, minute, '
            "hour or day"
        )
    return int(found[1]), UNIT_SECONDS[found[2][0]]


@env.parser_for("address")
def parse_address(value: str) -> str:
    """Parse an IP address."""
    try:
        return str(ip_address(value.strip()))
    except ValueError as error:
        raise EnvError(str(error)) from error


def refuse_other_names(*, mysql_host: str, redis_url: str) -> None:
    """Raise ValueError if what names a server elsewhere is set, and would be ignored here."""
    of_mysql = "MYSQL_HOST, MYSQL_PORT, MYSQL_NAME, MYSQL_USER and MYSQL_PASSWORD"
    for names, found, instead in (
        (OTHER_NAMES_OF_MYSQL, mysql_host, of_mysql),
        (OTHER_NAMES_OF_REDIS, redis_url, "REDIS_URL"),
    ):
        for name in names:
            if env.str(name, "") and not found:
                raise ValueError(
                    f"{name} is set, which the store does not read; set {instead} instead"
                )


def network(value: str) -> IPv4Network | IPv6Network:
    """Parse an address or a network, such as 10.0.0.0/8."""
    try:
        return ip_network(value.strip())
    except ValueError as error:
        raise EnvError(f"METRICS_ALLOW: {error}") from error


def host(value: str) -> str:
    """Refuse what no Host header ever is: an address with a scheme or a path."""
    value = value.strip()
    if "/" in value:
        raise EnvError(f'ALLOWED_HOSTS: "{value}" is not a host name')
    return value


def origin(value: str) -> str:
    """Refuse what Django could not match with an Origin header: one without its scheme."""
    value = value.strip()
    if not re.match(r"https?://[^/]+$", value):
        raise EnvError(f'CSRF_TRUSTED_ORIGINS: "{value}" is not like https://store.example')
    return value
