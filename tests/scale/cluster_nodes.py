"""A Redis Cluster of throwaway servers, formed by hand as `redis-cli --cluster` does it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from mirakuru import TCPExecutor
from redis import Redis
from redis.cluster import key_slot

from tests import servers
from tests.servers import free_port, start_redis
from tests.waiting import wait_for

PASSWORD = "of-the-cluster"
NODE_TIMEOUT_SECONDS = 1
SLOTS = 16384


@dataclass(frozen=True)
class Place:
    """Where a server is: its address for clients, its address for the other servers, how to start it.

    With a certificate (and `key.pem` beside it) it speaks TLS only.
    """

    clients: str = "127.0.0.1"
    bus: str = "127.0.0.1"
    within: tuple[str, ...] = ()
    certificate: Path | None = None


HERE = Place()


class Node:
    """One server of a cluster."""

    def __init__(self, place: Place = HERE) -> None:
        self.place = place
        self.bus_port = free_port()
        options = {
            "cluster-enabled": "yes",
            "cluster-port": self.bus_port,
            "cluster-node-timeout": NODE_TIMEOUT_SECONDS * 1000,
            "requirepass": PASSWORD,
            "masterauth": PASSWORD,
            "repl-diskless-sync-delay": 0,
        }
        port, tls = free_port(), {}
        if place.certificate:
            tls = {"ssl": True, "ssl_ca_certs": str(place.certificate)}
            options |= {
                "port": 0,
                "tls-port": port,
                "tls-cluster": "yes",
                "tls-replication": "yes",
                "tls-auth-clients": "no",
                "tls-ca-cert-file": place.certificate,
                "tls-cert-file": place.certificate,
                "tls-key-file": place.certificate.with_name("key.pem"),
            }
        if place.within or place.bus != HERE.bus:
            options |= {
                "bind": "0.0.0.0",
                "cluster-announce-ip": place.bus,
                # Clients are sent to the address that stands here for a name.
                "cluster-announce-hostname": place.clients,
                "cluster-preferred-endpoint-type": "hostname",
            }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        where = servers.Place(place.clients, place.within)
        self.executor: TCPExecutor = start_redis(port, *words, place=where)
        self.redis = Redis(place.clients, port, password=PASSWORD, socket_timeout=2, **tls)
        self.id = self.redis.execute_command("CLUSTER MYID").decode()

    @property
    def port(self) -> int:
        return self.executor.port

    def role(self) -> str:
        return str(self.redis.info("replication")["role"])

    def answers(self) -> bool:
        """Say whether it has been neither killed nor stopped."""
        if not self.executor.running():
            return False
        return psutil.Process(self.executor.process.pid).status() != psutil.STATUS_STOPPED

    def meet(self, other: "Node") -> None:
        self.redis.execute_command("CLUSTER MEET", other.place.bus, other.port, other.bus_port)


class Nodes:
    """Three primaries and a replica of each; a place for each may be named, primaries first."""

    def __init__(self, places: list[Place] | None = None) -> None:
        self.all = [Node(place) for place in places or [HERE] * 6]
        primaries, replicas = self.all[:3], self.all[3:]
        for number, primary in enumerate(primaries):
            first, last = (SLOTS * n // 3 for n in (number, number + 1))
            primary.redis.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            primary.redis.execute_command("CLUSTER ADDSLOTSRANGE", first, last - 1)
        for other in self.all[1:]:
            self.all[0].meet(other)
        wait_for(lambda: all(len(self._known_to(node)) == 6 for node in self.all), seconds=30)
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.redis.execute_command("CLUSTER REPLICATE", primary.id)
        self.wait_until_whole()

    @property
    def url(self) -> str:
        some = ",".join(f"{node.place.clients}:{node.port}" for node in self.all[:2])
        if certificate := self.all[0].place.certificate:
            return f"rediss+cluster://:{PASSWORD}@{some}/0?ssl_ca_certs={certificate}"
        return f"redis+cluster://:{PASSWORD}@{some}/0"

    def wait_until_whole(self) -> None:
        """Return once all six are there, three with slots and three that follow them closely."""
        wait_for(lambda: all(map(self._is_well, self.all)), seconds=30)

    def primary_of(self, key: str) -> Node:
        """Return the node that has `key`, as a majority of the answering nodes say."""
        slot = key_slot(key.encode())
        said = [
            one["node_id"]
            for node in self.answering()
            for one in self._known_to(node).values()
            if slot in slots_of(one["slots"])
        ]
        return self.by_id(max(set(said), key=said.count))

    def answering(self) -> list[Node]:
        return [node for node in self.all if node.answers()]

    def replica_of(self, primary: Node) -> Node:
        found = self._known_to(primary).values()
        return next(self.by_id(one["node_id"]) for one in found if one["master_id"] == primary.id)

    def others(self, *nodes: Node) -> list[Node]:
        return [node for node in self.all if node not in nodes]

    def primaries(self) -> list[Node]:
        return [node for node in self.answering() if node.role() == "master"]

    def by_id(self, node_id: str) -> Node:
        return next(node for node in self.all if node.id == node_id)

    def keys(self, pattern: str = "*") -> list[str]:
        """Return the keys of all primaries that match `pattern`."""
        return [key.decode() for node in self.primaries() for key in node.redis.keys(pattern)]

    def move_slot(self, key: str, pause_seconds: float = 0.0) -> Node:
        """Move the slot of `key`, one key after another; return the primary that has it then."""
        slot, source = key_slot(key.encode()), self.primary_of(key)
        target = next(node for node in self.primaries() if node is not source)
        target.redis.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.redis.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        to = (target.place.bus, target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS")
        while found := source.redis.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
            time.sleep(pause_seconds)
            source.redis.execute_command("MIGRATE", *to, *found)  # No error if it has just gone.
        for node in [target, source, *self.others(target, source)]:
            if node in self.primaries():
                node.redis.execute_command("CLUSTER SETSLOT", slot, "NODE", target.id)
        return target

    def mend(self) -> None:
        """Start what has been killed, let go on what has been stopped, and empty all."""
        for node in self.all:
            if not node.executor.running():
                node.executor.start()
            os.kill(node.executor.process.pid, signal.SIGCONT)
        self.wait_until_whole()
        for node in self.primaries():
            node.redis.flushall()

    def close(self) -> None:
        for node in self.all:
            node.redis.close()
            node.executor.kill()

    def _is_well(self, node: Node) -> bool:
        if node.redis.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            return False
        if any("fail" in one["flags"] for one in self._known_to(node).values()):
            return False
        replication = node.redis.info("replication")
        if replication["role"] == "master":
            return (
                replication["connected_slaves"] == 1 and replication["slave0"]["state"] == "online"
            )
        return replication["master_link_status"] == "up"

    def _known_to(self, node: Node) -> dict[str, Any]:
        return node.redis.execute_command("CLUSTER NODES")


def slots_of(found: list[list[str]]) -> set[int]:
    """Return the numbers in what CLUSTER NODES says of a node's slots: [["0", "5460"], ["7000"]]."""
    return {slot for ends in found for slot in range(int(ends[0]), int(ends[-1]) + 1)}
