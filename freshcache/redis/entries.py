"""Entries in Redis, through the connections of Django's default cache.

Commands: MGET, PTTL and GETRANGE to read (one round trip, two for an entry outside its own slot), SET NX
and GET for a missing generation, short Lua scripts to claim a fill, to extend and give up the claim and
to find a place, WATCH, MULTI and SET to store it, DEL to forget. Each raises redis-py's RedisError if
Redis is down; what to do then is decided in `lookup`.
"""

import zlib
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from django.core.cache import caches
from redis import Redis
from redis.exceptions import RedisError, WatchError

from freshcache import keys
from freshcache.entry import NO_GENERATION, Entry, new_token, start_of
from freshcache.keys import EntryKeys
from freshcache.redis import cluster
from freshcache.redis.generations import as_generation, new_generation
from freshcache.redis.pool import WaitingPool, client_of

T = TypeVar("T")

# MGET takes a key of a wrong type for a missing one, where GET would raise an error.
CLAIM = """
local found = redis.call('MGET', KEYS[1], KEYS[2])
if found[1] ~= ARGV[1] then return 'gone' end
for place = 3, ARGV[4] == '0' and #KEYS or 0 do
  local ok, start = pcall(redis.call, 'GETRANGE', KEYS[place], 0, #ARGV[5] - 1)
  if ok and start == ARGV[5] then return 'ready' end
end
if found[2] == ARGV[1] .. ARGV[2] then return 'claimed' end
if found[2] and string.sub(found[2], 1, #ARGV[1]) == ARGV[1] then return 'held' end
redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 'claimed'
"""
RELEASE = """
if redis.call('MGET', KEYS[1])[1] == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

EXTEND = """
if redis.call('MGET', KEYS[1])[1] == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
"""


# Which of the places an entry is to be stored in: where it is, one that is free (its own, if that is),
# or that of the entry that was stored longest ago: those in use are refreshed ahead of their expiry.
# Where none expires, chance decides, so that none keeps others out for good.
PLACE = """
local place, least
for number, key in ipairs(KEYS) do
  local ok, start = pcall(redis.call, 'GETRANGE', key, 0, #ARGV[2] - 1)
  if ok and start == ARGV[2] then return number end
  local left = -2
  if ok and string.sub(start, 1, #ARGV[1]) == ARGV[1] then
    left = redis.call('PTTL', key)
    if left == -1 then left = math.huge end
  end
  if not least or left < least then place, least = number, left end
end
if least == math.huge then return ARGV[3] % #KEYS + 1 end
return place
"""


@dataclass(frozen=True)
class StoredEntry:
    """What one look at an entry found; an entry is only there if its generation is the current one."""

    generation: str | None
    entry: Entry | None
    ttl_ms: int | None  # None: it does not expire
    place: str  # under which key the entry is, or its own one


@dataclass(frozen=True)
class Stale:
    """The last good value, encoded, and how long it may bridge an outage of its source."""

    data: bytes
    ttl_ms: int


class Lease(Enum):
    """What became of the attempt to be the one who fills an entry."""

    CLAIMED = "claimed"
    HELD = "held"  # somebody else fills it
    READY = "ready"  # it has been filled meanwhile
    GONE = "gone"  # the generation has changed: begin anew


class RedisEntries:
    """The entries of all processes that share a Redis server, that of a cache alias."""

    def __init__(self, alias: str = "default") -> None:
        self.alias = alias

    def read(self, names: EntryKeys, query: str) -> StoredEntry:
        return self._look(names.generation, query, *names.places)

    def read_stale(self, names: EntryKeys, query: str) -> StoredEntry:
        return self._look(
            names.generation, query, *(keys.beside(place, "stale") for place in names.places)
        )

    def read_any(self, names: EntryKeys) -> StoredEntry:
        """Return what is under an entry's own key, whatever its query is."""
        return self._look(names.generation, None, names.entry)

    def make_generation(self, names: EntryKeys) -> str:
        """Return the region's generation, made now if there is none."""
        key = self._key(names.generation, keys.UNVERSIONED)
        return self._at(names.generation, lambda redis: _make_generation(redis, key))

    def claim(
        self,
        names: EntryKeys,
        query: str,
        generation: str,
        token: str,
        lease_seconds: float,
        *,
        replace: bool,
    ) -> Lease:
        """Try to be the one who fills the entry of `query`, for `lease_seconds` at most.

        With `replace`, an entry of this generation that is there is no reason not to.
        """
        found = self._run(
            names.generation,
            CLAIM,
            [self._key(names.generation, keys.UNVERSIONED), *self._keys(names.lock, *names.places)],
            [
                *(generation, token, int(lease_seconds * 1000), int(replace)),
                start_of(generation, query),
            ],
        )
        return Lease(found.decode())

    def put(
        self,
        names: EntryKeys,
        token: str,
        entry: Entry,
        data: bytes,
        stale: Stale | None,
        announce: Callable[[str], object],
    ) -> str | None:
        """Store `data`, the encoded `entry`, and its stale copy, and end the claim of `token`.

        Returns where, having given it to `announce` before; None, with nothing stored, if the claim has
        been lost or the generation has changed.
        """
        generation_key = self._key(names.generation, keys.UNVERSIONED)
        lock_key = self._key(names.lock)
        valid = [entry.generation.encode(), (entry.generation + token).encode()]
        # Where there is a choice, what is chosen should not be taken before it is stored.
        contested = self._keys(*names.places) if names.alternatives else []

        def store(redis: Any, *contested: str) -> str | None:
            # A transaction, as a script would hold Redis up while Lua copies what may be megabytes.
            with redis.pipeline(transaction=True) as pipeline:
                pipeline.watch(generation_key, lock_key, *contested)
                if pipeline.mget(generation_key, lock_key) != valid:
                    return None
                place = self._place(pipeline, names, entry)
                announce(place)
                pipeline.multi()
                pipeline.set(self._key(place), data, px=entry.ttl_ms)
                if stale:
                    pipeline.set(
                        self._key(keys.beside(place, "stale")), stale.data, px=stale.ttl_ms
                    )
                pipeline.delete(lock_key)
                pipeline.execute()
            return place

        with suppress(WatchError):
            return self._at(names.generation, lambda redis: store(redis, *contested))
        # It has been taken, or the claim is worth nothing any more.
        with suppress(WatchError):
            return self._at(names.generation, store)
        return None

    def _place(self, redis: Any, names: EntryKeys, entry: Entry) -> str:
        """Return the key to store an entry under."""
        if not names.alternatives:
            return names.entry
        start = start_of(entry.generation, entry.query)
        whole_keys = self._keys(*names.places)
        arguments = [entry.generation, start, zlib.crc32(start)]
        number: int = redis.eval(PLACE, len(whole_keys), *whole_keys, *arguments)
        return names.places[number - 1]

    def release(self, names: EntryKeys, generation: str, token: str) -> None:
        """End the claim that `token` proves; somebody else's is left alone."""
        self._run(names.generation, RELEASE, self._keys(names.lock), [generation + token])

    def extend(self, names: EntryKeys, generation: str, token: str, seconds: float) -> None:
        """Have the claim that `token` proves end in so many seconds; one that is lost stays so."""
        milliseconds = max(1, int(seconds * 1000))
        self._run(
            names.generation, EXTEND, self._keys(names.lock), [generation + token, milliseconds]
        )

    def forget(self, region: str) -> None:
        """Make no entry of `region` be served any more. DEL works even when a full Redis refuses SET."""
        self._client().delete(self._key(keys.generation_key(region), keys.UNVERSIONED))

    def delete(self, whole_key: str | bytes) -> None:
        """Delete one key, whatever it holds."""
        self._client().delete(whole_key)

    def delete_all(self) -> None:
        """Delete all that lies under the cache's prefix, for tests that have one of their own."""
        for prefix in self.prefixes():
            for key in list(self._client().scan_iter(f"{prefix}*")):
                self.delete(key)

    def find_servers(self) -> None:
        """See where the servers of a cluster are by now."""
        cluster.refresh(self._client())

    def renew(self, regions: Iterable[str]) -> None:
        """Set new generations: proves that Redis takes writes, and makes all entries be forgotten.

        Not before all servers of a cluster answer, as sessions are on any of them.
        """
        cluster.ping(self._client())
        for region in regions:  # One by one: in a cluster each is on a server of its own.
            # Where a generation says under which primary it was made, who comes next makes a better one.
            self._client().set(
                self._key(keys.generation_key(region), keys.UNVERSIONED), new_token()
            )

    def prove(self, regions: Iterable[str]) -> tuple[str, ...] | None:
        """Show that Redis takes writes, and return which servers it is, by new connections.

        The answer changes with a restart and with another primary; None if it may not be known.
        """
        names = [self._key(keys.probe_key(region), keys.UNVERSIONED) for region in regions]
        client = self._client()
        if len(servers := cluster.servers(client)) > 1:
            for name in names:
                client.set(name, 1, ex=keys.PROBE_SECONDS)
            names = []
        found: list[str] = []
        for server in servers:
            pool = server.connection_pool
            options = pool.connection_kwargs | {"connection_class": pool.connection_class}
            with closing(Redis(connection_pool=WaitingPool(max_connections=1, **options))) as anew:  # type: ignore[no-untyped-call]
                pipeline: Any = anew.pipeline(transaction=False)
                for name in names:
                    pipeline.set(name, 1, ex=keys.PROBE_SECONDS)
                pipeline.info("server").info("replication")
                *written, of_server, of_replication = pipeline.execute(raise_on_error=False)
            for answer in written:
                if isinstance(answer, RedisError):
                    raise answer
            if isinstance(of_server, RedisError) or isinstance(of_replication, RedisError):
                return None
            found += [of_server["run_id"], of_replication["master_replid"]]
        return tuple(found)

    def lock_key(self, names: EntryKeys) -> str:
        """Return the whole key of an entry's lock."""
        return self._key(names.lock)

    def prefixes(self) -> list[str]:
        """Return what the keys of entries and of generations begin with."""
        return [self._key(""), self._key("", keys.UNVERSIONED)]

    def own_connection(self) -> Any:
        """Return a connection outside the pool that speaks RESP3, not yet connected."""
        pool = self._client().connection_pool
        return pool.connection_class(**{**pool.connection_kwargs, "protocol": 3})

    def _look(
        self, generation_name: str, query: str | None, name: str, *others: str
    ) -> StoredEntry:
        """Look for the entry of `query`, None for any, under `name`, and else under `others`."""
        generation_key = self._key(generation_name, keys.UNVERSIONED)
        entry_key = self._key(name)
        start_length = len(start_of(NO_GENERATION, query or ""))

        def look(redis: Any) -> Any:
            pipeline = redis.pipeline(transaction=False)
            pipeline.mget(generation_key, entry_key).pttl(entry_key)
            for other in others:
                pipeline.getrange(self._key(other), 0, start_length - 1)
            found = pipeline.execute(raise_on_error=False)
            for one in found[:2]:
                if isinstance(one, Exception):
                    raise one
            (generation_found, data), ttl_ms, *starts = found  # An error: a key of a wrong type.
            return as_generation(generation_found, redis), data, ttl_ms, starts

        generation, data, ttl_ms, starts = self._at(generation_name, look)
        entry = Entry.decode(data) if data and generation else None
        if entry and (entry.generation != generation or query not in (None, entry.query)):
            entry = None
        if not entry and generation and query is not None:
            start = start_of(generation, query)
            for other, found in zip(others, starts, strict=True):
                if found == start:
                    return self._look(generation_name, query, other)
        return StoredEntry(generation, entry, None if ttl_ms == -1 else max(0, ttl_ms), name)

    def _run(
        self, generation_name: str, script: str, whole_keys: list[str], arguments: list[Any]
    ) -> Any:
        return self._at(
            generation_name, lambda redis: redis.register_script(script)(whole_keys, arguments)
        )

    def _at(self, generation_name: str, command: Callable[[Any], T]) -> T:
        """Return what `command` does at the server that has a generation, and all that it vouches for."""
        return cluster.at(self._client(), self._key(generation_name, keys.UNVERSIONED), command)

    def _keys(self, *names: str) -> list[str]:
        return [self._key(name) for name in names]

    def _key(self, name: str, version: int | None = None) -> str:
        return str(caches[self.alias].make_key(name, version))

    def _client(self) -> Any:
        return client_of(caches[self.alias])


def _make_generation(redis: Any, key: str) -> str:
    """Return the generation under `key`, made now if there is none."""
    token = new_generation(redis)
    pipeline = redis.pipeline(transaction=False)
    pipeline.set(key, token, nx=True).mget(key)
    if found := as_generation(pipeline.execute()[1][0], redis):
        return found
    token = new_generation(redis)
    redis.set(key, token)  # What was there, of whatever type, was not ours.
    return token
