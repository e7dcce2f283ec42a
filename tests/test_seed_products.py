import io
import tracemalloc

import pytest
from django.core.management import CommandError, call_command

from store import demo
from store.demo import BATCH_ROWS
from store.models import Product

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.engines,
    pytest.mark.contract,
]


def seed(**options) -> str:
    output = io.StringIO()
    call_command("seed_products", stdout=output, **options)
    return output.getvalue()


def test_the_demo_catalogue_is_book_a_to_z_nine_times_over():
    assert seed() == "The store has 234 products.\n"
    rows = list(Product.objects.values_list("name", "description", "price"))
    assert len(rows) == 234
    assert rows[0] == ("Book A", "book A description", 1000)
    assert rows[1] == ("Book B", "book B description", 2000)
    assert rows[25] == rows[233] == ("Book Z", "book Z description", 26000)
    assert rows[:26] * 9 == rows


def test_a_store_that_has_products_is_left_alone():
    Product.objects.create(name="mine")
    assert "has products already" in seed()
    assert Product.objects.get().name == "mine"


def test_replace_replaces_them():
    Product.objects.create(name="mine")
    seed(replace=True, count=5)
    assert Product.objects.count() == 5
    assert not Product.objects.filter(name="mine").exists()


def test_a_count_and_a_seed_determine_varied_books():
    seed(count=50, seed=7)
    first = list(Product.objects.values_list("name", "price"))
    seed(count=50, seed=7, replace=True)
    assert list(Product.objects.values_list("name", "price")) == first
    seed(count=50, seed=8, replace=True)
    assert list(Product.objects.values_list("name", "price")) != first
    assert len(set(first)) == 50


@pytest.mark.parametrize("count", [0, -1, 1_000_001])
def test_a_count_out_of_range_is_refused_by_name(count):
    with pytest.raises(CommandError, match="--count must be from 1 to 1000000"):
        seed(count=count)


def peak_bytes(count: int) -> int:
    tracemalloc.start()
    try:
        seed(count=count, replace=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_seeding_takes_no_more_memory_for_more_products():
    peak_bytes(100)  # What is imported on first use counts for nobody.
    assert peak_bytes(5 * BATCH_ROWS) < 1.5 * peak_bytes(BATCH_ROWS)


def test_an_interrupted_seeding_leaves_what_was_there(monkeypatch):
    Product.objects.create(name="mine")

    def broken(count: int, seed: int):
        yield Product(name="new")
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "varied_books", broken)
    with pytest.raises(KeyboardInterrupt):
        seed(count=2, replace=True)
    assert Product.objects.get().name == "mine"
