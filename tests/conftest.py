import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest

from tests import servers

servers.prepare_environment()
os.environ["DJANGO_SETTINGS_MODULE"] = "simple_django_redis.settings"
django.setup()
# The workers of a parallel run would inherit it, and load the settings before they have servers.
del os.environ["DJANGO_SETTINGS_MODULE"]

from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Permission, User
from django.core.cache import caches
from django.db import connection
from django.test import Client
from mirakuru import TCPExecutor
from playwright.sync_api import Browser
from redis import Redis

from freshcache.runtime import cache_of
from freshcache.source import database
from store import demo, keys, throttling
from store.connections import queue_breaker
from store.event_announcer import announcer
from store.models import Product
from tests import browser
from tests.processes import StoreProcess, WorkerProcess
from tests.servers import free_port, start_redis

# Passwords of tests are worth no quarter of a second of CPU each; other processes can check them all the
# same, as the number stands in the hash.
PBKDF2PasswordHasher.iterations = 1000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not settings.MYSQL_HOST:
        reason = "no MySQL or MariaDB: set MYSQL_HOST, or ENGINES=servers with mariadbd on the PATH"
        for item in items:
            if item.get_closest_marker("mysql"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite's test database is a file, so that the processes that tests start can open it."""
    if not settings.MYSQL_HOST:
        connection.settings_dict["TEST"]["NAME"] = settings.VAR_DIR / "db.sqlite3"


@pytest.fixture
def redis() -> Redis:
    """A connection to the Redis server that the suite runs on."""
    return Redis.from_url(settings.REDIS_URL)


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    """Each test begins with nothing cached and no outage; only keys of this suite are touched."""
    cache_of().outage.try_to_end()
    cache_of().outage.know_server()  # Once a process, which leaves a key for some seconds.
    database.reset()
    queue_breaker.reset()
    throttling.breaker.reset()
    announcer.settle()
    with Redis.from_url(settings.REDIS_URL) as client:
        for key in client.scan_iter(f"{settings.PROJECT_NAME}:*"):
            client.delete(key)
    yield
    caches["default"].close()


@pytest.fixture
def books(transactional_db: None) -> list[Product]:
    """Three products: Book A for 1000, Book B for 2000, Book C without a price."""
    found = [
        Product.objects.create(name="Book A", description="book A description", price=1000),
        Product.objects.create(name="Book B", description="book B description", price=2000),
        Product.objects.create(name="Book C", description="a third one", price=None),
    ]
    forget_events()
    return found


@pytest.fixture
def demo_books(transactional_db: None) -> int:
    """The demo catalogue; returns how many products it has."""
    count = sum(demo.store_in_batches(demo.books()))
    forget_events()
    return count


def forget_events() -> None:
    """What a test finds there when it begins has been there for long."""
    with Redis.from_url(settings.QUEUE_REDIS_URL) as client:
        client.delete(keys.events_key())


@pytest.fixture
def editor(transactional_db: None) -> Client:
    """A client of a staff user who may add, change and delete products."""
    user = User.objects.create_user("editor", password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__model="product"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def open_store(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., StoreProcess]]:
    """Start gunicorn on the test database; `open_store(CACHE_TTL="5")` sets variables for it."""
    opened: list[StoreProcess] = []

    def open_one(*arguments: str, **variables: Any) -> StoreProcess:
        store = StoreProcess(tmp_path / f"store-{len(opened)}.log", arguments, variables)
        opened.append(store)
        store.wait_until_open()
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def queue_server(settings: Any) -> Iterator[TCPExecutor]:
    """A Redis of the test's own for the jobs, as RQ's keys have no prefix that tells suites apart."""
    executor = start_redis(free_port())
    settings.QUEUE_REDIS_URL = f"redis://127.0.0.1:{executor.port}/0"
    queue = {**settings.RQ_QUEUE, "URL": settings.QUEUE_REDIS_URL}
    settings.RQ_QUEUES = dict.fromkeys(settings.RQ_QUEUES, queue)
    yield executor
    executor.kill()


@pytest.fixture
def start_worker(
    transactional_db: None, queue_server: TCPExecutor, tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    """Start `manage.py rqworker` on the test database and the test's own queues."""
    started: list[WorkerProcess] = []

    def start_one(*arguments: str, **variables: Any) -> WorkerProcess:
        variables = {"QUEUE_REDIS_URL": settings.QUEUE_REDIS_URL, **variables}
        worker = WorkerProcess(tmp_path / f"worker-{len(started)}.log", arguments, variables)
        started.append(worker)
        if "--burst" not in arguments:
            worker.wait_until_listening()
        return worker

    yield start_one
    for worker in started:
        worker.close()


@pytest.fixture(scope="session")
def demo_store() -> Iterator[StoreProcess]:
    """The store as `make run` opens it, on an embedded default of its own; tests share it."""
    store = browser.open_demo()
    yield store
    store.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as found:
        yield found


@pytest.fixture
def visit(chromium: Browser, demo_store: StoreProcess) -> Iterator[Callable[..., browser.Visit]]:
    """Begin visits to the demo; `visit(color_scheme="dark")` sets what Playwright's contexts have.

    A visit in which the browser's console complained fails, unless the test has cleared `complaints`.
    """
    visits: list[browser.Visit] = []

    def begin(**options: Any) -> browser.Visit:
        options = {"viewport": browser.DESKTOP, "locale": "en-GB", **options}
        visits.append(browser.Visit(chromium.new_context(**options), demo_store))
        return visits[-1]

    yield begin
    for one in visits:
        one.context.close()
    assert [complaint for one in visits for complaint in one.complaints] == []
