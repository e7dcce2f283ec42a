"""What MYSQL_REPLICA_HOST names; tests/scale/test_replicas.py shows what is done with it."""

from contextlib import closing

import pytest
from django.db import DatabaseError, connection
from environs import EnvError

from simple_django_redis.replica_hosts import replica_databases, replica_host
from store.abandoned_statements import _limits
from tests.test_settings import manage

PRIMARY = {"HOST": "db1", "PORT": 3306, "USER": "store", "OPTIONS": {"init_command": "SET x = 1"}}


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("db2", ("db2", None)),
        (" db2:3307 ", ("db2", 3307)),
        ("10.0.0.2:3307", ("10.0.0.2", 3307)),
        ("[::1]", ("::1", None)),
        ("[fd00::2]:3307", ("fd00::2", 3307)),
    ],
)
def test_a_replica_is_named_by_its_host_and_perhaps_its_port(value, host):
    assert replica_host(value) == host


@pytest.mark.parametrize("value", ["", "db2:", "db2:0", "db2:70000", "::1", "[host]", "a b", "a/b"])
def test_what_is_no_host_is_refused(value):
    with pytest.raises(EnvError, match="MYSQL_REPLICA_HOST"):
        replica_host(value)


def test_a_replica_is_the_primary_at_another_address_and_takes_no_writes():
    hosts = [replica_host("db2"), replica_host("db3:3307")]
    found = replica_databases(hosts, PRIMARY)
    assert {name: (one["HOST"], one["PORT"]) for name, one in found.items()} == {
        "replica_1": ("db2", 3306),
        "replica_2": ("db3", 3307),
    }
    for replica in found.values():
        assert replica["USER"] == "store"
        assert "read_only = ON" in replica["OPTIONS"]["init_command"]
        assert replica["TEST"] == {"MIRROR": "default"}
    assert PRIMARY["OPTIONS"] == {"init_command": "SET x = 1"}


@pytest.mark.mysql
def test_a_replica_takes_reads_and_no_writes_while_its_statements_are_limited(transactional_db):
    replica = connection.copy("another")
    host = replica_host(f"{connection.settings_dict['HOST']}:{connection.settings_dict['PORT']}")
    (replica.settings_dict,) = replica_databases([host], replica.settings_dict).values()
    replica.settings_dict["OPTIONS"]["init_command"] += _limits(5)
    with closing(replica), replica.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM store_product")
        with pytest.raises(DatabaseError, match="READ ONLY"):
            cursor.execute("DELETE FROM store_product")


def test_it_does_not_go_with_cacheops_which_keeps_what_it_reads():
    servers = {"MYSQL_HOST": "db1", "MYSQL_REPLICA_HOST": "db2", "SECRET_KEY": "x" * 50}
    stopped = manage("check", ORM_CACHE="on", **servers)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("Cannot start: ")
    assert "ORM_CACHE" in stopped.stderr
    assert stopped.stderr.count("\n") == 1
