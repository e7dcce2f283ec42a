"""Clients of a store over HTTP: with a browser's cookies, or signing in with each request."""

import base64
import json
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode

from tests.processes import StoreProcess

EDITOR, PASSWORD = "editor", "a-secret-of-the-test"


class Browser:
    """Keeps cookies for as long as they say, as browsers do; without them it is a new one each time."""

    def __init__(self, store: StoreProcess, *, signs_in_each_time: bool = False) -> None:
        self.store = store
        self.jar = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))
        self._headers: dict[str, str] = {"Accept": "application/json"}
        if signs_in_each_time:
            self.jar.set_policy(NoCookies())
            credentials = base64.b64encode(f"{EDITOR}:{PASSWORD}".encode()).decode()
            self._headers["Authorization"] = f"Basic {credentials}"

    def sign_in(self) -> None:
        self.request("/admin/login/", accept="text/html")
        form = {"username": EDITOR, "password": PASSWORD, "next": "/admin/store/product/"}
        form["csrfmiddlewaretoken"] = self._csrf_token()
        status, page = self.request(
            "/admin/login/", "POST", urlencode(form).encode(), accept="text/html"
        )
        assert status == 200
        assert "/admin/logout/" in page, "the request after the login does not know of it"

    def request(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        content_type: str = "application/x-www-form-urlencoded",
        accept: str = "application/json",
    ) -> tuple[int, str]:
        headers = {**self._headers, "Accept": accept}
        if body is not None:
            headers |= {"Content-Type": content_type, "X-CSRFToken": self._csrf_token()}
        request = urllib.request.Request(self.store.url + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def get(self, path: str) -> Any:
        status, body = self.request(path)
        assert status in (200, 201), (path, status, body)
        return json.loads(body)

    def reprice(self, product_id: int, price: int) -> None:
        body = json.dumps({"price": price}).encode()
        path = f"/store/products/{product_id}/"
        status, answer = self.request(path, "PATCH", body, "application/json")
        assert status == 200, answer

    def _csrf_token(self) -> str:
        return next((str(one.value) for one in self.jar if one.name == "csrftoken"), "")


class NoCookies:
    """A cookie policy that keeps none."""

    netscape = True
    rfc2965 = hide_cookie2 = False

    def set_ok(self, *_: Any) -> bool:
        return False

    def return_ok(self, *_: Any) -> bool:
        return False

    def domain_return_ok(self, *_: Any) -> bool:
        return False

    def path_return_ok(self, *_: Any) -> bool:
        return False
