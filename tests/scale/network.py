"""Machines in a network: Linux network namespaces on a bridge, which takes root and iproute2."""

import os
import secrets
import subprocess
from dataclasses import dataclass, field

from tests.servers import Place, binary

# Nobody has it: frames for it arrive nowhere, as those of a network that is cut do.
NOBODYS_HARDWARE_ADDRESS = "02:00:00:00:00:99"


def missing() -> str | None:
    """Return what is missing for machines of one's own, as a sentence, or None."""
    if os.getuid() != 0:
        return "machines are network namespaces here, which only root may make"
    tools = ("ip", "haproxy", "dnsmasq", "mariadbd", "redis-server")
    absent = [name for name in tools if not binary(name)]
    return f"not on the PATH: {', '.join(absent)}" if absent else None


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Machine:
    """A namespace with one address; what runs in it begins with `place.prefix`."""

    namespace: str
    address: str

    @property
    def place(self) -> Place:
        return Place(self.address, ("ip", "netns", "exec", self.namespace))

    def cut_off(self, *others: "Machine") -> None:
        """Lose, silently, all that goes from here to `others` and back."""
        for here, there in self._directions(others):
            entry = (there.address, "lladdr", NOBODYS_HARDWARE_ADDRESS, "nud", "permanent")
            ip("-n", here.namespace, "neigh", "replace", *entry, "dev", "eth0")

    def heal(self, *others: "Machine") -> None:
        for here, there in self._directions(others):
            ip("-n", here.namespace, "neigh", "del", there.address, "dev", "eth0")

    def _directions(self, others: tuple["Machine", ...]) -> list[tuple["Machine", "Machine"]]:
        return [pair for other in others for pair in ((self, other), (other, self))]


@dataclass
class Network:
    """A bridge with an address of this machine's, which reaches all others and is reached by them."""

    name: str = field(default_factory=lambda: f"st{secrets.token_hex(3)}")
    prefix: str = field(
        default_factory=lambda: f"10.{100 + secrets.randbelow(150)}.{secrets.randbelow(255)}"
    )
    machines: list[Machine] = field(default_factory=list)

    def __post_init__(self) -> None:
        ip("link", "add", self.name, "type", "bridge")
        ip("address", "add", f"{self.prefix}.1/24", "dev", self.name)
        ip("link", "set", self.name, "up")

    def add(self, name: str) -> Machine:
        number = len(self.machines) + 2
        machine = Machine(f"{self.name}-{name}", f"{self.prefix}.{number}")
        here, namespace = f"{self.name}-{number}", machine.namespace
        ip("netns", "add", namespace)
        self.machines.append(machine)
        ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("link", "set", here, "master", self.name, "up")
        ip("-n", namespace, "address", "add", f"{machine.address}/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        return machine

    def close(self) -> None:
        for number, machine in enumerate(self.machines, start=2):
            ip("link", "delete", f"{self.name}-{number}")
            ip("netns", "delete", machine.namespace)
        ip("link", "delete", self.name)
