"""What Redis holds and does at the moment, as the page and its script take it.

However many look on, a process surveys its servers once in SURVEY_SECONDS, and of a large Redis a part.
A server that is down is part of the answer, not an error.
"""

import threading
import time
from dataclasses import asdict
from typing import Any

from django.conf import settings
from redis.exceptions import RedisError

from freshcache import inspect
from freshcache.redis import budget as redis_budget
from store import metric_totals, redis_survey
from store.redis_survey import Family, Server
from store.regions import products

SURVEY_SECONDS = 2.0
MOST_KEYS = 3000
MEASURED_KEYS = 200  # of a family
PATIENCE_SECONDS = 0.5  # for one answer: a request waits for it

State = dict[str, Any]


class Latest:
    """The latest state, made anew by one thread at a time; the others take the last one meanwhile."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._state: State | None = None
        self._made_at = 0.0

    def get(self) -> State:
        state = self._fresh()
        if state is None and self._making.acquire(blocking=self._state is None):
            try:
                state = self._fresh() or self._make()
            finally:
                self._making.release()
        return state or self._state or {}

    def _fresh(self) -> State | None:
        is_old = time.monotonic() - self._made_at >= SURVEY_SECONDS
        return None if is_old else self._state

    def _make(self) -> State:
        state = {
            "servers": [_server(server) for server in redis_survey.servers()],
            "cache": _cache(),
            "entry": _entry(),
            "local_cache": settings.LOCAL_CACHE,
        }
        self._state, self._made_at = state, time.monotonic()
        return state


latest = Latest()


def _cache() -> State:
    totals = metric_totals.of_cache()
    return {
        **asdict(totals),
        "hit_ratio": totals.hit_ratio,
        "mean_fill_seconds": totals.mean_fill_seconds,
    }


def _entry() -> State | None:
    try:
        redis_budget.check()
        found = inspect.of_region(products.name)
    except RedisError:
        return None
    return {**asdict(found), "is_served": found.is_served}


def _server(server: Server) -> State:
    state: State = {"name": server.name, "is_up": False, "info": None, "families": None}
    try:
        with redis_survey.connect(server.url, PATIENCE_SECONDS, PATIENCE_SECONDS) as redis:
            info = redis_survey.info(redis)
            found = redis_survey.families(redis, MOST_KEYS, MEASURED_KEYS)
    except RedisError:
        return state
    state["is_up"] = True
    state["info"] = _facts(info) if info else None
    if found is not None:
        state["families"] = {name: _family(family) for name, family in found.items()}
    return state


def _facts(info: dict[str, Any]) -> State:
    return {
        "software": "Valkey" if "valkey_version" in info else "Redis",
        "version": info.get("valkey_version") or info["redis_version"],
        "memory_bytes": info["used_memory"],
        "memory_limit_bytes": info["maxmemory"],  # 0: none
        "policy": info["maxmemory_policy"],
        "evicted": info["evicted_keys"],
        "commands_per_second": info["instantaneous_ops_per_sec"],
    }


def _family(family: Family) -> State:
    return {
        "types": sorted(family.types),
        "keys": family.keys,
        "bytes": family.bytes,
        "is_estimate": family.is_estimate,
        "shortest_ms": family.shortest_ms,
        "longest_ms": family.longest_ms,
        "has_lasting": family.has_lasting,
    }
