import os
from collections.abc import Iterator

import pytest

from tests.scale import network
from tests.scale.fleet import Fleet
from tests.scale.servers import Replication
from tests.servers import binary


@pytest.fixture(scope="session")
def replication() -> Iterator[Replication]:
    """A MariaDB primary with two replicas."""
    if not (binary("mariadbd") and binary("mariadb-install-db")):
        pytest.skip("MariaDB is not there, whose replicas can be made to lag")
    found = Replication()
    yield found
    found.close()


@pytest.fixture(scope="session")
def whole_fleet() -> Iterator[Fleet]:
    if missing := network.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and under CI=true the tests do not run without")
        pytest.skip(missing)
    fleet = Fleet()
    yield fleet
    fleet.close()


@pytest.fixture
def fleet(whole_fleet: Fleet) -> Fleet:
    """Two web hosts behind a balancer, with nothing cached and the prices of the demo."""
    whole_fleet.ensure()
    return whole_fleet
