import rq.serializers
from django.apps import AppConfig
from django.conf import settings
from rq.serializers import JSONSerializer


class StoreConfig(AppConfig):
    name = "store"

    def ready(self) -> None:
        from store import (  # The models must be loaded first.
            abandoned_statements,
            basket,
            catalogue,
            database,  # noqa: F401  # Its check is registered.
            events,
            regions,
            warm_up,
        )

        # RQ unpickles wherever it names no serializer: pages of its dashboard do, and pickles run code.
        rq.serializers.PickleSerializer = JSONSerializer  # type: ignore[assignment]
        # In this order: who reads the cached list because of an event must not find the old one.
        abandoned_statements.watch([catalogue.products_changed, events.announce_late_write])
        warm_up.watch_writes(regions.products.tables)
        events.watch_writes()
        basket.watch_logins()
        if settings.STRATEGIES:
            from store import strategies  # noqa: F401  # Its receivers belong into every process.
