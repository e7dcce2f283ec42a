"""The regions of this process, by name: every process that writes has to know all of them."""

from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from freshcache.region import Region

_regions: dict[str, "Region"] = {}
_state = {"is_ready": False, "is_disabled": False}


def add(region: "Region") -> None:
    """Register a region; raises ImproperlyConfigured if its name is taken, or if it comes too late."""
    if region.name in _regions:
        raise ImproperlyConfigured(f"There are two regions with the name {region.name!r}.")
    if _state["is_ready"]:
        raise ImproperlyConfigured(
            f"The region {region.name!r} was made after start-up, so other processes would not know "
            "that their writes make its entries stale. Make it in the module `regions` of an "
            "installed app, which freshcache imports in every process."
        )
    _regions[region.name] = region


def remove(region: "Region") -> None:
    """Take a region out again, for tests."""
    _regions.pop(region.name, None)


def start() -> None:
    """Watch the tables of all regions; from now on there are no new ones."""
    _state["is_ready"] = True
    for region in _regions.values():
        region.watch()


def require_start() -> None:
    """Raise ImproperlyConfigured if writes are not watched."""
    if not _state["is_ready"]:
        raise ImproperlyConfigured(
            "freshcache does not watch writes yet: put 'freshcache' into INSTALLED_APPS, and read "
            "from a region only after django.setup()."
        )


def is_disabled() -> bool:
    """Say whether a test has turned the cache off."""
    return _state["is_disabled"]


def regions() -> list["Region"]:
    return list(_regions.values())


def names(alias: str | None = None) -> list[str]:
    """Return the names of the regions on a cache alias, or of all."""
    return [name for name, one in _regions.items() if alias in (None, one.using)]
