"""Redis Cluster behind Django's cache framework: which server has a key, and what if it no longer has.

redis-py's RedisCluster looks for other servers within a command, and tries again, for as long as that
takes. Here a command asks one server: if that is down, so is Redis as far as this process goes, and the
thread that waits for the end of an outage asks for the new map (`refresh`). No request does.
"""

import hashlib
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from django_redis.pool import ConnectionFactory
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, MovedError, RedisClusterException, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from freshcache import conf
from freshcache.redis.errors import NotThisTime
from freshcache.redis.pool import NoConnectionFree, WaitingPool

T = TypeVar("T")
# A slot that moves on while its key is asked for is followed so many times.
MOST_REDIRECTIONS = 3


class SlotHasMoved(NotThisTime):
    """The keys are, or are about to be, on another server."""

    detail = "slot-moved"


class ClusterRedis(RedisCluster):
    """The client of one process."""

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error

    def at(self, key: str, command: Callable[[Any], T]) -> T:
        """Return what `command` does with a client of the one server that has `key` and its slot.

        Raises SlotHasMoved if another server has got the slot, and while it is being moved.
        """
        slot = self.keyslot(key)
        try:
            return command(self._server(slot))
        except MovedError as error:
            self.nodes_manager.move_slot(error)
            raise SlotHasMoved(f"slot {slot} has moved") from error
        except (AskError, TryAgainError) as error:
            raise SlotHasMoved(f"slot {slot} is being moved") from error

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the server that has its keys, wherever these have gone."""
        names_no_key = args[0].upper() in self.command_flags or "target_nodes" in options
        slot = None if names_no_key else self.determine_slot(*args)
        if slot is None:
            return super().execute_command(*args, **options)
        for _ in range(MOST_REDIRECTIONS):
            try:
                return self._server(slot).execute_command(*args, **options)
            except MovedError as error:
                self.nodes_manager.move_slot(error)
            except AskError as error:
                return self._ask(ClusterNode(error.host, error.port), *args, **options)
        raise SlotHasMoved(f"slot {slot} moves on and on")

    def refresh(self) -> None:
        """Learn anew which server has what; raises RedisError if no server knows."""
        try:
            self.nodes_manager.initialize()
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error

    def primaries(self) -> list[Redis]:
        """Return a client of each server that has slots."""
        return [self.get_redis_connection(node) for node in self.get_primaries()]

    # Of several keys each may be on another server. What redis-py does with them in a pipeline may take
    # its time while a server is down, so only that is left to it which no request of the store does.

    def delete(self, *keys: Any) -> int:
        return sum(self.execute_command("DEL", key) for key in keys)

    def unlink(self, *keys: Any) -> int:
        return sum(self.execute_command("UNLINK", key) for key in keys)

    def exists(self, *keys: Any) -> int:
        return sum(self.execute_command("EXISTS", key) for key in keys)

    def mget(self, keys: Any, *more: Any) -> Any:
        return self.mget_nonatomic(keys, *more)

    def _server(self, slot: int) -> Redis:
        try:
            node = self.nodes_manager.get_node_from_slot(slot)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error
        return self.get_redis_connection(node)

    def _ask(self, node: ClusterNode, *args: Any, **options: Any) -> Any:
        """Send a command to the server that is about to get the key's slot and may have the key."""
        known = self.get_node(node_name=node.name) or node
        with self.get_redis_connection(known).pipeline(transaction=False) as pipeline:
            pipeline.execute_command("ASKING")
            pipeline.execute_command(*args, **options)
            return pipeline.execute()[1]


class ClusterFactory(ConnectionFactory):  # type: ignore[misc]  # django-redis is untyped.
    """Gives the aliases of Django's cache framework the client of this process."""

    def connect(self, url: str) -> ClusterRedis:
        return cluster_redis()

    def disconnect(self, connection: ClusterRedis) -> None:
        connection.disconnect_connection_pools()


_making = threading.Lock()


def cluster_redis() -> ClusterRedis:
    """Return this process' client of REDIS_URL, a cluster; raises RedisError if no node answers."""
    # If none does, that takes a while, and nobody needs to wait for another to find out.
    if not _making.acquire(timeout=conf.current().connect_timeout):
        raise NoConnectionFree("another thread is looking for the cluster")
    try:
        return _client(tuple(conf.current().cluster_nodes))
    finally:
        _making.release()


@cache
def _client(nodes: tuple[str, ...]) -> ClusterRedis:
    first, *others = nodes
    return ClusterRedis(
        url=first,
        startup_nodes=[
            ClusterNode(one.hostname, one.port or 6379) for one in map(urlsplit, others)
        ],
        connection_pool_class=WaitingPool,
        **conf.current().pool_options | {"retry": Retry(NoBackoff(), 0)},
    )


# --- For those who need not know whether it is a cluster ------------------------------------------


def at(client: Any, key: str, command: Callable[[Any], T]) -> T:
    """Return what `command` does with a client of the server that has `key`; see `ClusterRedis.at`."""
    return client.at(key, command) if isinstance(client, ClusterRedis) else command(client)


def servers(client: Any) -> list[Redis]:
    """Return a client of each server that has keys."""
    return client.primaries() if isinstance(client, ClusterRedis) else [client]


def refresh(client: Any) -> None:
    """See to it that `client` knows where what is now; raises RedisError if it cannot be learnt."""
    if isinstance(client, ClusterRedis):
        client.refresh()


def ping(client: Any) -> None:
    """Raise RedisError unless all servers that have keys answer."""
    for server in servers(client):
        server.ping()


def primary_digest(server: Any) -> str:
    """Return what tells `server`, a primary of a cluster, from the others; "" if there is no cluster."""
    if not conf.current().cluster_nodes:
        return ""
    options = server.connection_pool.connection_kwargs
    return _digest(options["host"], options["port"])


@cache
def _digest(host: str, port: int) -> str:
    return hashlib.sha256(f"{host}:{port}".encode()).hexdigest()


def primary_urls() -> list[str]:
    """Return a plain URL for each primary of the cluster; raises RedisError."""
    url = urlsplit(conf.current().cluster_nodes[0])
    who, at_sign, _ = url.netloc.rpartition("@")
    found = sorted((node.host, node.port) for node in cluster_redis().get_primaries())
    names = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in found]
    return [urlunsplit(url._replace(netloc=f"{who}{at_sign}{name}")) for name in names]


# --- Keys -----------------------------------------------------------------------------------------


def tagged_key(name: str, prefix: str, version: int) -> str:
    """Return the whole key of `name`: the first part of the name, its region, says in which slot it is.

    So all keys of a region are on one server, where they can be compared and changed at once.
    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    """
    region, separator, rest = name.partition(":")
    return f"{prefix}:{version}:" + (f"{{{region}}}{separator}{rest}" if region else "")


def name_of(whole_key: str) -> str:
    """Return the name that `tagged_key` made `whole_key` of."""
    return whole_key.split(":", 2)[2].replace("{", "", 1).replace("}", "", 1)
