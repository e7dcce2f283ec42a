"""Threads that want the same at the same time get it from one of them."""

import pytest

from freshcache.singleflight import Call, SingleFlight


def test_one_boards_a_flight_that_the_others_ride_until_it_has_ended():
    flights: SingleFlight[bytes] = SingleFlight()
    flight, leads = flights.join("key")
    assert leads
    assert flights.join("key") == (flight, False)
    assert flights.join("another") != (flight, False)
    flights.end("key", flight)
    later, leads = flights.join("key")
    assert leads
    flights.end("key", flight)  # Not the one that is under way.
    assert flights.join("key") == (later, False)


def test_only_the_first_landing_counts():
    flight: Call[bytes] = Call()
    flight.land(b"1")
    flight.land(error=ZeroDivisionError())
    assert flight.result() == b"1"


def test_a_flight_that_landed_with_an_error_raises_it_in_all():
    flight: Call[bytes] = Call()
    flight.land(error=ZeroDivisionError())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            flight.result()


def test_one_of_those_who_lose_patience_takes_over():
    flight: Call[bytes] = Call()
    assert [flight.take_over() for _ in range(3)] == [True, False, False]
