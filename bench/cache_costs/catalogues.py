"""Databases of the benchmark, one for each number of products, so that a round can go through all."""

from django.conf import settings
from django.db import connection

from store import catalogue, demo
from store.models import Product

SEED = 1


def make_catalogue(name: str, count: int) -> None:
    """Make a database with `count` varied products in it; `open_catalogue(name)` opens it."""
    if settings.MYSQL_HOST:
        connection.close()
        connection.settings_dict["NAME"] = ""
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE products_{name} CHARACTER SET utf8mb4")
    open_catalogue(name)
    with connection.schema_editor() as editor:
        editor.create_model(Product)
    sum(demo.store_in_batches(demo.varied_books(count, SEED)))


def open_catalogue(name: str) -> None:
    """Use the database that `make_catalogue()` made under `name` from here on."""
    connection.close()
    file = settings.VAR_DIR / f"{name}.sqlite3"
    connection.settings_dict["NAME"] = f"products_{name}" if settings.MYSQL_HOST else file
    catalogue.products_changed()
