"""What a project's own tests need of the cache; each is a context manager.

- `disabled()`: every read loads, nothing is stored. For tests that are about something else.
- `isolated()`: a cache of the test's own, empty at first, beside those of other processes.
- `in_test_case()`: the same inside Django's TestCase, whose transaction never commits: what the test
  writes counts as committed at once, so entries are stored, and made stale, as in production.

In a TestCase without any of them, a test that has written to a region's tables reads past the cache.
"""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from django.conf import settings
from django.test.utils import override_settings

from freshcache import registry, runtime, watched_connections
from freshcache.local_cache import NoLocalCache


@contextmanager
def disabled() -> Iterator[None]:
    """Have every read load, and nothing be stored."""
    with patch.dict(registry._state, is_disabled=True):
        yield


@contextmanager
def isolated() -> Iterator[None]:
    """Read and write entries under keys of their own, which are gone afterwards."""
    aliases = {region.using for region in registry.regions()}
    own = f"test-{uuid.uuid4().hex[:12]}"
    changed = {
        alias: {**options, "KEY_PREFIX": f"{options.get('KEY_PREFIX', '')}{own}"}
        for alias, options in settings.CACHES.items()
        if alias in aliases
    }
    with ExitStack() as stack:
        stack.enter_context(override_settings(CACHES={**settings.CACHES, **changed}))
        for alias in aliases:
            # Copies have no prefix in their names, and are told of changes under the usual one.
            stack.enter_context(patch.object(runtime.cache_of(alias), "copies", NoLocalCache()))
        try:
            yield
        finally:
            _clear(aliases)


@contextmanager
def in_test_case() -> Iterator[None]:
    """Be isolated, and take what a TestCase writes for committed."""
    with isolated(), patch.object(watched_connections, "test_cases_commit", new=True):
        yield


def _clear(aliases: set[str]) -> None:
    for alias in aliases:
        if runtime.is_redis(alias):
            runtime.cache_of(alias).entries.delete_all()
        else:
            for region in registry.regions():
                region.invalidate()
