from django.urls import include, path
from rest_framework.routers import SimpleRouter

from store import views

router = SimpleRouter(use_regex_path=False)
router.register("products", views.ProductViewSet)

urlpatterns = [
    path("", views.StoreView.as_view(), name="store"),
    path("cached/", views.CachedStoreView.as_view(), name="store-cached"),
    path("events/", views.EventsView.as_view(), name="events"),
    path("basket/", views.BasketView.as_view(), name="basket"),
    path("basket/<int:product_id>/", views.BasketLineView.as_view(), name="basket-line"),
    path("", include(router.urls)),
]
