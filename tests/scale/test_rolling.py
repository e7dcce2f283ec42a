"""Rolling updates: hosts and workers are replaced one by one under load, and nobody notices."""

import signal
import time

from tests.manifests import pods
from tests.scale.fleet import Editor, Fleet, WebHost
from tests.scale.load import Load, readers_and_writers

RESTARTS = 20
# A machine that stalls for a moment loses no request either, but must not count as an outage.
PATIENT = {"CACHE_BUDGET_SECONDS": "5", "MYSQL_TIMEOUT_SECONDS": "20"}
NOTICED_SECONDS = 1.5  # until the balancer has seen that a host is ready: its `inter` and a bit
FOUND_SECONDS = 2.5  # until it knows a host's address, too: its `timeout resolve` more
KUBERNETES_RESTARTS = 6  # Each waits out its preStop.


def replace(web: WebHost) -> None:
    web.stop()
    web.start(**PATIENT)
    time.sleep(NOTICED_SECONDS)


def test_hosts_that_are_replaced_in_turn_cost_no_request(fleet: Fleet):
    fleet.ensure(**PATIENT)
    editor = Editor(fleet.balancer)
    with Load(readers_and_writers(fleet.balancer, editor)) as load:
        for number in range(RESTARTS):
            replace(fleet.webs[number % len(fleet.webs)])
    assert [str(failure) for failure in load.failures] == []
    assert load.done["GET"] > 100 * RESTARTS
    assert min(load.done[method] for method in ("PATCH", "PUT")) > 10 * RESTARTS


def test_hosts_that_are_replaced_as_kubernetes_does_it_cost_no_request(fleet: Fleet):
    """What sends them requests forgets a host first; it is asked to stop later, and drains nothing."""
    (container,) = pods()["web"]["spec"]["containers"]
    pause_seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    as_there = PATIENT | {"DRAIN_SECONDS": "0"}
    fleet.ensure(**as_there)
    editor = Editor(fleet.balancer)
    with Load(readers_and_writers(fleet.balancer, editor)) as load:
        for number in range(KUBERNETES_RESTARTS):
            web = fleet.webs[number % len(fleet.webs)]
            with fleet.forgotten(web):
                time.sleep(pause_seconds)
                web.stop()
                web.start(**as_there)
            time.sleep(FOUND_SECONDS)
    assert [str(failure) for failure in load.failures] == []
    assert load.done["GET"] > 100 * KUBERNETES_RESTARTS
    assert min(load.done[method] for method in ("PATCH", "PUT")) > 10 * KUBERNETES_RESTARTS


def boots(web: WebHost) -> int:
    return web.log.read_text().count("Booting worker")


def test_a_host_that_is_reloaded_costs_no_request(fleet: Fleet):
    fleet.ensure(**PATIENT)
    web = fleet.webs[0]
    editor = Editor(web)
    with Load(readers_and_writers(web, editor)) as load:
        for _ in range(RESTARTS):
            before = boots(web)
            assert web.process
            web.process.send_signal(signal.SIGHUP)
            while boots(web) < before + 2:
                time.sleep(0.05)
            web.wait_until_open()
            time.sleep(3)  # until the former workers have gone
    assert [str(failure) for failure in load.failures] == []
    # gunicorn ends the old workers while the new ones are starting: until then requests wait.
    assert load.done["GET"] > 10 * RESTARTS
