"""Django's `cached_db` sessions, whose copy in Redis is never older than the database.

Django's own backend stores what it has read, or written, whatever has happened in between: a reader
that is slow puts back what a logout has deleted. Here a write deletes the copy, and a reader stores
under a lease that such a deletion voids (Nishtala et al., Scaling Memcache at Facebook, NSDI 2013).
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends import cached_db
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore


class SessionStore(cached_db.SessionStore):
    _cache: Any  # freshcache.backends.SessionCache

    def load(self) -> dict[str, Any]:
        data: dict[str, Any] | None = self._cache.get(self.cache_key)
        if data is not None:
            return data
        lease = self._cache.lease(self.cache_key)
        session = self._get_session_from_db()  # type: ignore[attr-defined]  # Not in the stubs.
        if not session:
            return {}
        data = self.decode(session.session_data)
        self._cache.fill(
            self.cache_key, data, self.get_expiry_age(expiry=session.expire_date), lease
        )
        return data

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002  # As Django has it.
        DatabaseStore.save(self, must_create)
        self._cache.delete(self.cache_key)

    async def aload(self) -> dict[str, Any]:
        return await sync_to_async(self.load)()

    async def asave(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002
        await sync_to_async(self.save)(must_create)
