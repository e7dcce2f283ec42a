"""freshcache's settings as a test wants them."""

from typing import Any


def configure(settings: Any, **values: Any) -> None:
    """Change entries of FRESHCACHE until the test ends; `settings` is pytest-django's fixture."""
    settings.FRESHCACHE = settings.FRESHCACHE | values
