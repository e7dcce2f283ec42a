import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.scale import network
from tests.scale.fleet import Fleet
from tests.scale.servers import Replication
from tests.servers import mysql_binary


def skip(missing: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{missing}, and under CI=true the tests do not run without")
    pytest.skip(missing)


@pytest.fixture(scope="session")
def replication() -> Iterator[Replication]:
    """A primary with two replicas."""
    if not mysql_binary():
        skip("neither MariaDB nor MySQL is there")
    found = Replication()
    yield found
    found.close()


@pytest.fixture(scope="session")
def whole_fleet() -> Iterator[Fleet]:
    if missing := network.missing():
        skip(missing)
    fleet = Fleet()
    yield fleet
    fleet.close()


@pytest.fixture
def fleet(whole_fleet: Fleet) -> Fleet:
    """Two web hosts behind a balancer, with nothing cached and the prices of the demo."""
    whole_fleet.ensure()
    return whole_fleet
