"""What is compared: each row is one way of answering, and how a server of it is started."""

from dataclasses import dataclass, field

STORE = "simple_django_redis.wsgi"
STRATEGIES = {"STRATEGIES": "on"}


@dataclass(frozen=True)
class Row:
    """One way of answering with the list of all products."""

    name: str
    what: str
    path: str
    variables: dict[str, str] = field(default_factory=dict)
    application: str = STORE
    is_cached: bool = True  # in Redis
    shows_products: bool = True  # those of the database, sooner or later
    sees_saves: bool = True  # as soon as they are committed


def _strategy(name: str, what: str, **options: bool) -> Row:
    return Row(name, what, f"/store/strategies/{name}/", STRATEGIES, **options)


ROWS = (
    _strategy("uncached", "Model instances from the database, rendered by DRF", is_cached=False),
    Row("store-uncached", "`/store/`: columns to JSON by orjson", "/store/", is_cached=False),
    _strategy("tutorial", "`if key in cache: cache.get(key)`, Python objects, `post_save` deletes"),
    _strategy("per-view", "Django's `cache_page` around the DRF view", sees_saves=False),
    Row(
        "orm",
        "django-cacheops as its manual sets it up: `.all().cache()`",
        "/store/strategies/orm/",
        STRATEGIES
        | {"ORM_CACHE": "on", "DJANGO_SETTINGS_MODULE": "bench.strategies.plain_cacheops"},
    ),
    Row(
        "orm-store",
        "the same with this store's `ORM_CACHE=on`",
        "/store/strategies/orm/",
        STRATEGIES | {"ORM_CACHE": "on"},
    ),
    _strategy("herd", "django-redis' `HerdClient`, Python objects, `post_save` deletes"),
    _strategy("bytes", "One `GET` of ready JSON in a Django view, `post_save` deletes"),
    Row(
        "store-strict",
        "`/store/cached/` with `LOCAL_CACHE=off`: every hit asks Redis",
        "/store/cached/",
        {"LOCAL_CACHE": "off"},
    ),
    Row("store", "`/store/cached/` as it is", "/store/cached/"),
    _strategy(
        "constant",
        "A Django view that returns the same bytes for ever",
        is_cached=False,
        shows_products=False,
    ),
    Row(
        "gunicorn",
        "The same bytes from a WSGI callable, without Django",
        "/",
        application="bench.strategies.constant_wsgi",
        is_cached=False,
        shows_products=False,
    ),
)
NAMES = tuple(row.name for row in ROWS)
# What the others are compared with: what most begin with, and what the server can do at all.
USUAL, BARE, OURS = "tutorial", "gunicorn", "store"
# Those whose cost is looked at as lists grow, workers are added or products change.
GROWING = (USUAL, "bytes", OURS, "constant", BARE)
SCALED = (USUAL, OURS, BARE)
WRITTEN = ("bytes", "store-strict", OURS)


def named(names: tuple[str, ...], among: tuple[Row, ...]) -> list[Row]:
    """Return those of `among` that have one of `names`."""
    return [row for row in among if row.name in names]
