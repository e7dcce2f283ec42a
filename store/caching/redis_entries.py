"""Entries in Redis, through the connections of Django's default cache.

Commands: MGET and PTTL to read (one round trip), SET NX and GET for a missing generation, two short
Lua scripts to claim a fill and to give it up, WATCH, MULTI and SET to store it, DEL to forget. Each
raises redis-py's RedisError if Redis is down; what to do then is decided in `request`.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from django.core.cache import caches
from redis import Redis
from redis.exceptions import RedisError, WatchError

from store import cluster, keys
from store.caching.entry import Entry, new_token
from store.caching.generations import as_generation, new_generation
from store.connections import WaitingPool
from store.keys import EntryKeys

T = TypeVar("T")

# MGET takes a key of a wrong type for a missing one, where GET would raise an error.
CLAIM = """
local found = redis.call('MGET', KEYS[1], KEYS[2])
if found[1] ~= ARGV[1] then return 'gone' end
if ARGV[4] == '0' then
  local ok, start = pcall(redis.call, 'GETRANGE', KEYS[3], 0, #ARGV[1] - 1)
  if ok and start == ARGV[1] then return 'ready' end
end
if found[2] == ARGV[1] .. ARGV[2] then return 'claimed' end
if found[2] and string.sub(found[2], 1, #ARGV[1]) == ARGV[1] then return 'held' end
redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 'claimed'
"""
RELEASE = """
if redis.call('MGET', KEYS[1])[1] == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


@dataclass(frozen=True)
class Seen:
    """What one look at an entry found; an entry is only there if its generation is the current one."""

    generation: str | None
    entry: Entry | None
    ttl_ms: int | None  # None: it does not expire


@dataclass(frozen=True)
class Stale:
    """The last good value, encoded, and how long it may bridge an outage of its source."""

    data: bytes
    ttl_ms: int


class Claim(Enum):
    """What became of the attempt to be the one who fills an entry."""

    CLAIMED = "claimed"
    HELD = "held"  # somebody else fills it
    READY = "ready"  # it has been filled meanwhile
    GONE = "gone"  # the generation has changed: begin anew


class RedisEntries:
    """The entries of all processes that share a Redis server."""

    def read(self, names: EntryKeys) -> Seen:
        return self._look(names.generation, names.entry)

    def read_stale(self, names: EntryKeys) -> Seen:
        return self._look(names.generation, names.stale)

    def make_generation(self, names: EntryKeys) -> str:
        """Return the family's generation, made now if there is none."""
        key = self._key(names.generation, keys.UNVERSIONED)
        return self._at(names.generation, lambda redis: _make_generation(redis, key))

    def claim(
        self, names: EntryKeys, generation: str, token: str, lease_seconds: float, *, replace: bool
    ) -> Claim:
        """Try to be the one who fills the entry, for `lease_seconds` at most.

        With `replace`, an entry of this generation that is there is no reason not to.
        """
        found = self._run(
            names.generation,
            CLAIM,
            [self._key(names.generation, keys.UNVERSIONED), *self._keys(names.lock, names.entry)],
            [generation, token, int(lease_seconds * 1000), int(replace)],
        )
        return Claim(found.decode())

    def put(
        self, names: EntryKeys, token: str, entry: Entry, data: bytes, stale: Stale | None
    ) -> bool:
        """Store `data`, the encoded `entry`, and its stale copy, and end the claim of `token`.

        Returns False, and stores nothing, if the claim has been lost or the generation has changed.
        """
        generation_key = self._key(names.generation, keys.UNVERSIONED)
        lock_key, entry_key, stale_key = self._keys(names.lock, names.entry, names.stale)
        valid = [entry.generation.encode(), (entry.generation + token).encode()]

        def store(redis: Any) -> bool:
            # A transaction, as a script would hold Redis up while Lua copies what may be megabytes.
            with redis.pipeline(transaction=True) as pipeline:
                try:
                    pipeline.watch(generation_key, lock_key)
                    if pipeline.mget(generation_key, lock_key) != valid:
                        return False
                    pipeline.multi()
                    pipeline.set(entry_key, data, px=entry.ttl_ms)
                    if stale:
                        pipeline.set(stale_key, stale.data, px=stale.ttl_ms)
                    pipeline.delete(lock_key)
                    pipeline.execute()
                except WatchError:
                    return False
            return True

        return self._at(names.generation, store)

    def release(self, names: EntryKeys, generation: str, token: str) -> None:
        """End the claim that `token` proves; somebody else's is left alone."""
        self._run(names.generation, RELEASE, self._keys(names.lock), [generation + token])

    def forget(self, family: str) -> None:
        """Make no entry of `family` be served any more. DEL works even when a full Redis refuses SET."""
        self._client().delete(self._key(keys.generation_key(family), keys.UNVERSIONED))

    def delete(self, whole_key: str) -> None:
        """Delete one key, whatever it holds."""
        self._client().delete(whole_key)

    def find_servers(self) -> None:
        """See where the servers of a cluster are by now."""
        cluster.refresh(self._client())

    def renew(self, families: Iterable[str]) -> None:
        """Set new generations: proves that Redis takes writes, and makes all entries be forgotten.

        Not before all servers of a cluster answer, as sessions are on any of them.
        """
        cluster.ping(self._client())
        for family in families:  # One by one: in a cluster each is on a server of its own.
            # Where a generation says under which primary it was made, who comes next makes a better one.
            self._client().set(
                self._key(keys.generation_key(family), keys.UNVERSIONED), new_token()
            )

    def prove(self, families: Iterable[str]) -> tuple[str, ...] | None:
        """Show that Redis takes writes, and return which servers it is, by new connections.

        The answer changes with a restart and with another primary; None if it may not be known.
        """
        names = [self._key(keys.probe_key(family), keys.UNVERSIONED) for family in families]
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

    def _look(self, generation_name: str, entry_name: str) -> Seen:
        generation_key = self._key(generation_name, keys.UNVERSIONED)
        entry_key = self._key(entry_name)

        def look(redis: Any) -> Any:
            pipeline = redis.pipeline(transaction=False)
            pipeline.mget(generation_key, entry_key).pttl(entry_key)
            (generation_found, data), ttl_ms = pipeline.execute()
            return as_generation(generation_found, redis), data, ttl_ms

        generation, data, ttl_ms = self._at(generation_name, look)
        entry = Entry.decode(data) if data and generation else None
        if entry and entry.generation != generation:
            entry = None
        return Seen(generation, entry, None if ttl_ms == -1 else max(0, ttl_ms))

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
        return str(caches["default"].make_key(name, version))

    def _client(self) -> Any:
        return caches["default"].client.get_client()  # type: ignore[attr-defined]  # django-redis


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
