"""A server without a binary log, as the suite's own is, cannot say what replicas have to have."""

import pytest

from store.replication import NoPosition, position

pytestmark = [pytest.mark.mysql, pytest.mark.django_db]


def test_a_primary_without_transaction_ids_cannot_say_what_it_has_committed():
    with pytest.raises(NoPosition, match="no binary log with GTIDs"):
        position()
