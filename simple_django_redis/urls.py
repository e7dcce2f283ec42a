from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from store.metrics_view import metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="store")),
    path("api-auth/", include("rest_framework.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(), name="api-docs"),
    path("admin/", admin.site.urls),
    path("store/", include("store.urls")),
    path("django-rq/", include("store.dashboard")),
    path("metrics", metrics),
]
handler404 = "store.errors.not_found"
handler500 = "store.errors.server_error"
