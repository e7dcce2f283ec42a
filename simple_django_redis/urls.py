from csp.decorators import csp_update
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.http import Http404, HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from store import api_docs
from store.content_security import INLINE_STYLES


def nowhere(_request: HttpRequest, **_: str) -> HttpResponse:
    raise Http404


# As `rest_framework.urls` has it, but for the styles.
sign_in = LoginView.as_view(template_name="rest_framework/login.html")
sign_in_urlpatterns = [
    path("login/", csp_update(INLINE_STYLES)(sign_in), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
urlpatterns = [
    path("api-auth/", include((sign_in_urlpatterns, "rest_framework"))),
    path("api/schema/", api_docs.schema, name="schema"),
    path("api/docs/", api_docs.page, name="api-docs"),
    path("admin/r/<path:what>", nowhere),  # Nothing has a page that the admin could lead to.
    path("admin/", admin.site.urls),
    path("store/", include("store.urls")),
    path("django-rq/", include("store.dashboard")),
    # Browsers ask for it on pages that name no icon, such as the admin's.
    path("favicon.ico", RedirectView.as_view(url=static("pages/icon.svg"))),
    path("", include("pages.urls")),
]
handler404 = "pages.errors.not_found"
handler403 = "pages.errors.forbidden"
handler500 = "pages.errors.server_error"
