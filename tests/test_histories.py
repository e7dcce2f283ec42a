"""Random interleavings of readers, writers and losses: no read is ever older than what was
acknowledged before it began.

Each history runs a few actors one step at a time, in an order that its seed determines; a step is
one command to Redis, one read of the database or one wait. `HISTORIES` of them run each time.
"""

import random
import threading
from collections.abc import Callable

import pytest
from redis import Redis

from freshcache import keys, singleflight
from freshcache.cache import Cache
from freshcache.entry import Entry
from freshcache.keys import EntryKeys
from freshcache.outage import Outage
from freshcache.redis.entries import Lease, RedisEntries, StoredEntry
from freshcache.result import Item, Limits
from tests import depth
from tests.servers import free_port, start_redis

HISTORIES = 2400 if depth.IS_FULL else 400
CHUNKS = 8
NAMES = keys.entry_keys("product")
ALL_KEYS = (NAMES.entry, NAMES.stale, NAMES.lock, NAMES.generation)


class Turns:
    """Lets threads run one at a time, from `step()` to `step()`."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self._gates: list[threading.Semaphore] = []
        self._back = threading.Semaphore(0)
        self._ended: set[int] = set()
        self._errors: list[BaseException] = []
        self._me = threading.local()

    def step(self) -> None:
        """End this actor's turn; returns when it has the next one."""
        self._back.release()
        self._gates[self._me.number].acquire()

    def play(self, actors: list[Callable[[], None]]) -> None:
        """Run all actors to their ends; raises the first error that one of them raised."""
        for number, actor in enumerate(actors):
            self._gates.append(threading.Semaphore(0))
            threading.Thread(target=self._act, args=(number, actor), daemon=True).start()
        while going := [number for number in range(len(actors)) if number not in self._ended]:
            self._gates[self.dice.choice(going)].release()
            assert self._back.acquire(timeout=30), "an actor hangs"
        if self._errors:
            raise self._errors[0]

    def _act(self, number: int, actor: Callable[[], None]) -> None:
        self._me.number = number
        self._gates[number].acquire()
        try:
            actor()
        except BaseException as error:
            self._errors.append(error)
        self._ended.add(number)
        self._back.release()


class SteppedEntries(RedisEntries):
    """Entries on a Redis server of the test's own, with a step around each command."""

    def __init__(self, client: Redis, turns: Turns) -> None:
        self.client = client
        self.turns = turns

    def _client(self) -> Redis:
        return self.client

    def _key(self, name: str, version: int | None = None) -> str:
        return name

    def read(self, *arguments: object) -> StoredEntry:
        return self._stepped(lambda: super(SteppedEntries, self).read(*arguments))

    def make_generation(self, names: EntryKeys) -> str:
        return self._stepped(lambda: super(SteppedEntries, self).make_generation(names))

    def claim(self, *arguments: object, **keywords: object) -> Lease:
        return self._stepped(lambda: super(SteppedEntries, self).claim(*arguments, **keywords))

    def put(self, *arguments: object) -> str | None:
        return self._stepped(lambda: super(SteppedEntries, self).put(*arguments))

    def forget(self, family: str) -> None:
        self._stepped(lambda: super(SteppedEntries, self).forget(family))

    def _stepped(self, command):
        self.turns.step()
        result = command()
        self.turns.step()
        return result


class NaiveEntries(SteppedEntries):
    """What plain cache-aside does: whatever was loaded is stored, and served if it is there."""

    def put(self, names: EntryKeys, token: str, entry: Entry, *rest: object) -> str | None:
        current = self.make_generation(names)
        unguarded = Entry(
            current, entry.query, entry.etag, entry.fill_seconds, entry.ttl_ms, entry.body
        )
        self._stepped(lambda: self.client.set(names.entry, unguarded.encode()))
        return names.entry


class World:
    """A database with one number in it, and what has been acknowledged of it."""

    def __init__(self, client: Redis, turns: Turns, entries: type[SteppedEntries]) -> None:
        self.client = client
        self.turns = turns
        self.number = 0
        self.acknowledged = 0
        make = lambda: Cache(  # noqa: E731
            entries(client, turns), Outage(lambda: None, lambda: None), lambda pause: turns.step()
        )
        self.processes = [make() for _ in range(2)]

    def reader(self, process: Cache, patience: float) -> Callable[[], None]:
        limits = Limits(patience, lease_seconds=60, budget_seconds=1000, command_seconds=0)
        item = Item("product", "", NAMES, ttl_seconds=600, stale_seconds=60)

        def load() -> bytes:
            self.turns.step()
            found = str(self.number).encode()
            self.turns.step()
            return found

        def act() -> None:
            for _ in range(2):
                floor = self.acknowledged
                got = int(process.fetch(item, load, limits).body)
                assert got >= floor, f"read {got} after {floor} was acknowledged"

        return act

    def writer(self, process: Cache) -> Callable[[], None]:
        def act() -> None:
            for _ in range(2):
                self.turns.step()
                self.number += 1
                written = self.number
                process.forget("product")
                self.acknowledged = max(self.acknowledged, written)

        return act

    def loser(self) -> Callable[[], None]:
        """Evicts or expires any one key, or flushes the server."""

        def act() -> None:
            for _ in range(3):
                self.turns.step()
                what = self.turns.dice.choice(["flush", "expire", *ALL_KEYS])
                if what == "flush":
                    self.client.flushdb()
                elif what == "expire":
                    self.client.pexpire(NAMES.entry, 0)
                else:
                    self.client.delete(what)

        return act


def play(seed: int, client: Redis, entries: type[SteppedEntries]) -> None:
    client.flushdb()
    turns = Turns(seed)
    world = World(client, turns, entries)
    dice = random.Random(f"actors {seed}")
    readers = [
        world.reader(dice.choice(world.processes), dice.choice([0.0, 60.0, 60.0]))
        for _ in range(dice.randint(2, 4))
    ]
    writers = [world.writer(dice.choice(world.processes)) for _ in range(dice.randint(1, 2))]
    losers = [world.loser() for _ in range(dice.randint(0, 1))]
    turns.play(readers + writers + losers)


@pytest.fixture(scope="module")
def server():
    port = free_port()
    redis = start_redis(port)
    yield Redis(port=port)
    redis.stop()


@pytest.fixture(autouse=True)
def stepped_flights(monkeypatch):
    """Whoever waits for a flight lets the others have their turns."""
    turns_of_flight: list[Turns] = []

    def wait(flight: singleflight.Call, seconds: float | None) -> bool:
        while not flight._landed.is_set() and (seconds is None or seconds > 0):
            turns_of_flight[-1].step()
        return flight._landed.is_set()

    original = Turns.__init__

    def remember(turns: Turns, seed: int) -> None:
        original(turns, seed)
        turns_of_flight.append(turns)

    monkeypatch.setattr(Turns, "__init__", remember)
    monkeypatch.setattr(singleflight.Call, "wait", wait)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_read_is_older_than_what_was_acknowledged_before_it(chunk, server):
    for seed in range(chunk * HISTORIES // CHUNKS, (chunk + 1) * HISTORIES // CHUNKS):
        try:
            play(seed, server, SteppedEntries)
        except AssertionError as error:
            raise AssertionError(f"history {seed}: {error}") from error


def test_these_histories_find_the_stale_fill_of_plain_cache_aside(server):
    with pytest.raises(AssertionError, match="was acknowledged"):
        for seed in range(300):
            play(seed, server, NaiveEntries)
