"""A primary that the other servers cannot reach any more, though clients can."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from django.conf import settings

from freshcache.outage import RETRY_SECONDS
from tests.scale.cluster_nodes import NODE_TIMEOUT_SECONDS, Nodes, Place
from tests.visitors import serve_hits
from tests.waiting import wait_for
from tests.witnesses import Traffic

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        os.getuid() != 0 or not shutil.which("ip", path=os.environ["PATH"] + ":/usr/sbin"),
        reason="network namespaces need root and iproute2",
    ),
]
FAMILY = "{product}"
NAMESPACE = f"store-{os.getpid()}"
# Its end there, its end here, and the first three bytes of their addresses.
CLIENTS = (f"stc{os.getpid()}", f"sth{os.getpid()}", f"10.231.{os.getpid() % 250}")
BUS = (f"stb{os.getpid()}", f"stn{os.getpid()}", f"10.232.{os.getpid() % 250}")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def set_bus(state: str) -> None:
    """Cut (`down`) or mend (`up`) the line between the servers, on the far side."""
    ip("-n", NAMESPACE, "link", "set", BUS[0], state)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """A cluster one of whose primaries, that of the lists, is behind two lines of its own."""
    ip("netns", "add", NAMESPACE)
    try:
        for there, here, net in (CLIENTS, BUS):
            ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", NAMESPACE)
            ip("addr", "add", f"{net}.1/24", "dev", here)
            ip("link", "set", here, "up")
            ip("-n", NAMESPACE, "addr", "add", f"{net}.2/24", "dev", there)
            ip("-n", NAMESPACE, "link", "set", there, "up")
        here = Place(f"{CLIENTS[2]}.1", f"{BUS[2]}.1")
        there = Place(f"{CLIENTS[2]}.2", f"{BUS[2]}.2", ("ip", "netns", "exec", NAMESPACE))
        found = Nodes([here, here, there, here, here, here])
        yield found
        found.close()
    finally:
        ip("netns", "del", NAMESPACE)  # The lines go with it.


def test_a_primary_behind_a_broken_line_serves_nobody_what_is_old(nodes, open_store, editor, books):
    variables = {"REDIS_URL": nodes.url, "QUEUE_REDIS_URL": settings.REDIS_URL}
    variables["SECRET_KEY"] = settings.SECRET_KEY
    store, other = (open_store("--workers", "2", "--threads", "4", **variables) for _ in range(2))
    for one in (store, other):
        serve_hits(one)
    behind = nodes.primary_of(FAMILY)
    assert behind is nodes.all[2]
    replica = nodes.replica_of(behind)
    with Traffic(store, editor, books[:1], written_through=other) as traffic:
        time.sleep(1)
        set_bus("down")
        wait_for(lambda: replica.role() == "master", 20 * NODE_TIMEOUT_SECONDS)
        assert behind.role() == "master"  # It has not heard of it.
        serve_hits(store)
        time.sleep(1)
        set_bus("up")
        wait_for(lambda: behind.role() == "slave", 20 * NODE_TIMEOUT_SECONDS)
        serve_hits(store)
        time.sleep(1)
    traffic.assert_all_answered()
    assert traffic.late_reads(2 * RETRY_SECONDS) == []
