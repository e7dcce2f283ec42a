"""What one process passes on: everything from a client's place on, once, over outages of Redis."""

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from store import event_feed, event_stream, keys
from store.connections import queue_breaker
from store.event_feed import Feed, Follower, TooManyClients
from store.throttling import TooMany
from tests.configuration import configure
from tests.line import Line
from tests.servers import HANGING_READ_SECONDS, free_port, start_redis
from tests.waiting import wait_for

PATIENT_SECONDS = 30.0
Follow = Callable[..., Follower]


@pytest.fixture
def server(settings) -> Iterator[Redis]:
    """A Redis of our own that the events are on."""
    executor = start_redis(port := free_port())
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{port}/0"
    with Redis(port=port) as redis:
        yield redis
    executor.stop()


@pytest.fixture
def line(server, settings) -> Iterator[Line]:
    """The line that the events come by."""
    configure(settings, READ_SECONDS=HANGING_READ_SECONDS)
    line = Line(server.connection_pool.connection_kwargs["port"])
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{line.port}/0"
    yield line
    line.close()


@pytest.fixture
def feed(monkeypatch) -> Iterator[Feed]:
    """The events of a process, whose thread ends as soon as nobody follows."""
    monkeypatch.setattr(event_feed, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(event_feed, "LOOK_SECONDS", 0.1)
    feed = Feed()
    yield feed
    wait_for(lambda: feed._thread is None)


@pytest.fixture
def follow(feed) -> Iterator[Follow]:
    """Follow the events after an id, or from now on."""
    followers: list[Follower] = []

    def one(last_id: str | None = None, client: str = "") -> Follower:
        client = client or f"client {len(followers)}"
        followers.append(feed.follow(last_id, client, max_clients=3, max_of_one=2))
        return followers[-1]

    yield one
    for follower in followers:
        follower.close()


def tell(*numbers: int) -> None:
    event_stream.append([{"event": "updated", "id": number} for number in numbers])


def heard(follower: Follower, count: int) -> list[int | str]:
    """Return the next `count` events, each by its id, or its name if it has none."""
    found: list[int | str] = []
    while len(found) < count:
        entries = follower.next(PATIENT_SECONDS)
        assert entries, found
        assert follower.last_id == entries[-1].id
        found += [json.loads(entry.data).get("id", entry.event) for entry in entries]
    return found


def hears_nothing(follower: Follower) -> bool:
    return follower.next(0.3) == []


# --- Who hears what -------------------------------------------------------------------------------


def test_all_hear_what_is_told_from_now_on_and_by_one_connection(server, follow):
    tell(1)
    followers = [follow(), follow(), follow()]
    tell(2, 3)
    tell(4)
    assert [heard(follower, 3) for follower in followers] == [[2, 3, 4]] * 3
    assert server.pubsub_numsub(keys.events_key()) == [(keys.events_key().encode(), 1)]


def test_who_comes_back_hears_what_was_missed_once_and_then_goes_on(server, follow):
    follower = follow()
    tell(1)
    assert heard(follower, 1) == [1]
    follower.close()
    tell(2, 3)
    again = follow(follower.last_id)
    tell(4)
    assert heard(again, 3) == [2, 3, 4]
    assert hears_nothing(again)


def test_who_comes_back_before_the_first_event_hears_that_one(server, follow):
    follower = follow()
    follower.close()
    tell(1)
    assert heard(follow(follower.last_id), 1) == [1]


@pytest.mark.parametrize(("missed", "expected"), [(10, list(range(10))), (11, ["reset"])])
def test_up_to_the_cap_nothing_is_missed_and_beyond_it_there_is_a_reset(
    server, feed, follow, monkeypatch, missed, expected
):
    monkeypatch.setattr(keys, "EVENTS_CAP", 10)
    follower = follow()
    follower.close()
    wait_for(lambda: feed._thread is None)  # What is missed now is in Redis alone.
    for number in range(missed):
        tell(number)
    assert server.xlen(keys.events_key()) <= keys.EVENTS_CAP + 1
    again = follow(follower.last_id)
    assert heard(again, len(expected)) == expected
    tell(99)
    assert heard(again, 1) == [99]


@pytest.mark.parametrize(
    "last_id", ["1-1", "99999999999999-0", "0", "-", "+", "$", "abc", "1-1\n", "é", "x" * 9999]
)
def test_an_id_that_is_not_in_the_stream_is_answered_by_a_reset(server, follow, last_id):
    tell(1)
    follower = follow(last_id)
    assert heard(follower, 1) == ["reset"]
    tell(2)
    assert heard(follower, 1) == [2]


def test_who_falls_behind_the_cap_while_listening_gets_a_reset(server, follow, monkeypatch):
    monkeypatch.setattr(keys, "EVENTS_CAP", 10)
    slow, quick = follow(), follow()
    for number in range(20):
        tell(number)
        assert heard(quick, 1) == [number]
    assert heard(slow, 1) == ["reset"]


def test_a_flushed_stream_is_a_reset_for_all(server, follow):
    tell(1)
    followers = [follow(), follow()]
    server.flushall()
    assert [heard(follower, 1) for follower in followers] == [["reset"]] * 2
    tell(2)
    assert [heard(follower, 1) for follower in followers] == [[2]] * 2


def test_what_another_process_heard_first_is_no_reset(server, feed, follow):
    """A browser that comes to another worker knows an event that this one has not read yet."""
    with feed._reading:  # The thread cannot read.
        thread = threading.Thread(target=lambda: results.append(follow(last_id)))
        results: list[Follower] = []
        tell(1)
        last_id = server.xrevrange(keys.events_key(), count=1)[0][0].decode()
        thread.start()
    thread.join()
    assert hears_nothing(results[0])
    tell(2)
    assert heard(results[0], 1) == [2]


def test_entries_that_are_not_ours_are_passed_over(server, follow):
    follower = follow()
    for fields in ({"something": "else"}, {"event": "no JSON"}, {"event": "[]"}):
        server.xadd(keys.events_key(), fields)
    tell(1)
    assert heard(follower, 1) == [1]


def test_who_waits_is_woken_by_an_event(server, follow):
    follower, found = follow(), []
    thread = threading.Thread(target=lambda: found.extend(follower.next(60)), daemon=True)
    thread.start()
    tell(1)
    thread.join(PATIENT_SECONDS)
    assert [entry.event for entry in found] == ["updated"]


# --- Beginning and end ----------------------------------------------------------------------------


def test_there_are_no_more_than_are_let(server, follow):
    followers = [follow(), follow(), follow()]
    with pytest.raises(TooManyClients):
        follow()
    followers[0].close()
    followers[0].close()  # Once more makes no more room.
    follow()
    with pytest.raises(TooManyClients):
        follow()


def test_one_client_leaves_room_for_others(server, feed, follow):
    followers = [follow(client="one"), follow(client="one")]
    with pytest.raises(TooMany, match="from this address"):
        follow(client="one")
    with pytest.raises(TooMany):
        follow(client="one")
    follow(client="another")
    followers[1].close()
    follow(client="one")
    for follower in followers:
        follower.close()
    assert set(feed._clients) == {"another", "one"}


def test_nobody_listens_to_redis_for_nobody_and_the_next_one_starts_again(server, feed, follow):
    follower = follow()
    follower.close()
    wait_for(lambda: feed._thread is None)
    wait_for(lambda: server.pubsub_numsub(keys.events_key())[0][1] == 0)
    tell(1)
    again = follow(follower.last_id)
    assert heard(again, 1) == [1]
    assert follower.next(0) == []


def test_after_a_fork_there_is_nothing_of_the_parents(server, feed, follow):
    follow()
    child = Feed()
    child.reset_after_fork()
    assert child._thread is None
    assert child._followers == 0


# --- Redis down -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fail", [Line.cut, Line.go_dead], ids=["cut", "dead"])
def test_after_an_outage_all_goes_on_without_a_gap_or_a_double(line, server, follow, fail):
    followers = [follow(), follow()]
    tell(1)
    assert [heard(follower, 1) for follower in followers] == [[1]] * 2
    fail(line)
    server.xadd(keys.events_key(), {"event": '{"event":"updated","id":2}'})
    late = follow(followers[0].last_id)
    line.mend()
    assert [heard(follower, 1) for follower in (*followers, late)] == [[2]] * 3
    wait_for(lambda: server.pubsub_numsub(keys.events_key())[0][1] == 1)
    queue_breaker.reset()
    tell(3)
    assert [heard(follower, 1) for follower in (*followers, late)] == [[3]] * 3


def test_who_comes_during_an_outage_is_told_of_a_reset_after_it(line, server, follow):
    line.cut()
    follower = follow()
    assert hears_nothing(follower)
    line.mend()
    assert heard(follower, 1) == ["reset"]


def test_what_an_outage_has_lost_is_a_reset(line, server, follow):
    follower = follow()
    line.cut()
    server.flushall()
    server.xadd(keys.events_key(), {"event": '{"event":"updated","id":2}'})
    line.mend()
    assert heard(follower, 1) == ["reset"]


def test_a_lost_bell_delays_events_and_loses_none(server, follow):
    follower = follow()
    wait_for(lambda: server.pubsub_numsub(keys.events_key())[0][1] == 1)
    server.client_kill_filter(_type="pubsub")
    tell(1)
    assert heard(follower, 1) == [1]
    wait_for(lambda: server.pubsub_numsub(keys.events_key())[0][1] == 1)


def test_a_refusal_is_told_of_once(server, follow, caplog):
    server.set(keys.events_key(), "something else's")
    follower = follow()
    assert hears_nothing(follower)
    assert hears_nothing(follower)
    server.delete(keys.events_key())
    assert heard(follower, 1) == ["reset"]
    (complaint,) = [record.message for record in caplog.records if "wait" in record.message]
    assert "WRONGTYPE" in complaint
