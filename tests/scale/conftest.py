from collections.abc import Iterator

import pytest

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
