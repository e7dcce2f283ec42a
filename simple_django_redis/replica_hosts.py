"""MySQL servers: what MYSQL_HOST and MYSQL_REPLICA_HOST name, replicas as databases of Django."""

import copy
import re
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple

from environs import EnvError

HOST = re.compile(
    r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\s:/\[\]@,]+))(?::(?P<port>\d{1,5}))?",
    re.IGNORECASE,
)


class Host(NamedTuple):
    """A server, and its port if it has another one than the primary."""

    name: str
    port: int | None


def primary_host(value: str) -> str:
    """Parse a host or the path of a socket; whatever else it is, maybe a password, is not repeated."""
    value = value.strip()
    if value.startswith("/") or not value:
        return value
    with suppress(ValueError):
        return str(ip_address(value))
    found = HOST.fullmatch(value)
    if not found or found["port"]:
        raise EnvError("MYSQL_HOST: it is a host like db or [::1], whose port is MYSQL_PORT")
    return str(found["address"] or found["name"])


def replica_host(value: str) -> Host:
    """Parse a host or host:port; whatever else it is, which may be a password, is not repeated."""
    found = HOST.fullmatch(value.strip())
    port = int(found["port"]) if found and found["port"] else None
    if not found or not (port is None or 1 <= port <= 65535):
        raise EnvError("MYSQL_REPLICA_HOST: each is a host like db2, db2:3307 or [::1]:3307")
    return Host(found["address"] or found["name"], port)


def replica_databases(hosts: list[Host], primary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `primary`, one of DATABASES, once more for each of `hosts`: replica_1 and so on."""
    return {f"replica_{n}": _replica(host, primary) for n, host in enumerate(hosts, start=1)}


def _replica(host: Host, primary: dict[str, Any]) -> dict[str, Any]:
    replica = copy.deepcopy(primary)
    replica |= {
        "HOST": host.name,
        "PORT": host.port or primary["PORT"],
        # store.replicas asks another server where one fails: no ping ahead of each request is needed.
        "CONN_HEALTH_CHECKS": False,
        "TEST": {"MIRROR": "default"},
    }
    # Who writes here by mistake is told, even a user whom the server's read_only does not stop.
    # Assignments, as store.abandoned_statements adds some; each server skips the other one's.
    replica["OPTIONS"]["init_command"] = (
        "SET /*M!100100 tx_read_only = ON */ /*!50720 transaction_read_only = ON */"
    )
    return replica
