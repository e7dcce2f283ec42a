from django.urls import include, path
from django.views.i18n import JavaScriptCatalog

from pages import basket, forget, inside, jobs, jobs_api, shop, strategies, watch
from pages.page import in_their_language

app_name = "pages"
urlpatterns = [
    path("", watch.home, name="watch"),
    path("demo/<str:token>/", watch.open_demo, name="open_demo"),
    path("forget/price/", forget.price, name="change_price"),
    path("forget/cache/", forget.clear, name="clear_cache"),
    path("forget/entry/", forget.expire, name="expire_entry"),
    path("forget/stampede/", forget.herd, name="stampede"),
    path("forget/redis/", forget.stop_redis, name="stop_redis"),
    path("forget/database/", forget.stop_database, name="stop_database"),
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
    path("jobs/sample-books.csv", jobs.sample, name="jobs-sample"),
    path("jobs/bring-back/", jobs.bring_back, name="jobs-bring-back"),
    path("jobs/imports/", jobs_api.imports, name="imports"),
    path("jobs/imports/<int:transfer_id>/rejected/", jobs_api.rejected_rows, name="rejected-rows"),
    path("jobs/exports/", jobs_api.exports, name="exports"),
    path("jobs/exports/<int:transfer_id>/", jobs_api.export, name="export"),
    path("jobs/status/<str:job_id>/", jobs_api.job, name="job"),
    path("strategies/", strategies.home, name="strategies"),
    path("language/", include("django.conf.urls.i18n")),
    path(
        "texts.js",
        in_their_language(JavaScriptCatalog.as_view(packages=["pages"])),
        name="texts",
    ),
]
