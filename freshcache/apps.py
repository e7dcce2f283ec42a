from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

from freshcache import conf, registry


class FreshcacheConfig(AppConfig):
    name = "freshcache"
    verbose_name = "freshcache"

    def ready(self) -> None:
        """Find the regions of all installed apps, and watch the tables that they depend on."""
        conf.current()
        autodiscover_modules("regions")
        registry.start()
