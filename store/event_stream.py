"""The stream of events in Redis: what has happened lately, for all processes.

One MULTI appends: XADD with MAXLEN, EXPIRE, PUBLISH; XRANGE reads. PUBLISH is but the bell: Pub/Sub
forgets those who are not connected just then, so what is passed on is read from the stream, always
from the last id on. An id vouches that nothing is missing for as long as its entry is in the stream.
Redis down: Unavailable.
"""

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from redis.client import PubSub

from freshcache.entry import new_token
from store import keys
from store.connections import listener_redis, queue_breaker, queue_redis

RESET = "reset"  # What is known may be out of date: read everything again.

BEGIN = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XADD', KEYS[1], '*', 'event', ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""


@dataclass(frozen=True)
class Entry:
    """An event with its place in the stream; `data` is JSON."""

    id: str
    event: str
    data: str


def append(events: Iterable[dict[str, Any]]) -> None:
    """Add events, each a dict with its name as "event", in one round trip.

    What they tell of has to have reached the cache: they get a token that says so (own_writes).

    Raises Unavailable if Redis is down and RedisError if it refuses.
    """
    found = [encode(event) for event in events]

    def send() -> None:
        with queue_redis().pipeline(transaction=True) as pipeline:
            for data in found:
                # One more than the cap: the entry that a client saw last vouches for the rest.
                pipeline.xadd(
                    keys.events_key(),
                    {"event": data},
                    maxlen=keys.EVENTS_CAP + 1,
                    approximate=False,
                )
            pipeline.expire(keys.events_key(), keys.EVENTS_AGE_SECONDS)
            pipeline.publish(keys.events_key(), len(found))
            pipeline.execute()

    queue_breaker.call(send)


def read_after(last_id: str) -> list[Entry] | None:
    """Return the entries after `last_id`, or None if that one is not there (any more)."""
    found = queue_breaker.call(lambda: queue_redis().xrange(keys.events_key(), min=last_id))
    entries = _decode(found)
    return entries[1:] if entries and entries[0].id == last_id else None


def read_all() -> list[Entry]:
    """Return all entries; an empty stream is begun with a reset, so that there is an id to go on from."""

    def read() -> Any:
        reset = encode({"event": RESET})
        with queue_redis().pipeline(transaction=False) as pipeline:
            pipeline.eval(BEGIN, 1, keys.events_key(), reset, keys.EVENTS_AGE_SECONDS)
            pipeline.xrange(keys.events_key())
            return pipeline.execute()[1]

    return _decode(queue_breaker.call(read))


def encode(event: dict[str, Any]) -> str:
    """Return an event of now, with the token of who hears of it, as JSON."""
    at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return orjson.dumps(event | {"at": at, "seen": new_token()}).decode()


@contextmanager
def bell() -> Iterator[PubSub]:
    """Listen for the bell, which `get_message()` waits for; its first message says that one listens.

    Raises RedisError when the connection is, or gets, lost.
    """
    with listener_redis() as redis, redis.pubsub() as pubsub:
        pubsub.subscribe(keys.events_key())
        yield pubsub


def _decode(found: Any) -> list[Entry]:
    entries = []
    for entry_id, fields in found:
        with contextlib.suppress(KeyError, TypeError, ValueError):  # Else it is not ours.
            data = fields[b"event"].decode()
            entries.append(Entry(entry_id.decode(), orjson.loads(data)["event"], data))
    return entries
