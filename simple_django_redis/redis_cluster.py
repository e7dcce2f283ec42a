"""A REDIS_URL that names a Redis Cluster, redis+cluster://:PASSWORD@HOST:PORT,HOST:PORT/0.

It names some of the nodes, from which the others are learnt. docs/scale/cluster.md says what a cluster
is good for, and why some of the store needs a server of its own beside it.
"""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from freshcache.redis.urls import split

SCHEMES = ("redis+cluster", "rediss+cluster")


def node_urls(url: str) -> list[str]:
    """Return a plain URL for each node that `url` names; none if it names no cluster."""
    parts = split(url)
    if parts.scheme not in SCHEMES:
        return []
    who, at, hosts = parts.netloc.rpartition("@")
    plain = parts.scheme.partition("+")[0]
    return [
        urlunsplit((plain, f"{who}{at}{host.strip()}", parts.path, parts.query, ""))
        for host in hosts.split(",")
    ]


def cluster_url(nodes: list[str]) -> str:
    """Return the URL of the cluster whose nodes have these URLs; the opposite of `node_urls`.

    Raises ValueError for a database other than 0, as a cluster has no other.
    """
    first, *others = map(urlsplit, nodes)
    if first.path.strip("/") not in ("", "0"):
        raise ValueError("a cluster has no database but 0")
    netloc = ",".join([first.netloc, *(other.netloc.rpartition("@")[2] for other in others)])
    return urlunsplit((f"{first.scheme}+cluster", netloc, first.path, first.query, ""))


def refuse_what_needs_one_server(nodes: list[str], queue_url: str, **switches: bool) -> None:
    """Raise ValueError for settings with which a cluster of `nodes` cannot be used."""
    if node_urls(queue_url):
        raise ValueError(
            "QUEUE_REDIS_URL: baskets, locks, throttles, jobs and events need one server, not a cluster"
        )
    if nodes and not queue_url:
        raise ValueError(
            "QUEUE_REDIS_URL is required with a REDIS_URL that is a cluster: baskets, locks, throttles, "
            "jobs and events need one server"
        )
    for name, is_on in switches.items():
        if nodes and is_on:
            raise ValueError(f"{name}=on needs one server, and REDIS_URL is a cluster: turn it off")


def use_cluster(caches: dict[str, dict[str, Any]], url: str) -> None:
    """Have the caches that are at `url` find their servers in the cluster."""
    for cache in caches.values():
        if cache["LOCATION"] == url:
            cache["OPTIONS"] = cache["OPTIONS"] | {
                "CONNECTION_FACTORY": "freshcache.redis.cluster.ClusterFactory"
            }
    caches["default"] |= {
        "KEY_FUNCTION": "freshcache.redis.cluster.tagged_key",
        "REVERSE_KEY_FUNCTION": "freshcache.redis.cluster.name_of",
    }
