from django.apps import AppConfig
from django.conf import settings


class PagesConfig(AppConfig):
    name = "pages"

    def ready(self) -> None:
        if settings.DEMO:
            from pages import outages

            outages.watch()
