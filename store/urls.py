from django.conf import settings
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from store import transfer_views, views

router = SimpleRouter(use_regex_path=False)
router.register("products", views.ProductViewSet)

urlpatterns = [
    path("", views.StoreView.as_view(), name="store"),
    path("cached/", views.CachedStoreView.as_view(), name="store-cached"),
    path("events/", views.EventsView.as_view(), name="events"),
    path("basket/", views.BasketView.as_view(), name="basket"),
    path("basket/<int:product_id>/", views.BasketLineView.as_view(), name="basket-line"),
    path("imports/", transfer_views.ImportsView.as_view(), name="imports"),
    path(
        "imports/<int:transfer_id>/rejected/",
        transfer_views.RejectedRowsView.as_view(),
        name="rejected-rows",
    ),
    path("exports/", transfer_views.ExportsView.as_view(), name="exports"),
    path("exports/<int:transfer_id>/", transfer_views.ExportView.as_view(), name="export"),
    path("jobs/<str:job_id>/", transfer_views.JobView.as_view(), name="job"),
    *([path("strategies/", include("store.strategies"))] if settings.STRATEGIES else []),
    path("", include(router.urls)),
]
