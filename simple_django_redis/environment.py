"""How the settings read those variables of the environment that are more than a number or a word."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from environs import Env, EnvError
from marshmallow.validate import OneOf

env = Env()
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


@env.parser_for("log_level_name")
def parse_log_level(value: str) -> str:
    """Parse one of Python's levels, in capitals or not."""
    return str(OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])(value.strip().upper()))


@env.parser_for("address")
def parse_address(value: str) -> str:
    """Parse an IP address."""
    try:
        return str(ip_address(value.strip()))
    except ValueError as error:
        raise EnvError(str(error)) from error


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
