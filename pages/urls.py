from django.urls import include, path
from django.views.i18n import JavaScriptCatalog

from pages import basket, inside, jobs, shop, strategies, watch
from pages.page import in_their_language

app_name = "pages"
urlpatterns = [
    path("", watch.home, name="watch"),
    path("redis/", inside.home, name="redis"),
    path("redis/state/", inside.state, name="redis-state"),
    path("shop/", shop.products, name="shop"),
    path("shop/<int:product_id>/", shop.product, name="product"),
    path("shop/<int:product_id>/price/", shop.price, name="price"),
    path("shop/basket/", basket.home, name="basket"),
    path("shop/basket/<int:product_id>/", basket.change, name="basket-line"),
    path("shop/basket/<int:product_id>/remove/", basket.remove, name="basket-remove"),
    path("shop/basket/empty/", basket.empty, name="basket-empty"),
    path("jobs/", jobs.home, name="jobs"),
    path("strategies/", strategies.home, name="strategies"),
    path("language/", include("django.conf.urls.i18n")),
    path(
        "texts.js",
        in_their_language(JavaScriptCatalog.as_view(packages=["pages"])),
        name="texts",
    ),
]
