"""Regions: what is cached together, because the same writes make it stale."""

import inspect
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import wraps
from typing import Any, TypeVar, overload

import orjson
from asgiref.sync import async_to_sync, sync_to_async
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models
from django.http import QueryDict

from freshcache import conf, fallback, keys, metrics, registry, runtime, source, watched_connections
from freshcache.database_errors import is_elsewhere
from freshcache.entry import etag_of
from freshcache.local_cache import Copy, tokens_of_writes
from freshcache.result import Item, Limits, Outcome, Result
from freshcache.table_watch import TableWatch

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# What JSON would change without a word is refused.
PLAIN = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
Lifetime = int | None | Callable[[], int | None]
# What the database does by itself where a row is deleted (Django 6.1); Django sends no statement for it.
BY_DATABASE = tuple(
    getattr(models, name)
    for name in ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT")
    if hasattr(models, name)
)


View = TypeVar("View", bound=Callable[..., Any])


class _Unset:
    """Stands for an argument that was not given."""


UNSET = _Unset()


class LoadHasWritten(Exception):
    """A load has written to the region's tables, in a transaction that may still be rolled back."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class Region:
    """Entries that every write to the same tables makes stale.

    Make it in the module `regions` of an installed app:

        products = Region("product", depends_on=[Product], ttl=600)

    `name` is the key of the main entry, and what others begin with: letters, digits and `_.-`.
    `depends_on` has model classes, "app.Model" or names of tables; many-to-many tables and those of
    parents are included. `ttl` is in seconds, None for entries that live until a write, 0 for none at
    all; a function is called at each load. `using` is an alias of CACHES.

    Raises ImproperlyConfigured for a name that is taken or not well-formed, for an unknown model, and
    for a region that is made after start-up.
    """

    def __init__(
        self,
        name: str,
        *,
        depends_on: Iterable[type[models.Model] | str],
        ttl: Lifetime,
        using: str = "default",
    ) -> None:
        if not NAME.fullmatch(name):
            raise ImproperlyConfigured(
                f"A region's name has to be up to 64 letters, digits and _.-, not {name!r}."
            )
        if isinstance(depends_on, str):
            raise ImproperlyConfigured(f"depends_on of {name!r} has to be a list, not a text.")
        self.name = name
        self.using = using
        self.tables = frozenset(table for one in depends_on for table in _tables_of(one))
        self._ttl = ttl
        self._watch = TableWatch(self.tables, lambda _notes: self.invalidate())
        registry.add(self)

    def __repr__(self) -> str:
        return f"Region({self.name!r})"

    def watch(self) -> None:
        """From now on every write of this process to the region's tables makes its entries stale."""
        self._watch.install()

    def unwatch(self) -> None:
        """Watch no more, for tests."""
        self._watch.uninstall()

    @staticmethod
    def tables_of(model: type[models.Model] | str) -> set[str]:
        """Return the tables on which a region that depends on `model` does."""
        return _tables_of(model)

    # --- Reading ------------------------------------------------------------------------------------

    def get_or_load(
        self,
        key: str,
        load: Callable[[], bytes],
        *,
        ttl: int | _Unset | None = UNSET,
        may_load_later: bool = False,
    ) -> Result:
        """Return the value under `key`, from the cache if it has it, else from `load()`.

        `key` tells the entries of the region apart and has to be the same text for all ways of asking
        for the same; "" is the main entry. `load` returns bytes. `ttl` may shorten the region's own.
        With `may_load_later`, for a `load()` that needs nothing of the request, it may be called again in
        another thread, while what another process has just made stale is served for a moment.

        In a transaction that has written to one of the tables the value is loaded, and not stored.
        Raises what `load()` raises, TypeError if that returns no bytes, and Unavailable if the database
        is down and no last good value can be served.
        """
        registry.require_start()
        if registry.is_disabled() or self.has_written():
            started = time.perf_counter()
            body = self._load(load)
            return Result(body, Outcome.BYPASS, load_seconds=time.perf_counter() - started)
        wanted = conf.current()
        item = Item(
            region=self.name,
            query=key,
            names=keys.entry_keys(self.name, key, wanted.max_variants),
            ttl_seconds=self._lifetime(ttl),
            stale_seconds=wanted.stale_if_error_seconds,
        )
        may_store = not self.may_see_the_past()
        if not runtime.is_redis(self.using):
            return self._fall_back(item, load, may_store=may_store)
        limits = Limits(
            wait_seconds=wanted.wait_seconds,
            lease_seconds=wanted.lease_seconds,
            budget_seconds=wanted.budget_seconds,
            command_seconds=wanted.command_timeout,
            retry_seconds=wanted.read_timeout,
        )
        try:
            return runtime.cache_of(self.using).fetch(
                item,
                lambda: self._load_what_is_committed(load),
                limits,
                may_store=may_store,
                may_load_later=may_load_later,
            )
        except LoadHasWritten as found:
            return Result(found.body, Outcome.BYPASS, detail="transaction")

    def find_local(self, key: str, tokens: Collection[str] = ()) -> Copy | None:
        """Return what `get_or_load` would serve from the local cache; None if it would look further.

        `tokens` are those of the writes that a client knows of.
        """
        cache = runtime.cache_of(self.using)
        if cache.outage.is_open:
            return None
        names = keys.entry_keys(self.name, key, conf.current().max_variants)
        copy = cache.copies.find_in(names.places, key, tokens)
        if copy:
            metrics.requests.labels(self.name, Outcome.HIT.value).inc()
        return copy

    def version(self) -> str | None:
        """Return a text that every write replaces, for the key of what is made of the region's tables.

        To be asked for before they are read, so that nothing older is kept under it. None: keep nothing,
        as Redis cannot tell, or a transaction is open, which may see the past or write and roll back.
        """
        registry.require_start()
        if self.in_transaction() or not runtime.is_redis(self.using):
            return None
        return runtime.cache_of(self.using).generation(self.name)

    def has_written(self) -> bool:
        """Say whether a transaction that is open in this thread has written to one of the tables."""
        watched_connections.commit_test_cases()
        return any(
            self._watch.notes(connection)
            for connection in connections.all(initialized_only=True)
            if connection.run_on_commit
        )

    def in_transaction(self) -> bool:
        """Say whether a transaction is open in this thread."""
        return any(
            watched_connections.in_transaction(connection.alias)
            for connection in connections.all(initialized_only=True)
        )

    def may_see_the_past(self) -> bool:
        """Say whether what this thread reads may be older than what was committed last."""
        return any(
            watched_connections.may_see_the_past(connection.alias)
            for connection in connections.all(initialized_only=True)
        )

    @overload
    def cached_response(self, ttl: View, /) -> View: ...

    @overload
    def cached_response(
        self,
        ttl: int | None = None,
        *,
        vary_on: Sequence[str] = (),
        check: Callable[[QueryDict], object] = ...,
    ) -> Callable[[View], View]: ...

    def cached_response(
        self,
        ttl: Any = None,
        *,
        vary_on: Sequence[str] = (),
        check: Callable[[QueryDict], object] = lambda _: None,
    ) -> Any:
        """Answer GET and HEAD of a view from the cache; see `freshcache.http.decorators`.

        It may stand bare above the view as well: `@region.cached_response`.
        """
        # Functions that are cached need nothing of all the HTTP that it imports.
        from freshcache.http.decorators import cached_response

        if callable(ttl):
            return cached_response(self, None)(ttl)
        return cached_response(self, ttl, vary_on=vary_on, check=check)

    def cached(
        self, function: Callable[..., Any] | None = None, *, ttl: int | _Unset | None = UNSET
    ) -> Any:
        """Keep what a function, or a coroutine function, returns for its arguments.

        Both have to be plain data, of which JSON can be made: texts, numbers, True, False, None, lists
        and dicts with texts as keys; the caller gets what JSON makes of it. Calls raise TypeError for
        other arguments and results.
        """
        if function is None:
            return lambda found: self.cached(found, ttl=ttl)
        signature = inspect.signature(function)
        name = f"{function.__module__}.{function.__qualname__}"

        def key_of(args: Any, kwargs: Any) -> str:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return f"{name} {_as_json(bound.arguments, f'the arguments of {name}').decode()}"

        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def aanswer(*args: Any, **kwargs: Any) -> Any:
                async def load() -> bytes:
                    return _as_json(await function(*args, **kwargs), f"the result of {name}")

                result = await self.aget_or_load(key_of(args, kwargs), load, ttl=ttl)
                return orjson.loads(result.body)

            return aanswer

        @wraps(function)
        def answer(*args: Any, **kwargs: Any) -> Any:
            def load() -> bytes:
                return _as_json(function(*args, **kwargs), f"the result of {name}")

            return orjson.loads(self.get_or_load(key_of(args, kwargs), load, ttl=ttl).body)

        return answer

    async def aget_or_load(
        self,
        key: str,
        load: Callable[[], Awaitable[bytes]],
        *,
        ttl: int | _Unset | None = UNSET,
    ) -> Result:
        """Do what `get_or_load` does, for a coroutine function `load()`.

        What the local cache has costs no thread; for all else one asks Redis, and waits. `load()` runs
        in the event loop.
        """
        registry.require_start()
        if self._may_be_local(ttl) and (copy := self.find_local(key, tokens_of_writes.get())):
            return copy.as_hit()
        token = is_elsewhere.set(True)
        try:
            read = sync_to_async(self.get_or_load, thread_sensitive=False)
            return await read(key, async_to_sync(load), ttl=ttl)
        finally:
            is_elsewhere.reset(token)

    def _may_be_local(self, ttl: int | _Unset | None) -> bool:
        return self._lifetime(ttl) != 0 and not registry.is_disabled()

    # --- Writing ------------------------------------------------------------------------------------

    def invalidate(self) -> None:
        """Make all entries stale. Django's own writes do so once they are committed; never raises.

        Call it after a write that bypasses Django, such as another program's import.
        """
        if runtime.is_redis(self.using):
            runtime.cache_of(self.using).forget(self.name)
        else:
            fallback.forget(self.name, self.using)
            metrics.invalidations.labels(self.name, "done").inc()

    # --- Steps --------------------------------------------------------------------------------------

    def _lifetime(self, ttl: int | _Unset | None) -> int | None:
        own = self._ttl() if callable(self._ttl) else self._ttl
        if isinstance(ttl, _Unset):
            return own
        return min((one for one in (ttl, own) if one is not None), default=None)

    def _load(self, load: Callable[[], bytes]) -> bytes:
        body: Any = source.load(load)
        if not isinstance(body, bytes):
            raise TypeError(
                f"load() of region {self.name!r} has to return bytes, not {type(body).__name__}."
            )
        return body

    def _load_what_is_committed(self, load: Callable[[], bytes]) -> bytes:
        body = self._load(load)
        if self.has_written():
            raise LoadHasWritten(body)
        return body

    def _fall_back(self, item: Item, load: Callable[[], bytes], *, may_store: bool) -> Result:
        """Read through another backend than Redis, without the promises."""
        generation, found = fallback.read(item.names, item.query, self.using)
        outcome, load_seconds = Outcome.HIT, 0.0
        if found is None or item.ttl_seconds == 0:
            started = time.monotonic()
            found = self._load(load)
            load_seconds = time.monotonic() - started
            stored = bool(may_store and item.ttl_seconds != 0) and fallback.add(
                item.names, item.query, generation, found, item.ttl_seconds, self.using
            )
            outcome = Outcome.MISS if stored else Outcome.BYPASS
        metrics.requests.labels(item.region, outcome.value).inc()
        return Result(found, outcome, etag_of(found), load_seconds=load_seconds)


def _as_json(data: Any, what: str) -> bytes:
    try:
        return orjson.dumps(data, option=PLAIN)
    except TypeError as error:
        raise TypeError(f"{what} must be plain data: {error}") from error


def _tables_of(one: type[models.Model] | str) -> set[str]:
    """Return the tables from which a model's rows are read."""
    if isinstance(one, str) and "." not in one:
        return {one.lower()}
    model = _model(one)
    related = [model, *model._meta.get_parent_list()]
    tables = {each._meta.db_table.lower() for each in related}
    for each in related:
        for field in each._meta.local_many_to_many:
            tables.add(field.remote_field.through._meta.db_table.lower())  # type: ignore[union-attr]
        for key in each._meta.local_fields:
            target = key.remote_field
            if target and getattr(target, "on_delete", None) in BY_DATABASE:
                tables |= _tables_of(target.model)
    return tables


def _model(one: Any) -> type[models.Model]:
    if isinstance(one, type) and issubclass(one, models.Model):
        return one
    try:
        return apps.get_model(one)
    except (LookupError, ValueError, AttributeError) as error:
        raise ImproperlyConfigured(
            f"depends_on has {one!r}, which is no model of an installed app ({error})."
        ) from error
