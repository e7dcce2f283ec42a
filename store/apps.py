from django.apps import AppConfig


class StoreConfig(AppConfig):
    name = "store"

    def ready(self) -> None:
        from store import basket, catalogue  # The models must be loaded first.

        catalogue.watch_writes()
        basket.watch_logins()
