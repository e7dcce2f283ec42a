"""/api/schema/ and /api/docs/: all of the API is in it, and the running store keeps to it."""

import os
import re
import subprocess
import sys

import pytest
from django.db import connection
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from store.models import Product, Transfer
from tests import depth, preloaded
from tests.servers import PATIENT_BUDGET_SECONDS
from tests.visitors import CSRF_TOKEN, cookies

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLES = "15" if depth.IS_FULL else "4"
UNSAFE = {"post", "put", "patch", "delete"}
ENDLESS = "/store/events/"  # tests/test_event_streams.py listens to it.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


def schema() -> dict:
    return SchemaGenerator().get_schema(public=True)


def operations() -> list[tuple[str, str, dict]]:
    return [
        (path, method, operation)
        for path, methods in schema()["paths"].items()
        for method, operation in methods.items()
    ]


def as_template(route: str) -> str:
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route).replace("{pk}", "{id}")


def routes(patterns, prefix: str = "") -> list[str]:
    found = []
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        nested = getattr(pattern, "url_patterns", None)
        found += routes(nested, route) if nested is not None else [as_template(route)]
    return found


def test_every_endpoint_of_the_store_is_in_the_schema():
    served = {route for route in routes(get_resolver().url_patterns) if route.startswith("/store/")}
    assert served == schema()["paths"].keys()


def test_the_schema_is_valid_openapi_and_generated_without_a_warning():
    validate_schema(schema())
    command = ["manage.py", "spectacular", "--fail-on-warn", "--file", "/dev/null"]
    # Django 6.1 asks the database for what it can do.
    environment = os.environ | {"MYSQL_NAME": str(connection.settings_dict["NAME"])}
    finished = preloaded.run(command, environment)
    assert finished.returncode == 0, finished.stderr


def test_every_operation_says_what_it_is_and_gives_an_example_of_its_answer():
    for path, method, operation in operations():
        assert operation.get("summary"), (path, method)
        good = [answer for status, answer in operation["responses"].items() if status < "300"]
        for answer in good:
            for media_type, content in answer.get("content", {}).items():
                if media_type == "application/json":
                    assert content.get("examples"), (path, method)


def test_reading_products_takes_no_credentials_and_writing_does():
    for path, method, operation in operations():
        if path.startswith("/store/products/"):
            is_read = method == "get"
            assert (operation.get("security") == [{}]) == is_read, (path, method)


def test_a_body_that_must_be_sent_is_required_and_only_that():
    required = {
        (path, method): operation["requestBody"].get("required", False)
        for path, method, operation in operations()
        if "requestBody" in operation
    }
    assert required == {
        ("/store/products/", "post"): True,
        ("/store/products/{id}/", "put"): True,
        ("/store/products/{id}/", "patch"): False,
        ("/store/basket/{product_id}/", "put"): True,
        ("/store/imports/", "post"): True,
    }


def test_a_product_in_an_answer_has_all_its_fields_and_in_a_request_what_it_needs():
    schemas = schema()["components"]["schemas"]
    assert set(schemas["Product"]["required"]) == set(schemas["Product"]["properties"])
    assert schemas["Product"]["properties"]["price"]["nullable"] is True
    assert schemas["ProductRequest"]["required"] == ["name"]
    assert "required" not in schemas["PatchedProductRequest"]


def test_every_operation_names_the_errors_that_it_can_end_with():
    for path, method, operation in operations():
        expected = {"406", "503"} | (
            {"403", "411", "413", "415", "429"} if method in UNSAFE else set()
        )
        assert expected <= operation["responses"].keys(), (path, method)


def test_an_address_that_leads_nowhere_is_answered_as_its_neighbours_are(client):
    for path in ("/store/nowhere/", "/store/products/one/", "/store/basket/0.5/"):
        response = client.get(path)
        assert (response.status_code, list(response.json())) == (404, ["detail"])
    assert client.get("/nowhere/")["Content-Type"].startswith("text/html")


def test_the_docs_need_nothing_from_elsewhere(open_store):
    store = open_store("--workers=1")
    page = store.get("/api/docs/").body.decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert any(source.endswith("swagger-ui-bundle.js") for source in sources)
    assert all(source.startswith("/static/") for source in sources)
    assert all(store.get(source).status == 200 for source in sources)
    assert store.get("/api/schema/").status == 200


@pytest.mark.parametrize("who", ["anonymous", "editor"])
def test_the_running_store_keeps_to_its_schema(
    open_store, queue_server, editor: Client, tmp_path, settings, who
):
    for number in range(1, 6):
        Product.objects.create(pk=number, name=f"Book {number}", price=100 * number)
    for number, kind in ((7, "import"), (8, "export")):  # The schema's examples.
        Transfer.objects.create(pk=number, kind=kind, state="done", touched_at=timezone.now())
    variables = {
        "QUEUE_REDIS_URL": settings.QUEUE_REDIS_URL,
        "CACHE_BUDGET_SECONDS": PATIENT_BUDGET_SECONDS,
    }
    store = open_store("--access-logfile", "-", **variables)
    # Otherwise each request with made-up credentials costs the hashing of a password.
    headers = {"Authorization": "none"}
    if who == "editor":
        headers |= cookies(editor) | {"X-CSRFToken": CSRF_TOKEN}
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run"),
        f"http://127.0.0.1:{store.port}/api/schema/",
        *("--exclude-path", ENDLESS),
        *("--checks", CHECKS, "--max-examples", EXAMPLES, "--no-color", "--continue-on-failure"),
        # The same requests each time; SCHEMATHESIS_SEED=... looks further.
        *("--seed", os.environ.get("SCHEMATHESIS_SEED", "1")),
        *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}")),
    ]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout
    if who == "editor":
        assert succeeded(store.log.read_text()) >= {
            (method.upper(), path) for path, method, _ in operations() if path != ENDLESS
        }


def succeeded(log: str) -> set[tuple[str, str]]:
    """Return the operations that were answered with success at least once."""
    asked = re.findall(r'"([A-Z]+) ([^ ?"]+)[^"]*" 2\d\d ', log)
    templates = {path: re.sub(r"{\w+}", "[^/]+", path) for path, _, _ in operations()}
    return {
        (method, template)
        for method, path in set(asked)
        for template, pattern in templates.items()
        if re.fullmatch(pattern, path)
    }
