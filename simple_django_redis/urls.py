from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from store.metrics_view import metrics

urlpatterns = [
    path("api-auth/", include("rest_framework.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(), name="api-docs"),
    path("admin/", admin.site.urls),
    path("store/", include("store.urls")),
    path("django-rq/", include("store.dashboard")),
    path("metrics", metrics),
    path("", include("pages.urls")),
]
handler404 = "pages.errors.not_found"
handler500 = "store.errors.server_error"
