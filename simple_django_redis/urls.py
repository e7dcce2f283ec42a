from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from store.metrics_view import metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="store")),
    path("api-auth/", include("rest_framework.urls")),
    path("admin/", admin.site.urls),
    path("store/", include("store.urls")),
    path("metrics", metrics),
]
handler500 = "store.errors.server_error"
