"""Functions that are cached, and reads from async code."""

import asyncio
import datetime
import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection

from freshcache import Outcome
from freshcache.source import database
from store.models import Product
from store.regions import products

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]
calls: list[tuple] = []


@products.cached
def count_of(name, *, at_least=0, **more):
    calls.append((name, at_least))
    return {"name": name, "count": Product.objects.filter(name=name).count(), **more}


@products.cached(ttl=60)
async def acount_of(name):
    calls.append((name,))
    return await Product.objects.filter(name=name).acount()


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def test_a_function_is_called_once_for_the_same_arguments_however_they_are_given():
    found = [count_of("a"), count_of(name="a"), count_of("a", at_least=0)]
    assert found == [{"name": "a", "count": 0}] * 3
    assert len(calls) == 1
    assert count_of("b") != count_of("a")
    Product.objects.create(name="a")
    assert count_of("a")["count"] == 1


def test_what_a_caller_does_to_its_result_is_not_cached():
    count_of("a")["count"] = 99
    assert count_of("a")["count"] == 0


@pytest.mark.parametrize("wrong", [object(), {1, 2}, datetime.date(2026, 1, 1), b"x"])
def test_arguments_and_results_that_are_no_plain_data_are_told(wrong):
    with pytest.raises(TypeError, match=r"the arguments of .*count_of must be plain data"):
        count_of(wrong)
    with pytest.raises(TypeError, match=r"the result of .* must be plain data"):
        products.cached(lambda: wrong)()
    assert calls == []


def test_nothing_found_is_a_value():
    @products.cached
    def nothing():
        calls.append(())

    assert [nothing(), nothing()] == [None, None]
    assert len(calls) == 1


def test_coroutine_functions_are_cached_too():
    async def ask() -> list[int]:
        return [await acount_of("a"), await acount_of("a"), await acount_of(name="a")]

    assert asyncio.run(ask()) == [0, 0, 0]
    assert len(calls) == 1
    Product.objects.create(name="a")
    assert asyncio.run(ask())[0] == 1


def test_a_load_runs_in_the_event_loop_and_once_for_all_who_ask():
    threads = []

    async def load() -> bytes:
        threads.append(threading.get_ident())
        await asyncio.sleep(0.1)
        return b"1"

    async def ask():
        asked = [products.aget_or_load("x", load) for _ in range(5)]
        return [one.outcome for one in await asyncio.gather(*asked)], threading.get_ident()

    outcomes, own = asyncio.run(ask())
    assert threads == [own]
    assert outcomes.count(Outcome.MISS) == 1
    assert set(outcomes) <= {Outcome.MISS, Outcome.COALESCED, Outcome.HIT}


def test_a_statement_that_fails_in_async_code_is_no_outage():
    """It has failed on a connection of another thread than the one that waits for it."""

    def fail() -> None:
        connection.ensure_connection()
        raise OperationalError(1205, "Lock wait timeout exceeded")

    async def load() -> bytes:
        await sync_to_async(fail)()
        return b""

    with pytest.raises(Exception, match="database did not do what was asked"):
        asyncio.run(products.aget_or_load("y", load))
    assert database._next_try is None
