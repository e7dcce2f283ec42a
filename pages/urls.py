from django.urls import include, path
from django.views.i18n import JavaScriptCatalog

from pages import inside, jobs, shop, strategies, watch
from pages.page import in_their_language

app_name = "pages"
urlpatterns = [
    path("", watch.home, name="watch"),
    path("redis/", inside.home, name="redis"),
    path("shop/", shop.products, name="shop"),
    path("jobs/", jobs.home, name="jobs"),
    path("strategies/", strategies.home, name="strategies"),
    path("language/", include("django.conf.urls.i18n")),
    path(
        "texts.js",
        in_their_language(JavaScriptCatalog.as_view(packages=["pages"])),
        name="texts",
    ),
]
