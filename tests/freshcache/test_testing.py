"""freshcache.testing, inside Django's TestCase and outside."""

import threading

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.cache import caches
from django.db import connection, transaction
from django.test import TestCase

from freshcache import Outcome, testing
from store.models import Product
from store.regions import products

pytestmark = pytest.mark.engines


def outcome() -> tuple[Outcome, bytes]:
    found = products.get_or_load("", lambda: str(Product.objects.count()).encode())
    return found.outcome, found.body


def kept(redis) -> set[bytes]:
    """Return the keys of the region, without those that last some seconds."""
    return {
        key
        for key in redis.scan_iter(f"{settings.PROJECT_NAME}*:product*")
        if not key.endswith(b":probe")
    }


class AsItIs(TestCase):
    def test_a_test_that_writes_reads_past_the_cache(self):
        Product.objects.create(name="a")
        assert [outcome() for _ in range(2)] == [(Outcome.BYPASS, b"1")] * 2


class InTestCase(TestCase):
    def setUp(self):
        self.enterContext(testing.in_test_case())

    def test_writes_make_entries_stale_and_others_leave_them(self):
        assert outcome() == (Outcome.MISS, b"0")
        assert outcome() == (Outcome.HIT, b"0")
        Product.objects.create(name="a")
        assert outcome() == (Outcome.MISS, b"1")
        Group.objects.create(name="a")
        assert outcome() == (Outcome.HIT, b"1")

    def test_a_transaction_of_the_tests_own_counts(self):
        assert outcome() == (Outcome.MISS, b"0")
        with pytest.raises(RuntimeError), transaction.atomic():
            Product.objects.create(name="a")
            assert outcome() == (Outcome.BYPASS, b"1")
            raise RuntimeError
        assert outcome() == (Outcome.HIT, b"0")
        with transaction.atomic():
            Product.objects.create(name="a")
        assert outcome() == (Outcome.MISS, b"1")

    def test_the_next_test_finds_nothing(self):
        assert outcome() == (Outcome.MISS, b"0")


@pytest.mark.django_db(transaction=True)
def test_disabled_loads_each_time_and_stores_nothing():
    with testing.disabled():
        assert [outcome()[0] for _ in range(2)] == [Outcome.BYPASS] * 2
    assert outcome()[0] is Outcome.MISS


@pytest.mark.django_db(transaction=True)
def test_an_isolated_cache_is_seen_by_its_thread_and_no_other_process(redis):
    assert outcome()[0] is Outcome.MISS
    before = kept(redis)
    with testing.isolated():
        assert [outcome()[0] for _ in range(2)] == [Outcome.MISS, Outcome.HIT]
        assert kept(redis) > before
        found = []

        def read() -> None:
            try:
                found.append(outcome()[0])
            finally:
                connection.close()
                caches["default"].close()

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        assert found == [Outcome.HIT]
    assert kept(redis) == before
    assert outcome()[0] is Outcome.HIT
